package keeper

import (
	"syscall"
	"testing"
	"time"

	"github.com/procnanny/procnanny/spec"
)

func TestTermIsControlsToCarryOut(t *testing.T) {
	r := startRig(t, testConfig{})
	run := r.begin(0, `trap "exit 0" TERM; echo up; while :; do sleep 0.02; done`).Run
	r.logged(0, "up")
	for range 3 { // one orderly shutdown, however often it is asked for
		must(t, r.cmd.Process.Signal(syscall.SIGTERM))
	}
	if f := r.next(FactAsked, 0); f.Signal != spec.SIGTERM {
		t.Errorf("%+v", f)
	}
	r.conn.Close() // a control that dies now
	r.connect()
	if r.hello.Asked != spec.SIGTERM {
		t.Errorf("hello: %+v", r.hello)
	}
	r.send(Order{Kind: OrderSignal, Run: run, Signal: spec.SIGTERM})
	r.next(FactEmptied, run)
	r.send(Order{Kind: OrderAck, Run: run}, Order{Kind: OrderShutdown})
	if code := r.waitEnd(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestHupIsPassedOnAndOthersAreHarmless(t *testing.T) {
	r := startRig(t, testConfig{})
	for _, sig := range []syscall.Signal{
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE, syscall.SIGTTOU, syscall.SIGTTIN, syscall.SIGWINCH, syscall.SIGALRM,
		syscall.SIGPWR, syscall.SIGIO, syscall.SIGVTALRM, syscall.SIGXCPU, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGCONT,
	} {
		must(t, r.cmd.Process.Signal(sig))
	}
	must(t, r.cmd.Process.Signal(syscall.SIGHUP))
	if f := r.next(FactAsked, 0); f.Signal != 1 {
		t.Errorf("%+v", f)
	}
	if f := r.begin(0, "exit 0"); f.PID == 0 {
		t.Error("it does not work any more")
	}
}

// Without a control the keeper stops everything itself, also what ignores TERM.
func TestTermWithoutControl(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		c.ShutdownTimeout = 300 * time.Millisecond
		r := startRig(t, c)
		run := r.begin(0, brood)
		pid := grandchild(r)
		polite := r.begin(1, `trap "echo asked; exit 0" TERM; echo up; while :; do sleep 0.02; done`)
		r.logged(1, "up")
		r.listen.Close() // no control can be started
		r.conn.Close()
		must(t, r.cmd.Process.Signal(syscall.SIGTERM))
		if code := r.waitEnd(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		r.logged(1, "asked")
		if alive(run.PID) || alive(pid) || alive(polite.PID) {
			t.Error("somebody lives")
		}
	})
}

// A control that does not get it done in time is overruled.
func TestShutdownTimeout(t *testing.T) {
	r := startRig(t, testConfig{ShutdownTimeout: 200 * time.Millisecond})
	run := r.begin(0, `trap "" TERM; echo up; while :; do sleep 1; done`)
	r.logged(0, "up")
	must(t, r.cmd.Process.Signal(syscall.SIGTERM))
	r.next(FactAsked, 0)
	if f := r.next(FactExited, run.Run); f.Signal != spec.SIGKILL {
		t.Errorf("%+v", f)
	}
	if code := r.waitEnd(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
