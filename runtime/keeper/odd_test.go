package keeper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// A program that executes another in its place, with another environment, is the
// same run with the same pid, for every keeper to come.
func TestExecutesAnother(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		f := r.begin(0, `echo first; exec env -i PATH="$PATH" sh -c 'trap "exit 5" TERM; echo second; while :; do sleep 0.02; done'`)
		r.logged(0, "second")
		same := func(when string) {
			t.Helper()
			v, ok := byRun(r.hello, f.Run)
			if !ok || v.PID != f.PID || v.Ended || len(r.hello.Runs) != 1 {
				t.Fatalf("%s: %+v", when, r.hello.Runs)
			}
		}
		r.raise(r.orphan())
		same("after a death of the keeper")
		r.orphan()
		r.start() // without a will: by its note alone
		r.connect()
		same("after a death of both")
		o := r.shell(0, "exit 0")
		r.send(o)
		r.next(FactStartFailed, o.Start.Run)
		r.send(Order{Kind: OrderSignal, Run: f.Run, Signal: spec.SIGTERM})
		if end := r.next(FactExited, f.Run); end.Code != 5 {
			t.Errorf("%+v", end)
		}
		r.next(FactEmptied, f.Run)
	})
}

// tracer traces processes, on a thread of its own: the kernel wants that.
type tracer struct {
	t  *testing.T
	do chan func()
}

func newTracer(t *testing.T) *tracer {
	tr := &tracer{t, make(chan func())}
	go func() {
		runtime.LockOSThread()
		for f := range tr.do {
			f()
		}
	}()
	t.Cleanup(func() { close(tr.do) })
	return tr
}

func (tr *tracer) call(f func() error) (err error) {
	done := make(chan struct{})
	tr.do <- func() { err = f(); close(done) }
	<-done
	return err
}

// attach stops a process as a debugger does.
func (tr *tracer) attach(pid int) {
	tr.t.Helper()
	err := tr.call(func() error { return syscall.PtraceAttach(pid) })
	if errors.Is(err, unix.EPERM) {
		tr.t.Skip("tracing is not permitted here")
	}
	must(tr.t, err)
	tr.wait(pid)
}

// wait looks at what has become of a process.
func (tr *tracer) wait(pid int) {
	tr.t.Helper()
	must(tr.t, tr.call(func() error {
		_, err := syscall.Wait4(pid, nil, syscall.WALL, nil)
		return err
	}))
}

// A program that a debugger holds can be stopped; its end is told at once, though
// the kernel does not let us reap it before the debugger has looked, and nobody
// spins meanwhile.
func TestTraced(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		f := r.begin(0, `trap "exit 4" TERM; echo up; while :; do sleep 0.02; done`)
		r.logged(0, "up")
		tr := newTracer(t)
		tr.attach(f.PID)
		r.send(Order{Kind: OrderSignal, Run: f.Run, Signal: spec.SIGTERM}) // it waits for the debugger
		other := r.begin(1, "exit 3")
		if end := r.next(FactExited, other.Run); end.Code != 3 {
			t.Errorf("another program: %+v", end)
		}
		r.send(Order{Kind: OrderKill, Run: f.Run, Signal: spec.SIGKILL})
		end := r.next(FactExited, f.Run)
		if os.Geteuid() == 0 && (end.Signal != spec.SIGKILL || end.Unknown) {
			t.Errorf("%+v", end)
		}
		r.next(FactEmptied, f.Run)
		if st := readStat(f.PID); !st.zombie {
			t.Errorf("the debugger let go too early to prove anything: %+v", st)
		}
		spent := cpuOf(t, r.cmd.Process.Pid)
		next := r.begin(0, "sleep 0.2; exit 6")
		if end := r.next(FactExited, next.Run); end.Code != 6 {
			t.Errorf("the next run: %+v", end)
		}
		if spent = cpuOf(t, r.cmd.Process.Pid) - spent; spent > 100*time.Millisecond {
			t.Errorf("%v of CPU while a debugger holds a dead program", spent)
		}
		tr.wait(f.PID)
		r.poll("it to be reaped once the debugger has looked", func() bool { return !readStat(f.PID).known })
	})
}

// cpuOf is what a process has used of the processors.
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	var sum time.Duration
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	must(t, err)
	for _, path := range tasks {
		var ns int64
		if b, err := os.ReadFile(path); err == nil {
			_, _ = fmt.Sscan(string(b), &ns)
		}
		sum += time.Duration(ns)
	}
	return sum
}

// A program can read the pipe that it writes to: what it takes is its own, is in
// no file, and nobody else notices.
func TestReadsItsOwnOutput(t *testing.T) {
	r := startRig(t, testConfig{})
	const lines = 2000
	thief := r.begin(0, fmt.Sprintf(`i=0; while [ $i -lt %d ]; do i=$((i+1)); echo $i; [ $((i %% 50)) = 0 ] && timeout 0.01 head -c 100 <&1 >/dev/null; done; exit 3`, lines))
	honest := r.begin(1, fmt.Sprintf(`i=0; while [ $i -lt %d ]; do i=$((i+1)); echo $i; done; exit 4`, lines))
	for _, tt := range []struct {
		run  uint64
		code int
	}{{thief.Run, 3}, {honest.Run, 4}} {
		if f := r.next(FactExited, tt.run); f.Code != tt.code {
			t.Errorf("%+v", f)
		}
	}
	var want strings.Builder
	for i := 1; i <= lines; i++ {
		fmt.Fprintln(&want, i)
	}
	if got := r.logged(1, "\n"); got != want.String() {
		t.Errorf("another program's output has %d bytes of %d", len(got), want.Len())
	}
	// What is left is what was written without what it took, which begins and ends
	// anywhere, so within a line as well: every byte comes later than the one before.
	rest := want.String()
	for i, c := range []byte(r.logged(0, "\n")) {
		at := strings.IndexByte(rest, c)
		if at < 0 {
			t.Fatalf("byte %d, %q, was not written there", i, c)
		}
		rest = rest[at+1:]
	}
	// It may also wait there for ever, and be stopped as others.
	waits := r.begin(0, `echo up; exec cat <&1 >/dev/null`)
	r.send(Order{Kind: OrderSignal, Run: waits.Run, Signal: spec.SIGTERM})
	if f := r.next(FactExited, waits.Run); f.Signal != spec.SIGTERM {
		t.Errorf("%+v", f)
	}
}

// freezer freezes processes so that not even KILL ends them: cgroup v1 can.
func freezer(t *testing.T) (freeze func(pid int), thaw func()) {
	t.Helper()
	dir := filepath.Join("/sys/fs/cgroup/freezer", fmt.Sprintf("procnanny-test-%d-%d", os.Getpid(), time.Now().UnixNano()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip("no freezer of cgroup v1 that we may use:", err)
	}
	state := func(s string) { must(t, os.WriteFile(filepath.Join(dir, "freezer.state"), []byte(s), 0)) }
	t.Cleanup(func() {
		state("THAWED")
		for range 1000 {
			if err := os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Error("cannot remove", dir)
	})
	return func(pid int) {
		must(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, pid), 0))
		state("FROZEN")
	}, func() { state("THAWED") }
}

// A process that not even KILL ends holds up nobody else and has no second copy,
// also after a death of the keeper; and its end is told when it comes.
func TestUnkillable(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		freeze, thaw := freezer(t)
		r := startRig(t, c)
		f := r.begin(0, `trap "" TERM; echo up; exec sleep 1000`)
		r.logged(0, "up")
		freeze(f.PID)
		r.send(Order{Kind: OrderSignal, Run: f.Run, Signal: spec.SIGTERM}, Order{Kind: OrderKill, Run: f.Run, Signal: spec.SIGKILL})
		others := func() {
			t.Helper()
			run := r.begin(1, "exec sleep 1000").Run
			r.send(Order{Kind: OrderKill, Run: run, Signal: spec.SIGKILL})
			r.next(FactEmptied, run)
			o := r.shell(0, "exit 0")
			r.send(o)
			if no := r.next(FactStartFailed, o.Start.Run); no.Errno != int(unix.EBUSY) {
				t.Errorf("a second copy: %+v", no)
			}
			if !alive(f.PID) {
				t.Fatal("it was killed")
			}
		}
		others()
		r.raise(r.orphan())
		r.send(Order{Kind: OrderKill, Run: f.Run, Signal: spec.SIGKILL})
		others()
		thaw()
		if end := r.next(FactExited, f.Run); end.Signal != spec.SIGKILL || end.Unknown {
			t.Errorf("%+v", end)
		}
		r.next(FactEmptied, f.Run)
		r.begin(0, "exit 0")
	})
}
