package launch

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Stdio are the descriptors that become the child's 0, 1 and 2. Start does not
// close them. -1 leaves it to the Request: Stdin, and Mode (the null device, a
// file opened with the child's credentials, or our own for inherit). With -1
// as Err, merged takes Out for both.
type Stdio struct {
	In, Out, Err int
	Escrow       *Escrow // or nil
}

// Escrow is where a child puts, before all else, what must outlive who starts it:
// a descriptor on its way through a socket is held by the kernel, whoever dies.
// The start does not depend on it: without room the child does without.
type Escrow struct {
	Socket int // a stream socket
	// Deposit is sent with the child's pidfd and what is in Keep, at most 2
	// descriptors; Withdrawal when the child does not execute after all.
	Deposit, Withdrawal []byte
	Keep                []int
}

// NoStdio leaves all three to the Request.
var NoStdio = Stdio{In: -1, Out: -1, Err: -1}

// Process is a started process. The caller owns PidFD and must reap PID.
type Process struct{ PID, PidFD int }

// StepError says which step of a launch failed, in words and with the value,
// and the kernel's reason.
type StepError struct {
	Step  string
	Errno syscall.Errno
}

func (e *StepError) Error() string {
	text := e.Step + ": " + e.Errno.Error()
	for _, h := range hints {
		if h.errno == e.Errno && strings.HasPrefix(e.Step, h.step) {
			return text + " (" + h.hint + ")"
		}
	}
	return text
}

// Unwrap makes errors.Is work with errnos.
func (e *StepError) Unwrap() error { return e.Errno }

// hints say what an errno means at a step where that is not what it says.
var hints = []struct {
	step  string
	errno syscall.Errno
	hint  string
}{
	{"executing ", syscall.EAGAIN, "its user has all the processes that the nproc limit allows"},
	{"executing ", syscall.E2BIG, "the arguments and the environment are too long"},
	{"setting cpus ", syscall.EINVAL, "not all of them are here, or allowed to us"},
	{"creating the process", syscall.EINTR, "somebody killed it before it was executed"},
	{"opening output file ", syscall.ELOOP, "a symbolic link is in the way"},
	{"opening output file ", syscall.ENXIO, "nobody reads that FIFO"},
}

// Start starts one process. cgroupFD is a descriptor of the cgroup directory
// that it is born in, or -1. When Start returns without error, the program is
// executed and has every attribute that r asks for. The error is a *StepError;
// nothing is left behind then.
func Start(r *Request, io Stdio, cgroupFD int) (Process, error) {
	io, done, err := above2(r, io)
	if err != nil {
		return Process{}, err
	}
	defer done()
	io, escrow, back, err := low.lend(io)
	if err != nil {
		return Process{}, err
	}
	defer back()
	b := newBuilder(r, io)
	defer b.release()
	b.job.end = cInt(low.end)
	b.job.cgroup = cInt(cgroupFD)
	b.job.legacy = cBool(forceLegacy)
	if escrow >= 0 {
		b.deposit(io.Escrow, escrow)
	}
	b.compile()
	if err := b.run(); err != nil {
		return Process{}, err
	}
	p := Process{PID: int(b.job.pid), PidFD: int(b.job.pidfd)}
	if n := r.Tuning.Nice; n != nil && *n != 0 { // a new session begins with 0
		_ = setAutogroup(p.PID, *n) // if it cannot be had, Drift will say so
	}
	return p, nil
}

// forceLegacy makes Start use clone(2), as where clone3(2) is hidden. For tests.
var forceLegacy bool

// Preflight checks in a child that goes through every step but the last
// whether r would start: its user, its directory, its tuning, its output file,
// its executable and what interprets that. Nil is good, else the error that
// Start would give. No file is made.
func Preflight(r *Request) error {
	candidates := r.Candidates
	for range maxInterpreters {
		found, err := preflight(r, candidates)
		if err != nil {
			return err
		}
		next := interpreter(candidates[found])
		if next == "" && textual(candidates[found]) {
			return &StepError{Step: "executing " + candidates[found], Errno: syscall.ENOEXEC}
		}
		if next == "" {
			return nil
		}
		if _, err := preflight(r, []string{next}); err != nil {
			var step *StepError
			if errors.As(err, &step) && strings.HasPrefix(step.Step, "executing ") {
				return &StepError{Step: missingInterpreter(candidates[found], next), Errno: step.Errno}
			}
			return err
		}
		candidates = []string{next}
	}
	return &StepError{Step: "executing " + candidates[0], Errno: syscall.ELOOP}
}

// preflight returns which candidate would be executed.
func preflight(r *Request, candidates []string) (int, error) {
	q := *r
	q.Candidates = candidates
	b := newBuilder(&q, NoStdio)
	defer b.release()
	b.job.end = 3
	b.check = true
	b.job.reap = 1
	b.compile()
	if err := b.run(); err != nil {
		return 0, err
	}
	return int(b.job.which), nil
}

// above2 duplicates descriptors that lie below 3, where the child's own will
// be: a descriptor that is not open must not become a mix-up. done closes the
// duplicates.
func above2(r *Request, io Stdio) (_ Stdio, done func(), err error) {
	if r.Mode.Kind == "inherit" {
		if io.Out < 0 {
			io.Out = 1
		}
		if io.Err < 0 {
			io.Err = 2
		}
	}
	var opened [3]int
	n := 0
	done = func() {
		for _, fd := range opened[:n] {
			_ = unix.Close(fd)
		}
	}
	for i, fd := range []*int{&io.In, &io.Out, &io.Err} {
		if *fd < 0 || *fd > 2 {
			continue
		}
		up, e := unix.FcntlInt(uintptr(*fd), unix.F_DUPFD_CLOEXEC, 3)
		if e != nil {
			done()
			return io, nil, &StepError{Step: fmt.Sprintf("passing descriptor %d as %s", *fd, streams[i]), Errno: asErrno(e)}
		}
		*fd, opened[n] = up, up
		n++
	}
	return io, done, nil
}

var streams = [3]string{"stdin", "stdout", "stderr"}

func asErrno(err error) syscall.Errno {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return syscall.EIO
}
