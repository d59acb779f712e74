package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/daemontest"
	"github.com/procnanny/procnanny/runtime/launch"
)

// faultsVar asks for the whole table of faults, not only some: "all", or a part
// of their names.
const faultsVar = "PROCNANNY_TEST_FAULTS"

// faulty is a system call of one of our processes, and how it may fail.
type faulty struct {
	process, call string
	errnos        string
	phases        string
}

// faults are the classes of system calls that each process depends on. For a
// while all calls of that class fail, in each of the phases.
var faults = []faulty{
	{"keeper", "openat", "EMFILE ENFILE ENOMEM ENOSPC EIO EINTR", "start rotate"},
	{"keeper", "pipe2", "EMFILE ENFILE", "start"},
	{"keeper", "clone3", "EAGAIN ENOMEM", "start"},
	{"keeper", "epoll_ctl", "ENOMEM ENOSPC", "start"},
	{"keeper", "write", "ENOSPC EIO EINTR", "start"},
	{"keeper", "sendmsg", "ENOMEM EINTR EAGAIN", "start rpc"},
	{"keeper", "read", "EINTR", "start rpc"},
	{"keeper", "splice", "ENOSPC EIO ENOMEM EINTR EAGAIN", "start rotate"},
	{"keeper", "renameat2", "ENOSPC EIO ENOMEM", "rotate"},
	{"keeper", "openat2", "EMFILE ENFILE ENOSPC EIO", "rotate"},
	{"keeper", "pwrite64", "ENOSPC EIO", "rotate"},
	{"keeper", "mkdirat", "ENOSPC ENOMEM", "start"},
	{"keeper", "fstat", "EIO ENOMEM", "start"},
	{"keeper", "waitid", "EINTR", "start"},
	{"keeper", "pidfd_send_signal", "EAGAIN", "start"},
	{"keeper", "mmap", "ENOMEM", "start"},
	{"keeper", "epoll_pwait", "EINTR EIO", "start"},
	{"control", "openat", "EMFILE ENFILE ENOMEM EIO EINTR", "start reload rpc"},
	{"control", "write", "ENOSPC EIO EINTR", "start reload rpc"},
	{"control", "pwrite64", "ENOSPC EIO", "start reload rpc"},
	{"control", "fdatasync", "EIO ENOSPC", "reload rpc"},
	{"control", "fsync", "EIO ENOSPC", "reload rpc"},
	{"control", "sendmsg", "ENOMEM EAGAIN EINTR", "start"},
	{"control", "recvmsg", "ENOMEM EINTR", "start"},
	{"control", "accept4", "EMFILE ENFILE ENOMEM EINTR", "rpc"},
	{"control", "socket", "EMFILE ENFILE ENOMEM", "rpc"},
	{"control", "pipe2", "EMFILE ENFILE", "reload rpc"},
	{"control", "clone", "EAGAIN ENOMEM", "reload rpc"},
	{"control", "clone3", "EAGAIN ENOMEM", "reload"},
	{"control", "mmap", "ENOMEM", "reload rpc"},
	{"control", "epoll_ctl", "ENOMEM ENOSPC", "rpc"},
	{"control", "epoll_pwait", "EINTR", "start rpc"},
	{"control", "epoll_wait", "EINTR", "rpc"},
	{"control", "poll", "EINTR ENOMEM", "rpc"},
	{"control", "read", "EIO EINTR", "start reload rpc"},
	{"control", "getdents64", "EIO ENOMEM", "reload"},
	{"control", "newfstatat", "EIO ENOMEM", "reload"},
	{"control", "fstat", "EIO", "reload rpc"},
	{"control", "inotify_add_watch", "ENOSPC ENOMEM", "reload"},
	{"control", "renameat", "ENOSPC EIO", "start"},
	{"control", "pidfd_open", "EMFILE", "start"},
	{"eval", "read", "EIO EINTR", "reload"},
	{"eval", "write", "EIO ENOSPC EINTR", "reload"},
	{"eval", "mmap", "ENOMEM", "reload"},
	{"eval", "openat", "EMFILE ENFILE EIO", "reload"},
	{"eval", "clone3", "EAGAIN", "reload"},
	{"eval", "execve", "ENOMEM EAGAIN EIO", "reload"},
}

// fault is one point of the table.
type fault struct{ process, call, errno, phase string }

func (f fault) String() string {
	return fmt.Sprintf("%s %s %s %s", f.process, f.call, f.errno, f.phase)
}

// faultsToTry are all, or some of each process.
func faultsToTry() (list []fault) {
	wish := os.Getenv(faultsVar)
	n := 0
	for _, row := range faults {
		for errno := range strings.FieldsSeq(row.errnos) {
			for phase := range strings.FieldsSeq(row.phases) {
				f := fault{row.process, row.call, errno, phase}
				if n++; wish == "all" || wish == "" && n%23 == 1 || wish != "" && strings.Contains(f.String(), wish) {
					list = append(list, f)
				}
			}
		}
	}
	return list
}

// phases are what is done while calls fail, and again when they do not.
var phases = map[string]crossing{
	"start":  {do: (*walker).killJob, then: (*walker).jobRuns},
	"reload": {do: (*walker).edit, then: (*walker).isEdited},
	"rpc":    {do: (*walker).setScore, then: (*walker).hasScore},
	"rotate": {do: func(*walker) error { return nil }, then: (*walker).jobRuns}, // writers do it all the time
}

// faultTime is how long the calls fail.
const faultTime = 200 * time.Millisecond

// System calls of ours fail, whatever we are doing: nobody dies who is not
// started again, no program ends or starts twice, no line is lost, and when the
// calls work again all is as it was.
func TestFaults(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace, which makes system calls fail, is not here")
	}
	if !launch.May(unix.CAP_SYS_PTRACE) {
		t.Skip("only who may trace any process can make its system calls fail")
	}
	t.Parallel()
	w := newFaultyWalker(t)
	todo := faultsToTry()
	var took []time.Duration
	for _, f := range todo {
		d := w.try(f)
		if t.Failed() {
			t.Logf("at %v", f)
			return
		}
		if took = append(took, d); d > 5*time.Second {
			t.Logf("%v: well again only after %v", f, d)
		}
	}
	slices.Sort(took)
	t.Logf("%d faults; well again after %v (median), %v (most)", len(todo), took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	w.judgeFaults()
}

// newFaultyWalker is a walker whose evaluator is told by a file how to fail.
func newFaultyWalker(t *testing.T) *walker {
	t.Helper()
	check(t, daemontest.Build())
	libexec, err := os.MkdirTemp("/tmp", "pnl")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(libexec) })
	check(t, os.Chmod(libexec, 0o755))
	check(t, os.Symlink(daemontest.Bin("procnanny-control"), filepath.Join(libexec, "procnanny-control")))
	eval := fmt.Sprintf("#!/bin/sh\nf=%s/fault\n[ -s $f ] && exec strace -f -qq -o /dev/null -e trace=$(cut -d: -f1 $f) -e inject=$(cat $f) %s/procnanny-eval \"$@\"\nexec %[2]s/procnanny-eval \"$@\"\n", libexec, filepath.Dir(daemontest.Bin("procnanny-eval")))
	check(t, os.WriteFile(filepath.Join(libexec, "procnanny-eval"), []byte(eval), 0o755))
	m := newMortalWith(t, mortalOptions{env: []string{"PROCNANNY_LIBEXEC=" + libexec}, change: func(programs map[string]any) {
		for name := range programs {
			if name != "writer" {
				delete(programs, name)
			}
		}
		holder := func(role string) map[string]any {
			return map[string]any{
				"command": programs["writer"].(map[string]any)["command"], "start": map[string]any{"min_uptime": "0s"},
				"env":     map[string]any{roleVar: role, ledgerVar: programs["writer"].(map[string]any)["env"].(map[string]any)[ledgerVar], "GORACE": "atexit_sleep_ms=0"},
				"restart": map[string]any{"delay": "20ms", "factor": 1, "max_delay": "20ms", "jitter": 0},
			}
		}
		programs["job"], programs["scaled"], programs["edited"] = holder("holder"), holder("holder"), holder("sleeper")
		programs["writer"].(map[string]any)["output"] = map[string]any{"rotate": map[string]any{"size": 4000, "keep": 10000}}
	}})
	w := &walker{mortal: m, crash: libexec, ctx: context.Background()}
	w.now = w.settled(time.Time{})
	return w
}

// try has calls fail while something is done, and says how long it took until
// all was well afterwards.
func (w *walker) try(f fault) time.Duration {
	w.t.Helper()
	phase := phases[f.phase]
	w.n++
	end := w.inject(f)
	ctx, cancel := context.WithTimeout(context.Background(), faultTime)
	w.ctx = ctx
	_ = phase.do(w) // it may fail, and should not hang
	<-ctx.Done()
	cancel()
	w.ctx = context.Background()
	end()
	since := time.Now()
	w.healed(f)
	err := poll(func() (bool, string) {
		err := phase.do(w)
		return err == nil, fmt.Sprintf("%v: cannot do it: %v", f, err)
	})
	if err == nil {
		err = poll(func() (bool, string) { return phase.then(w), f.String() + ": it does not come to be" })
	}
	if err != nil {
		w.t.Error(err)
	}
	return time.Since(since)
}

// inject makes calls fail until the function that it returns is called. Only the
// threads that there are, are traced: no child of theirs is.
func (w *walker) inject(f fault) (end func()) {
	w.t.Helper()
	what := fmt.Sprintf("%s:error=%s", f.call, f.errno)
	pid := map[string]int{"keeper": w.now.Keeper.PID, "control": w.now.Control.PID}[f.process]
	if pid == 0 {
		file := filepath.Join(w.crash, "fault")
		check(w.t, os.WriteFile(file, []byte(what+":when=3+7\n"), 0o644))
		return func() { check(w.t, os.Remove(file)) }
	}
	args := []string{"-o", "/dev/null", "-e", "trace=" + f.call, "-e", "inject=" + what}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	check(w.t, err)
	for _, task := range tasks {
		args = append(args, "-p", task.Name())
	}
	cmd := exec.Command("strace", args...)
	said, err := cmd.StderrPipe()
	check(w.t, err)
	check(w.t, cmd.Start())
	lines := bufio.NewScanner(said)
	for range tasks {
		if !lines.Scan() {
			break // it could not attach, or has ended already
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines.Scan() { // so that it can say what it wants
		}
		_, _ = io.Copy(io.Discard, said)
		_ = cmd.Wait()
	}()
	return func() {
		_ = cmd.Process.Signal(os.Interrupt) // it lets go of everybody
		<-ended
	}
}

// healed waits until the writers are who they were and somebody answers, twice
// the same: who is about to die may answer once more.
func (w *walker) healed(f fault) {
	w.t.Helper()
	var last who
	err := poll(func() (bool, string) {
		now, err := w.ask()
		same := err == nil && now == last
		last = now
		return same, fmt.Sprintf("%v: nobody answers: %v", f, err)
	})
	if err != nil {
		w.t.Error(err)
		return
	}
	w.now = last
	err = poll(func() (bool, string) {
		pids := w.pids("writer")
		slices.Sort(pids)
		want := []int{}
		for _, pid := range w.mortal.pids {
			want = append(want, pid)
		}
		slices.Sort(want)
		return slices.Equal(pids, want), fmt.Sprintf("%v: the writers are %v, they were %v", f, pids, want)
	})
	if err != nil {
		w.t.Error(err)
	}
}

// killJob ends the job, which is then started again.
func (w *walker) killJob() error {
	return w.call("signal", map[string]any{"program": "job", "signal": "KILL"}, nil)
}

func (w *walker) jobRuns() bool { return len(w.pids("job")) == 1 }

// judgeFaults reads what was written and recorded.
func (w *walker) judgeFaults() {
	w.t.Helper()
	out, err := exec.Command(daemontest.Bin("procnanny"), "--run", w.dir+"/run", "stop", "--all", "--wait").CombinedOutput()
	if err != nil {
		w.t.Fatalf("cannot stop: %v\n%s", err, out)
	}
	if list, _ := filepath.Glob(w.dir + "/ledger/*.overlap"); len(list) > 0 {
		w.t.Errorf("two copies at once: %v", list)
	}
	lines := 0
	for i := range writers {
		lines += w.judgeWriter(i)
	}
	var reply struct {
		Runs []struct {
			ID  int      `msgpack:"run_id"`
			End *float64 `msgpack:"end"`
		} `msgpack:"runs"`
	}
	check(w.t, w.call("history", map[string]any{"program": "job"}, &reply))
	seen := map[int]bool{}
	for _, r := range reply.Runs {
		if r.End == nil || seen[r.ID] {
			w.t.Errorf("run %d of job has no end, or two", r.ID)
		}
		seen[r.ID] = true
	}
	w.t.Logf("%d lines of writers, %d runs of job", lines, len(seen))
}
