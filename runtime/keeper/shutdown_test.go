package keeper

import (
	"os"
	"path/filepath"
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

// What somebody asked control for outlives control, also where TERM would leave the
// programs running.
func TestAStopIsTheKeepersFromThenOn(t *testing.T) {
	for name, leave := range map[string]bool{"stop": false, "leave": true} {
		t.Run(name, func(t *testing.T) {
			r := startRig(t, testConfig{Leave: leave})
			run := r.begin(0, `trap "exit 0" TERM; echo up; while :; do sleep 0.02; done`).Run
			r.logged(0, "up")
			r.send(Order{Kind: OrderStop})
			if f := r.next(FactAsked, 0); f.Signal != spec.SIGTERM {
				t.Errorf("%+v", f)
			}
			r.conn.Close()
			r.connect()
			if r.hello.Asked != spec.SIGTERM {
				t.Errorf("hello: %+v", r.hello)
			}
			must(t, r.cmd.Process.Signal(syscall.SIGTERM)) // a service manager's, meanwhile
			r.send(Order{Kind: OrderSignal, Run: run, Signal: spec.SIGTERM})
			r.next(FactEmptied, run)
			r.send(Order{Kind: OrderAck, Run: run}, Order{Kind: OrderShutdown})
			if code := r.waitEnd(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// A stop of all that the dead keeper never read of is the next one's.
func TestAStopThatNobodyReadIsInTheWill(t *testing.T) {
	r := startRig(t, testConfig{})
	must(t, r.cmd.Process.Signal(syscall.SIGSTOP))
	r.send(Order{Kind: OrderStop})
	w := r.orphan()
	if w.Asked != int(spec.SIGTERM) {
		t.Errorf("the will says that %d was asked for", w.Asked)
	}
	r.raise(w)
	if r.hello.Asked != spec.SIGTERM {
		t.Errorf("hello: %+v", r.hello)
	}
	r.send(Order{Kind: OrderShutdown})
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

// While everything is being stopped CHLD is not heard for a while; who has no pidfd
// is reaped all the same.
func TestOrphansAreReapedInAStop(t *testing.T) {
	r := startRig(t, testConfig{})
	r.begin(0, brood)
	pid := grandchild(r)
	must(t, r.cmd.Process.Signal(syscall.SIGTERM))
	r.next(FactAsked, 0)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	until(t, "an orphan is reaped", func() bool { return !readStat(pid).known })
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

// While everything is being stopped an instance's cgroup goes with its last
// process, no sooner, and what is started all the same gets a new one.
func TestAStopRemovesTheLeaves(t *testing.T) {
	r := startRig(t, testConfig{})
	if r.hello.Contain != "cgroup" {
		t.Skip("no cgroup v2 that we may write to:", r.hello.Degraded)
	}
	own, err := ownCgroup()
	must(t, err)
	there := func(index int) bool {
		_, err := os.Stat(filepath.Join(own, baseName(r.c.Dir), leafName(instanceKey{"web", index})))
		return err == nil
	}
	leaves := r.begin(0, brood).Run
	pid := grandchild(r)
	alone := r.begin(1, `trap "exit 4" TERM; echo up; while :; do sleep 0.02; done`).Run
	r.logged(1, "up")
	must(t, r.cmd.Process.Signal(syscall.SIGTERM))
	r.next(FactAsked, 0)
	r.send(Order{Kind: OrderSignal, Run: leaves, Signal: spec.SIGTERM}, Order{Kind: OrderSignal, Run: alone, Signal: spec.SIGTERM})
	if f := r.next(FactExited, alone); f.Code != 4 || f.Left != 0 {
		t.Errorf("the one that was alone: %+v", f)
	}
	r.next(FactEmptied, alone)
	if there(1) {
		t.Error("the leaf of what has ended is there")
	}
	if f := r.next(FactExited, leaves); f.Code != 3 || f.Left < 1 || !there(0) || !alive(pid) {
		t.Errorf("the one that left somebody: %+v", f)
	}
	r.send(Order{Kind: OrderAck, Run: alone})
	if f := r.next(FactExited, r.begin(1, "exit 5").Run); f.Code != 5 {
		t.Errorf("a start in a leaf that was removed: %+v", f)
	}
	r.send(Order{Kind: OrderKill, Run: leaves, Signal: spec.SIGKILL})
	r.next(FactEmptied, leaves)
	if alive(pid) {
		t.Error("the grandchild lives after FactEmptied")
	}
}

// Of mains that are reaped together each end says who is left of that one.
func TestEndsThatComeTogether(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		leaves := r.begin(0, brood)
		pid := grandchild(r)
		mains := []Fact{leaves}
		for i := 1; i < 4; i++ {
			mains = append(mains, r.begin(i, "echo up; exec sleep 1000"))
			r.logged(i, "up")
		}
		r.halt() // they are looked at in one turn
		for _, f := range mains {
			must(t, syscall.Kill(f.PID, syscall.SIGTERM))
		}
		for _, f := range mains {
			r.poll("the end of a main process", func() bool { return readStat(f.PID).zombie })
		}
		must(t, r.cmd.Process.Signal(syscall.SIGCONT))
		for _, f := range mains[1:] {
			if end := r.next(FactExited, f.Run); end.Signal != spec.SIGTERM || end.Left != 0 {
				t.Errorf("the end of one that was alone: %+v", end)
			}
			r.next(FactEmptied, f.Run)
		}
		if end := r.next(FactExited, leaves.Run); end.Code != 3 || end.Left < 1 {
			t.Errorf("the end of one that left somebody: %+v", end)
		}
		r.send(Order{Kind: OrderKill, Run: leaves.Run, Signal: spec.SIGKILL})
		r.next(FactEmptied, leaves.Run)
		if alive(pid) {
			t.Error("the grandchild lives after FactEmptied")
		}
		// Nobody was left for a moment, and somebody is once more.
		again := r.begin(4, `setsid sh -c 'echo "pid $$"; exec sleep 1000' & trap "exit 3" TERM; while :; do sleep 0.02; done`)
		r.logged(4, "pid ")
		r.send(Order{Kind: OrderSignal, Run: again.Run, Signal: spec.SIGTERM})
		if end := r.next(FactExited, again.Run); end.Left < 1 {
			t.Errorf("the end of one that left somebody, later: %+v", end)
		}
		r.send(Order{Kind: OrderKill, Run: again.Run, Signal: spec.SIGKILL})
		r.next(FactEmptied, again.Run)
	})
}
