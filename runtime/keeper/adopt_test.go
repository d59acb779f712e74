package keeper

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
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

// The end of a run is not forgotten before control has said that it wrote it
// down, also when both die in between.
func TestEndsAreKeptUntilAcknowledged(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		run := r.begin(0, "exit 7")
		r.next(FactEmptied, run.Run)
		path := filepath.Join(r.c.Dir, "keeper", strconv.FormatUint(run.Run, 10))
		r.poll("the end to be noted", func() bool {
			b, _ := os.ReadFile(path)
			v, err := parseNote(b)
			return err == nil && v.Ended
		})
		r.killKeeper()
		r.start()
		r.connect()
		v, ok := byRun(r.hello, run.Run)
		if !ok || !v.Ended || !v.Emptied || v.Exit.Code != 7 || v.Exit.Unknown {
			t.Fatalf("%+v", r.hello.Runs)
		}
		r.send(Order{Kind: OrderAck, Run: run.Run})
		r.poll("the note to be removed", func() bool { _, err := os.Stat(path); return os.IsNotExist(err) })
	})
}

// An instance's next run is noted and started before the note of the one before it
// is removed. Who finds both, the first without its end, knows by the second that
// nobody was left of the first.
func TestTwoNotesOfOneInstance(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		first := r.begin(0, "exit 7").Run
		r.next(FactEmptied, first)
		path := filepath.Join(r.c.Dir, "keeper", strconv.FormatUint(first, 10))
		b, err := os.ReadFile(path)
		must(t, err)
		second := r.begin(0, "echo up; exec sleep 100")
		r.logged(0, "up")
		r.killKeeper()
		lines := strings.SplitAfterN(string(b), "\n", 3) // begun, started, and perhaps ended
		must(t, os.WriteFile(path, []byte(lines[0]+lines[1]), 0o600))

		r.start()
		r.connect()
		if v, ok := byRun(r.hello, first); !ok || !v.Ended || !v.Emptied || !v.Exit.Unknown || v.Exit.Left != 0 {
			t.Errorf("the first: %+v", v)
		}
		if v, ok := byRun(r.hello, second.Run); !ok || v.Ended || v.PID != second.PID {
			t.Errorf("the second: %+v", v)
		}
		r.send(Order{Kind: OrderKill, Run: first, Signal: spec.SIGKILL}, Order{Kind: OrderAck, Run: first})
		r.send(Order{Kind: OrderSignal, Run: second.Run, Signal: spec.SIGTERM})
		if f := r.next(FactExited, second.Run); f.Signal != spec.SIGTERM && !f.Unknown {
			t.Errorf("the second ended by %+v", f)
		}
	})
}

// A program whose note is damaged or gone is known by the marks in its cgroup.
func TestProgramsWithoutNotes(t *testing.T) {
	box, err := newCgroups(t.TempDir())
	if err != nil {
		t.Skip("no cgroup v2 that we may write to:", err)
	}
	box.close(true)
	r := startRig(t, testConfig{})
	runs := map[uint64]int{}
	for i, damage := range []func(path string) error{
		os.Remove,
		func(path string) error { return os.Truncate(path, 20) },
		func(path string) error { return os.Truncate(path, 0) },
		func(path string) error { return os.WriteFile(path, make([]byte, 500), 0o600) },
	} {
		o := r.shell(i, `echo up; trap "echo bye; exit 3" TERM; while :; do sleep 0.01; done`)
		o.Start.Launch.Env = append(o.Start.Launch.Env, fmt.Sprint("PROCNANNY_INSTANCE=", i))
		r.send(o)
		run := r.next(FactStarted, o.Start.Run)
		r.logged(i, "up")
		runs[run.Run] = run.PID
		must(t, damage(filepath.Join(r.c.Dir, "keeper", strconv.FormatUint(run.Run, 10))))
	}
	r.killKeeper()
	r.start()
	r.connect()
	for id, pid := range runs {
		if v, ok := byRun(r.hello, id); !ok || v.Ended || v.PID != pid {
			t.Fatalf("%+v", r.hello.Runs)
		}
		r.send(Order{Kind: OrderSignal, Run: id, Signal: spec.SIGTERM})
		r.next(FactEmptied, id)
	}
	r.logged(0, "bye")
	r.begin(0, "exit 0")
}

// A keeper that was killed while it started something finds that, however long it
// takes to execute.
func TestUnbornProcessIsWaitedFor(t *testing.T) {
	self := readStat(os.Getpid())
	if self.unborn() {
		t.Errorf("%+v", self)
	}
	kthread := readStat(2)
	if kthread.known && kthread.unborn() {
		t.Errorf("%+v", kthread)
	}
	if !ourBinary(os.Getpid()) {
		t.Error("our own binary is not ours")
	}
	cmd := exec.Command("sh", "-c", "(while :; do :; done) & echo $!; wait")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var child int
	_, err = fmt.Fscan(out, &child)
	must(t, err)
	st := readStat(child)
	must(t, unix.Kill(child, unix.SIGKILL))
	_ = cmd.Wait()
	if !st.unborn() || ourBinary(child) {
		t.Errorf("a subshell: %+v", st)
	}
}

// Somebody removes the cgroup that holds the leaves, while nothing runs.
func TestBaseCgroupIsRemoved(t *testing.T) {
	box, err := newCgroups(t.TempDir())
	if err != nil {
		t.Skip("no cgroup v2 that we may write to:", err)
	}
	box.close(true)
	r := startRig(t, testConfig{})
	base := filepath.Join(filepath.Dir(box.dir), baseName(r.c.Dir))
	r.next(FactEmptied, r.begin(0, "exit 0").Run)
	r.poll("the base to be removed", func() bool {
		for _, leaf := range subdirectories(base) {
			_ = os.Remove(filepath.Join(base, leaf))
		}
		return os.Remove(base) == nil
	})
	o := r.shell(0, "exit 0")
	r.send(o)
	r.next(FactStartFailed, o.Start.Run) // its leaf is gone
	r.next(FactEmptied, r.begin(0, "exit 0").Run)
	r.next(FactEmptied, r.begin(1, "exit 0").Run)
}

// Processes in a leaf that neither a note nor their marks account for are killed
// before a start.
func TestUnknownProcessesInALeaf(t *testing.T) {
	box, err := newCgroups(t.TempDir())
	if err != nil {
		t.Skip("no cgroup v2 that we may write to:", err)
	}
	box.close(true)
	r := startRig(t, testConfig{})
	run := r.begin(0, "exec env -i /bin/sleep 100")
	r.poll("its marks to be gone", func() bool { return variable(run.PID, cookieName) == "" })
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
	left := func() []os.DirEntry {
		list, err := os.ReadDir(dir)
		must(t, err)
		return list
	}
	if list := left(); len(list) != 1 || list[0].Name() != "1" {
		t.Errorf("notes are left: %v", list)
	}
	r.send(Order{Kind: OrderAck, Run: 1})
	r.poll("its note to be removed", func() bool { return len(left()) == 0 })
}
