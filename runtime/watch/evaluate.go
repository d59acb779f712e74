package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/procnanny/procnanny/runtime/oom"
	"github.com/procnanny/procnanny/spec"
)

// Bounds of one evaluation. The evaluator limits its own memory and CPU before
// it reads a byte; we hold the clock and what it may say.
const (
	evalDeadline = 5 * time.Second
	evalCPU      = 3 * time.Second // what the evaluator allows itself
	evalMemory   = 512 << 20       // too, in bytes
	maxVerdict   = 64 << 20        // bytes of its answers
	maxComplaint = 64 << 10        // bytes of stderr that are kept
)

// Evaluator runs procnanny-eval, one process for each evaluation.
type Evaluator struct {
	// Path is the program to run.
	Path string
	// Args are its arguments; none for procnanny-eval.
	Args []string
	// Deadline ends an evaluation; 0 is 5 s. Time in which the machine did not
	// let it run does not count, up to twelve times as much in all.
	Deadline time.Duration
	// Resolve answers which users and groups there are; nil is this host.
	Resolve func(spec.EvalNames) spec.Resolved
}

var errTooMuch = errors.New("evaluation gave more than 64 MiB")

// Evaluate has src judged, with overrides on top. Whatever the evaluator dies
// of is a problem in the result; an error means that it could not be run, or
// that ctx ended. lenient makes unknown users and groups warnings.
func (e *Evaluator) Evaluate(ctx context.Context, src spec.Source, overrides []spec.Override, lenient bool) (spec.EvalResult, error) {
	limit := e.Deadline
	if limit == 0 {
		limit = evalDeadline
	}
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	run, err := e.start(within)
	if err != nil {
		return spec.EvalResult{}, fmt.Errorf("cannot run the evaluator %s: %w", e.Path, err)
	}
	defer watchClock(limit, run.cmd.Process.Pid, func() { cancel(context.DeadlineExceeded) }).stop()
	result, me, talk := e.talk(run, spec.EvalRequest{Source: src, Overrides: overrides}, lenient)
	if talk != nil && !errors.Is(talk, io.EOF) && !errors.Is(talk, syscall.EPIPE) {
		cancel(nil) // whatever it still does is of no use; else it is about to die by itself
	}
	died := run.wait()
	switch {
	case ctx.Err() != nil:
		return spec.EvalResult{}, ctx.Err()
	case talk != nil:
		return refused(src, run.diagnose(within, talk, died, limit)), nil
	}
	if result.Spec != nil && len(result.Problems.Errors()) == 0 && !lenient {
		if foreign := ownOnly(*result.Spec, me); len(foreign) > 0 {
			result.Spec, result.Problems = nil, append(result.Problems, foreign...)
		}
	}
	return result, nil
}

func refused(src spec.Source, message string) spec.EvalResult {
	place := src.Root
	if src.Single != "" {
		place = filepath.Join(src.Root, src.Single)
	}
	return spec.EvalResult{Problems: spec.Problems{{File: place, Message: message}}, Unjudged: true}
}

// talk is the dialogue: request, names, what they are, verdict.
func (e *Evaluator) talk(run *evaluation, req spec.EvalRequest, lenient bool) (result spec.EvalResult, me spec.Identity, err error) {
	defer run.in.Close()
	to, from := json.NewEncoder(run.in), json.NewDecoder(&capped{run.out, maxVerdict})
	if err := to.Encode(req); err != nil {
		return result, me, err
	}
	var names spec.EvalNames
	if err := from.Decode(&names); err != nil {
		return result, me, err
	}
	resolve := e.Resolve
	if resolve == nil {
		resolve = Resolve
	}
	known := resolve(names)
	known.Lenient = lenient
	if err := to.Encode(known); err != nil {
		return result, me, err
	}
	err = from.Decode(&result)
	return result, known.Self, err
}

// evaluation is one running evaluator.
type evaluation struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.ReadCloser
	err *head
}

// start runs the evaluator with three pipes, no environment of ours, in its
// own session and, when we are root, as nobody.
func (e *Evaluator) start(ctx context.Context) (*evaluation, error) {
	attr := &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 {
		attr.Credential = nobody()
	}
	run, err := e.launch(ctx, attr)
	if attr.Credential != nil && errors.Is(err, fs.ErrPermission) {
		// nobody cannot reach the binary, in a directory of root's own: the
		// evaluator gives up root itself before it reads a byte.
		attr.Credential = nil
		run, err = e.launch(ctx, attr)
	}
	return run, err
}

func (e *Evaluator) launch(ctx context.Context, attr *syscall.SysProcAttr) (*evaluation, error) {
	cmd := exec.CommandContext(ctx, e.Path, e.Args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "CUE_REGISTRY=none", "GOGC=400"}
	cmd.Dir = "/"
	cmd.SysProcAttr = attr
	cmd.WaitDelay = time.Second
	run := &evaluation{cmd: cmd, err: &head{room: maxComplaint}}
	cmd.Stderr = run.err
	var err error
	if run.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if run.out, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return run, oom.AsBorn(cmd.Start)
}

func (run *evaluation) wait() error {
	_, _ = io.Copy(io.Discard, io.LimitReader(run.out, maxVerdict)) // it must not hang in a write
	return run.cmd.Wait()
}

// outOfMemory are what Go's runtime says when the kernel gives it no more, be it
// for the heap or for the stack of a thread.
var outOfMemory = []string{"out of memory", "cannot allocate memory", "pthread_create failed", "failed to create new OS thread"}

const tookMemory = "evaluation took more than 512 MiB of memory"

// mostRSS is how much memory a process that has ended had at the most, in bytes.
func mostRSS(st *os.ProcessState) int64 {
	used, _ := st.SysUsage().(*syscall.Rusage)
	if used == nil {
		return 0
	}
	return used.Maxrss << 10
}

// diagnose says in words what an evaluation without a verdict died of.
func (run *evaluation) diagnose(ctx context.Context, talk, died error, limit time.Duration) string {
	st := run.cmd.ProcessState
	ws, _ := st.Sys().(syscall.WaitStatus)
	complaint := run.err.kept.String()
	switch {
	case errors.Is(talk, errTooMuch):
		return errTooMuch.Error()
	case slices.ContainsFunc(outOfMemory, func(sign string) bool { return strings.Contains(complaint, sign) }):
		return tookMemory
	case ws.Signaled() && (ws.Signal() == syscall.SIGXCPU || st.UserTime()+st.SystemTime() >= evalCPU/2):
		// Half, because the limit counts ticks: on a busy machine it comes early.
		return fmt.Sprintf("evaluation used more than %s of CPU", evalCPU)
	case errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return fmt.Sprintf("evaluation took longer than %s", limit)
	case ws.Signaled() && !errors.Is(ctx.Err(), context.Canceled):
		return fmt.Sprintf("the evaluator was killed by signal %d (%s)", ws.Signal(), ws.Signal())
	case died != nil && complaint != "" && mostRSS(st) > evalMemory/2:
		return tookMemory // rarely Go's runtime falls over the memory that it did not get
	case died != nil && complaint != "":
		first, _, _ := strings.Cut(complaint, "\n")
		return "the evaluator failed: " + first
	}
	return fmt.Sprintf("the evaluator gave no verdict: %v", talk)
}

// nobody is the unprivileged user of this host.
func nobody() *syscall.Credential {
	cred := &syscall.Credential{Uid: 65534, Gid: 65534}
	if u, err := user.Lookup("nobody"); err == nil {
		uid, okU := number(u.Uid)
		gid, okG := number(u.Gid)
		if okU && okG && uid != 0 && gid != 0 {
			cred.Uid, cred.Gid = uid, gid
		}
	}
	return cred
}

// capped fails a read beyond its room, unlike io.LimitedReader, which ends it.
type capped struct {
	r    io.Reader
	room int64
}

func (c *capped) Read(b []byte) (int, error) {
	if c.room <= 0 {
		return 0, errTooMuch
	}
	n, err := c.r.Read(b[:min(int64(len(b)), c.room)])
	c.room -= int64(n)
	return n, err
}

// head keeps the first bytes written to it and swallows the rest. The buffer is no
// part of its own methods: io.Copy would use Buffer.ReadFrom, which has no bound.
type head struct {
	kept bytes.Buffer
	room int
}

func (h *head) Write(b []byte) (int, error) {
	if k := min(h.room-h.kept.Len(), len(b)); k > 0 {
		_, _ = h.kept.Write(b[:k])
	}
	return len(b), nil
}
