package keeper

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// killKeeper is kill -9; the programs live on.
func (r *rig) killKeeper() {
	r.t.Helper()
	must(r.t, r.cmd.Process.Kill())
	_ = r.cmd.Wait()
	r.conn.Close()
}

func TestKeeperIsKilledAndProgramsAreFound(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		run := r.begin(0, `trap "echo bye; exit 6" TERM; echo up; i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done`)
		r.logged(0, "line 3\n")
		gone := r.begin(1, "echo up; exec sleep 100")
		r.logged(1, "up")
		r.killKeeper()
		must(t, unix.Kill(gone.PID, unix.SIGKILL))
		r.poll("the other to be gone", func() bool { return !readStat(gone.PID).known })

		r.start()
		r.connect()
		v, ok := byRun(r.hello, run.Run)
		if !ok || v.PID != run.PID || v.Ended || v.LaunchDigest != "launch" || v.Generation != 7 || v.StartedNS != run.AtNS {
			t.Fatalf("hello: %+v", r.hello.Runs)
		}
		if v, ok := byRun(r.hello, gone.Run); !ok || !v.Ended || !v.Emptied || !v.Exit.Unknown {
			t.Errorf("the one that ended meanwhile: %+v", v)
		}
		o := r.shell(0, "exit 0")
		r.send(o)
		if f := r.next(FactStartFailed, o.Start.Run); !strings.Contains(f.Reason, "still lives") {
			t.Errorf("a second copy: %+v", f)
		}
		r.send(Order{Kind: OrderSignal, Run: run.Run, Signal: spec.SIGTERM})
		if f := r.next(FactExited, run.Run); !f.Unknown && f.Code != 6 {
			t.Errorf("%+v", f)
		} else if f.Unknown && os.Geteuid() == 0 {
			t.Errorf("root can know how it ended: %+v", f)
		}
		r.next(FactEmptied, run.Run)
		text := strings.ReplaceAll(r.logged(0, "bye"), "Terminated\n", "") // the shell's word on its sleep
		lines := strings.Split(strings.TrimSpace(text), "\n")
		for i, line := range lines[1 : len(lines)-1] {
			if line != "line "+strconv.Itoa(i+1) {
				t.Fatalf("the log has %q where line %d should be", line, i+1)
			}
		}
		r.begin(0, "exit 0")
	})
}

// What a killed keeper left behind of a run whose main process is gone is told
// as such, and can be killed.
func TestLeftoversOfADeadRunAreFound(t *testing.T) {
	box, err := newCgroups(t.TempDir())
	if err != nil {
		t.Skip("without cgroups leftovers of a former keeper are not known:", err)
	}
	box.close(true)
	r := startRig(t, testConfig{})
	run := r.begin(0, brood)
	pid := grandchild(r)
	r.killKeeper()
	must(t, unix.Kill(run.PID, unix.SIGKILL))
	r.poll("main to be gone", func() bool { return !readStat(run.PID).known })
	r.start()
	r.connect()
	v, _ := byRun(r.hello, run.Run)
	if !v.Ended || v.Emptied || !v.Exit.Unknown || v.Exit.Left < 1 {
		t.Errorf("%+v", v)
	}
	r.send(Order{Kind: OrderKill, Run: run.Run, Signal: spec.SIGKILL})
	r.next(FactEmptied, run.Run)
	if alive(pid) {
		t.Error("it lives")
	}
	r.begin(0, "exit 0")
}

// Processes in a leaf that no note accounts for are killed before a start.
func TestUnknownProcessesInALeaf(t *testing.T) {
	box, err := newCgroups(t.TempDir())
	if err != nil {
		t.Skip("no cgroup v2 that we may write to:", err)
	}
	box.close(true)
	r := startRig(t, testConfig{})
	run := r.begin(0, "exec sleep 100")
	r.killKeeper()
	must(t, os.Remove(filepath.Join(r.c.Dir, "keeper", strconv.FormatUint(run.Run, 10))))
	r.start()
	r.connect()
	if len(r.hello.Runs) != 0 {
		t.Errorf("%+v", r.hello.Runs)
	}
	o := r.shell(0, "exit 0")
	r.send(o)
	if f := r.next(FactStartFailed, o.Start.Run); f.Errno != int(unix.EBUSY) {
		t.Errorf("%+v", f)
	}
	r.poll("it to be killed", func() bool { return !alive(run.PID) })
	r.begin(0, "exit 0")
}

func TestLeaveAndComeBack(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		c.Leave = true
		r := startRig(t, c)
		run := r.begin(0, `echo up; exec sleep 100`)
		r.logged(0, "up")
		must(t, r.cmd.Process.Signal(syscall.SIGTERM))
		if code := r.waitEnd(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if !alive(run.PID) {
			t.Fatal("it was not left running")
		}
		r.start()
		r.connect()
		if v, ok := byRun(r.hello, run.Run); !ok || v.Ended {
			t.Errorf("%+v", r.hello.Runs)
		}
		r.send(Order{Kind: OrderKill, Run: run.Run, Signal: spec.SIGKILL})
		r.next(FactEmptied, run.Run)
	})
}

// Notes of another boot, of another process under the same number, and rubbish
// are not believed.
func TestFalseNotes(t *testing.T) {
	r := newRig(t, testConfig{})
	dir := filepath.Join(r.c.Dir, "keeper")
	must(t, os.Mkdir(dir, 0o700))
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	must(t, err)
	self := note{Boot: strings.TrimSpace(string(boot)), Program: "web", PID: os.Getpid(), Inode: 1}
	write := func(name string, v note) {
		b, err := json.Marshal(v)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	self.Run, self.Index = 1, 1
	write("1", self)
	other := self
	other.Run, other.Boot, other.Index = 2, "another", 2
	write("2", other)
	misnamed := self
	misnamed.Run = 3
	write("33", misnamed)
	must(t, os.WriteFile(filepath.Join(dir, "4"), []byte(`{"boot": `), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "5"), nil, 0o600))
	r.start()
	r.connect()
	if len(r.hello.Runs) != 1 || !r.hello.Runs[0].Ended || r.hello.Runs[0].Run != 1 {
		t.Errorf("%+v", r.hello.Runs)
	}
	left, err := os.ReadDir(dir)
	must(t, err)
	if len(left) != 0 {
		t.Errorf("notes are left: %v", left)
	}
}
