package keeper

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// All that a process wrote is in its file when its end is told.
func TestOutputIsMovedBeforeTheEndIsTold(t *testing.T) {
	r := startRig(t, testConfig{})
	for i := range 50 {
		run := r.begin(0, fmt.Sprintf(`i=0; while [ $i -lt 500 ]; do echo "run %d line $i"; i=$((i+1)); done`, i)).Run
		r.next(FactExited, run)
		b, err := os.ReadFile(filepath.Join(r.c.Dir, "log/web/0.log"))
		must(t, err)
		if want := fmt.Sprintf("run %d line 499\n", i); !strings.HasSuffix(string(b), want) || strings.Count(string(b), "\n") != 500*(i+1) {
			t.Fatalf("run %d: %d lines, the end is %q", i, strings.Count(string(b), "\n"), b[max(0, len(b)-30):])
		}
	}
}

// A pipe that was loud, which is looked at by the clock, is heard when it speaks
// again after a pause.
func TestLoudPipeThatPausesIsHeard(t *testing.T) {
	r := startRig(t, testConfig{})
	must(t, mkfifo(r.c.Dir+"/gate"))
	gate, err := os.OpenFile(r.c.Dir+"/gate", os.O_RDWR, 0)
	must(t, err)
	defer gate.Close()
	o := r.shell(0, `i=0; while [ $i -lt 3 ]; do head -c 3000000 /dev/zero | tr '\0' '\n'; echo "pause $i"; read x; i=$((i+1)); done; echo end; read x`)
	o.Start.Launch.Stdin = r.c.Dir + "/gate"
	r.send(o)
	r.next(FactStarted, o.Start.Run)
	for i := range 3 {
		r.logged(0, fmt.Sprintf("pause %d\n", i))
		r.poll("the kernel to be asked to tell", func() bool { return asksForPipes(t, r.cmd.Process.Pid) })
		_, err := gate.WriteString("\n")
		must(t, err)
	}
	r.logged(0, "end\n")
	r.send(Order{Kind: OrderKill, Run: o.Start.Run, Signal: spec.SIGKILL})
	r.next(FactEmptied, o.Start.Run)
}

// asksForPipes reports whether a process has a descriptor watched as pipes are,
// for the next thing that comes.
func asksForPipes(t *testing.T, pid int) bool {
	t.Helper()
	list, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	must(t, err)
	for _, path := range list {
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), fmt.Sprintf("events: %8x ", unix.EPOLLIN|unix.EPOLLERR|unix.EPOLLHUP|unix.EPOLLONESHOT)) {
			return true
		}
	}
	return false
}

func TestSeparateOutput(t *testing.T) {
	r := startRig(t, testConfig{})
	o := r.shell(0, "echo out; echo err >&2; exit 0")
	o.Start.Launch.Mode = spec.OutputMode{Kind: "separate"}
	r.send(o)
	r.next(FactExited, o.Start.Run)
	for name, want := range map[string]string{"0.stdout.log": "out\n", "0.stderr.log": "err\n"} {
		b, err := os.ReadFile(filepath.Join(r.c.Dir, "log/web", name))
		if err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

func TestModeChangesBetweenRuns(t *testing.T) {
	r := startRig(t, testConfig{})
	for _, mode := range []string{"merged", "separate", "merged", "null", "separate"} {
		o := r.shell(0, "echo out; echo err >&2")
		o.Start.Launch.Mode = spec.OutputMode{Kind: mode}
		r.send(o)
		r.next(FactEmptied, o.Start.Run)
	}
	for name, want := range map[string]string{"0.log": "out\nerr\nout\nerr\n", "0.stdout.log": "out\nout\n", "0.stderr.log": "err\nerr\n"} {
		if b, err := os.ReadFile(filepath.Join(r.c.Dir, "log/web", name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

// A process whose output is closed early lives on, and nothing spins.
func TestClosedStdout(t *testing.T) {
	r := startRig(t, testConfig{})
	run := r.begin(0, `echo last; exec >&- 2>&-; read x; exec sleep 100`)
	r.logged(0, "last")
	before := countFDs(t, r.cmd.Process.Pid)
	r.poll("the pipe to be closed", func() bool { return countFDs(t, r.cmd.Process.Pid) <= before })
	spent := cpuTicks(t, r.cmd.Process.Pid)
	r.send(Order{Kind: OrderPreflight, Start: r.shell(1, "").Start})
	r.next(FactPreflight, 0)
	if now := cpuTicks(t, r.cmd.Process.Pid); now-spent > 20 {
		t.Errorf("%d ticks were spent on nothing", now-spent)
	}
	r.send(Order{Kind: OrderKill, Run: run.Run, Signal: spec.SIGKILL})
	r.next(FactEmptied, run.Run)
}

func cpuTicks(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	var user, system int
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	_, err = fmt.Sscan(f[11]+" "+f[12], &user, &system)
	must(t, err)
	return user + system
}

const writer = `i=0; while [ $i -lt 20000 ]; do echo "line $i of a log that goes on for a while"; i=$((i+1)); done; echo done; exec sleep 100`

// While the disk is full the process waits, and then nothing is missing.
func TestFullDiskBlocksAndLosesNothing(t *testing.T) {
	r := startRig(t, testConfig{FullDisk: true})
	full := filepath.Join(r.c.Dir, "full")
	must(t, os.WriteFile(full, nil, 0o600))
	first := r.begin(0, `echo from before; exit 1`).Run // its output stays in the pipe
	if f := r.next(FactOutput, first); f.Reason == "" || f.Dropping || f.Program != "web" {
		t.Errorf("told %+v", f)
	}
	r.next(FactEmptied, first)
	second := r.begin(0, writer).Run
	must(t, os.Remove(full))
	if f := r.next(FactOutput, second); f.Reason != "" || f.Dropped != 0 {
		t.Errorf("told %+v", f)
	}
	text := r.logged(0, "done\n")
	if n := strings.Count(text, "\n"); n != 20002 || !strings.HasPrefix(text, "from before\nline 0 ") {
		t.Errorf("%d lines, beginning with %q", n, text[:min(len(text), 40)])
	}
}

// What a control does not know it hears when it comes.
func TestANewControlHearsOfAFullDisk(t *testing.T) {
	r := startRig(t, testConfig{FullDisk: true})
	must(t, os.WriteFile(filepath.Join(r.c.Dir, "full"), nil, 0o600))
	run := r.begin(0, `echo x; exec sleep 100`).Run
	r.next(FactOutput, run)
	r.conn.Close()
	r.connect()
	if f := r.next(FactOutput, run); f.Reason == "" || f.Dropping {
		t.Errorf("told %+v", f)
	}
}

func TestDroppedOutputIsTold(t *testing.T) {
	r := startRig(t, testConfig{FullDisk: true})
	full := filepath.Join(r.c.Dir, "full")
	must(t, os.WriteFile(full, nil, 0o600))
	o := r.shell(0, `echo x; read y; exec sleep 100`)
	o.Start.Output.Drop = true
	r.send(o)
	if f := r.next(FactOutput, o.Start.Run); f.Reason == "" || !f.Dropping {
		t.Errorf("told %+v", f)
	}
}

// A process that is being stopped does not wait for a full disk.
func TestFullDiskDoesNotHoldAStop(t *testing.T) {
	r := startRig(t, testConfig{FullDisk: true})
	must(t, os.WriteFile(filepath.Join(r.c.Dir, "full"), nil, 0o600))
	run := r.begin(0, `trap "i=0; while [ \$i -lt 20000 ]; do echo a line that nobody will ever read; i=\$((i+1)); done; exit 2" TERM; echo up; while :; do sleep 0.02; done`)
	r.poll("the disk to be noticed", func() bool {
		b, _ := os.ReadFile(filepath.Join(r.c.Dir, "keeper.log"))
		return strings.Contains(string(b), "it waits in the pipe")
	})
	r.send(Order{Kind: OrderSignal, Run: run.Run, Signal: spec.SIGTERM})
	if f := r.next(FactExited, run.Run); f.Code != 2 {
		t.Errorf("%+v", f)
	}
	r.next(FactEmptied, run.Run)
}
