package keeper

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// brood starts a child that leaves a grandchild behind which has a session of
// its own, a dead parent, and ignores TERM; its pid is in the log.
const brood = `
setsid sh -c 'setsid sh -c "trap \"\" TERM HUP INT; echo pid \$\$ ; while :; do sleep 30; done" & exit' &
trap "exit 3" TERM
echo main
while :; do sleep 0.05; done`

func grandchild(r *rig) int {
	r.t.Helper()
	text := r.logged(0, "pid ")
	var pid int
	r.poll("the grandchild's pid", func() bool {
		_, rest, _ := strings.Cut(text, "pid ")
		line, _, whole := strings.Cut(rest, "\n")
		pid, _ = strconv.Atoi(strings.TrimSpace(line))
		text = r.logged(0, "pid ")
		return whole && pid > 0
	})
	return pid
}

func TestNobodyIsLeftAfterKill(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		run := r.begin(0, brood).Run
		pid := grandchild(r)
		r.poll("the grandchild to be orphaned", func() bool { return readStat(pid).ppid == r.cmd.Process.Pid })
		r.send(Order{Kind: OrderSignal, Run: run, Signal: spec.SIGTERM})
		f := r.next(FactExited, run)
		if f.Code != 3 || f.Left < 1 {
			t.Errorf("main ended: %+v", f)
		}
		if !alive(pid) {
			t.Fatal("the grandchild ended too early to prove anything")
		}
		// Refused while anybody lives.
		o := r.shell(0, "exit 0")
		r.send(o)
		if f := r.next(FactStartFailed, o.Start.Run); f.Errno != int(unix.EBUSY) || !strings.Contains(f.Reason, "still lives") {
			t.Errorf("second start: %+v", f)
		}
		r.send(Order{Kind: OrderSweep, Run: run, Signal: spec.SIGTERM}, Order{Kind: OrderKill, Run: run, Signal: spec.SIGKILL})
		r.next(FactEmptied, run)
		if alive(pid) {
			t.Error("the grandchild lives after FactEmptied")
		}
		r.poll("the grandchild to be reaped", func() bool { return !readStat(pid).known })
		next := r.begin(0, "exit 5")
		if f := r.next(FactExited, next.Run); f.Code != 5 {
			t.Errorf("the next run: %+v", f)
		}
	})
}

// Who left the session and lost his parent while a former keeper lived is found by
// the next one, and so is whom the main process started there and leaves behind.
func TestNobodyIsLeftOfAnAdoptedRun(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		run := r.begin(0, strings.Replace(brood, "echo main", `setsid sh -c 'trap "" TERM HUP INT; echo other $$ ; while :; do sleep 30; done' &`, 1))
		pids := []int{grandchild(r)}
		r.poll("the other's pid", func() bool {
			_, rest, _ := strings.Cut(r.logged(0, "other "), "other ")
			line, _, whole := strings.Cut(rest, "\n")
			pid, _ := strconv.Atoi(line)
			pids = append(pids[:1], pid)
			return whole && pid > 0
		})
		r.killKeeper()
		r.start()
		r.connect()
		r.send(Order{Kind: OrderSignal, Run: run.Run, Signal: spec.SIGTERM})
		if f := r.next(FactExited, run.Run); f.Left < 2 {
			t.Errorf("main ended: %+v", f)
		}
		r.send(Order{Kind: OrderKill, Run: run.Run, Signal: spec.SIGKILL})
		r.next(FactEmptied, run.Run)
		for _, pid := range pids {
			if alive(pid) {
				t.Errorf("process %d is left", pid)
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	})
}

// A kill while main lives takes main and all others with it.
func TestKillTakesAll(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		run := r.begin(0, brood).Run
		pid := grandchild(r)
		r.send(Order{Kind: OrderKill, Run: run, Signal: spec.SIGKILL})
		if f := r.next(FactExited, run); f.Signal != spec.SIGKILL {
			t.Errorf("main ended: %+v", f)
		}
		r.next(FactEmptied, run)
		if alive(pid) {
			t.Error("the grandchild lives")
		}
	})
}

// An escalation by another signal than KILL reaches everybody once.
func TestKillWithAnotherSignal(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		run := r.begin(0, `trap "" TERM; sh -c 'trap "exit 0" INT; while :; do sleep 0.02; done' & trap "exit 9" INT; echo up; while :; do sleep 0.02; done`).Run
		r.logged(0, "up")
		r.send(Order{Kind: OrderKill, Run: run, Signal: 10})
		r.next(FactExited, run)
		r.next(FactEmptied, run)
	})
}

func TestForkBombEnds(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		run := r.begin(0, `f() { while :; do (setsid sleep 100 &) ; done; }; f & f & echo up; wait`).Run
		r.logged(0, "up")
		r.send(Order{Kind: OrderKill, Run: run, Signal: spec.SIGKILL})
		r.next(FactExited, run)
		r.next(FactEmptied, run)
		list, _ := children(r.cmd.Process.Pid)
		for _, pid := range list {
			if alive(pid) {
				t.Errorf("%d is left", pid)
			}
		}
		r.poll("all to be reaped", func() bool {
			list, _ = children(r.cmd.Process.Pid)
			return len(list) == 0
		})
	})
}

func TestStoppedProcessHearsTerm(t *testing.T) {
	r := startRig(t, testConfig{})
	run := r.begin(0, `trap "exit 4" TERM; echo up; while :; do sleep 0.02; done`)
	r.logged(0, "up")
	must(t, unix.Kill(-run.PID, unix.SIGSTOP))
	// D: the shell waits for its child, between vfork and exec, which is stopped.
	r.poll("it to be stopped", func() bool { return strings.ContainsRune("TD", rune(readStat(run.PID).state)) })
	r.send(Order{Kind: OrderSignal, Run: run.Run, Signal: spec.SIGTERM})
	if f := r.next(FactExited, run.Run); f.Code != 4 {
		t.Errorf("it ended: %+v", f)
	}
}

func TestPokeReachesOnlyMain(t *testing.T) {
	r := startRig(t, testConfig{})
	run := r.begin(0, `sh -c 'trap "echo child hit" USR1; echo child up; while :; do sleep 0.02; done' & trap "echo main hit" USR1; echo main up; while :; do sleep 0.02; done`).Run
	r.logged(0, "child up")
	r.logged(0, "main up")
	r.send(Order{Kind: OrderPoke, Run: run, Signal: 10})
	if text := r.logged(0, "main hit"); strings.Contains(text, "child hit") {
		t.Error("the child was signalled too")
	}
	r.send(Order{Kind: OrderSignal, Run: run, Signal: 10}) // the group
	r.logged(0, "child hit")
	r.send(Order{Kind: OrderKill, Run: run, Signal: spec.SIGKILL})
	r.next(FactEmptied, run)
}

func TestOrphansAreReaped(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		run := r.begin(0, `for i in 1 2 3 4 5 6 7 8 9; do (setsid sh -c 'sleep 0.05; exit 1' & ); done; echo up; exec sleep 100`)
		r.logged(0, "up")
		r.poll("all orphans to be reaped", func() bool {
			list, _ := children(r.cmd.Process.Pid)
			return len(list) == 1 && list[0] == run.PID
		})
		r.send(Order{Kind: OrderKill, Run: run.Run, Signal: spec.SIGKILL})
		if f := r.next(FactExited, run.Run); f.Signal != spec.SIGKILL {
			t.Errorf("%+v", f)
		}
	})
}

func TestSecondCopyIsRefused(t *testing.T) {
	r := startRig(t, testConfig{})
	run := r.begin(0, "sleep 100")
	o := r.shell(0, "exit 0")
	r.send(o)
	f := r.next(FactStartFailed, o.Start.Run)
	if want := fmt.Sprintf("pid %d", run.PID); f.Errno != int(unix.EBUSY) || !strings.Contains(f.Reason, want) {
		t.Errorf("%+v", f)
	}
	if list, _ := children(r.cmd.Process.Pid); len(list) != 1 {
		t.Errorf("children: %v", list)
	}
}

func TestForgetRemovesTheLeaf(t *testing.T) {
	box, err := newCgroups(t.TempDir())
	if err != nil {
		t.Skip("no cgroup v2 that we may write to:", err)
	}
	box.close(true)
	r := startRig(t, testConfig{})
	if r.hello.Contain != "cgroup" || r.hello.Degraded != "" {
		t.Fatalf("hello: %+v", r.hello)
	}
	leaf := filepath.Join(box.parent, baseName(r.c.Dir), "web.0")
	run := r.begin(0, "exit 0").Run
	r.next(FactEmptied, run)
	if _, err := os.Stat(leaf); err != nil {
		t.Fatal("the leaf should stay between runs:", err)
	}
	r.send(Order{Kind: OrderForget, Program: "web", Index: 0})
	r.poll("the leaf to go", func() bool { _, err := os.Stat(leaf); return os.IsNotExist(err) })
}
