package keeper

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/spec"
)

func TestExitCodes(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		for _, code := range []int{0, 1, 77, 255} {
			started := r.begin(0, fmt.Sprintf("echo bye %d; exit %d", code, code))
			f := r.next(FactExited, started.Run)
			if f.Code != code || f.Signal != 0 || f.Core || f.Left != 0 || f.PID != started.PID || f.AtNS < started.AtNS {
				t.Errorf("exit %d: %+v", code, f)
			}
			r.next(FactEmptied, started.Run)
			if text := r.logged(0, fmt.Sprintf("bye %d\n", code)); text == "" {
				t.Error("nothing was logged")
			}
		}
	})
}

func TestSignalsAreReported(t *testing.T) {
	r := startRig(t, testConfig{})
	for _, sig := range []spec.Signal{1, 2, 3, 6, 9, 10, 11, 13, 14, 15, 34, 64} {
		started := r.begin(0, fmt.Sprintf("ulimit -c 0; kill -%d $$", sig))
		f := r.next(FactExited, started.Run)
		if f.Code != -1 || f.Signal != sig || f.Core {
			t.Errorf("signal %v: %+v", sig, f)
		}
		r.next(FactEmptied, started.Run)
	}
}

// What a start brings as input is on stdin, however much it is, and is gone with
// the process.
func TestInput(t *testing.T) {
	r := startRig(t, testConfig{})
	text := strings.Repeat("0123456789abcdef", 1<<15) // more than a pipe holds
	o := r.shell(0, "dd bs=16 count=1 2>/dev/null; echo; cat | wc -c; exec sleep 100 <&-")
	o.Start.Input = text
	r.send(o)
	r.next(FactStarted, o.Start.Run)
	r.logged(0, "0123456789abcdef\n524272\n")
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.cmd.Process.Pid))
	must(t, err)
	for _, fd := range fds {
		if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", r.cmd.Process.Pid, fd.Name())); strings.Contains(to, "procnanny-input") {
			t.Errorf("descriptor %s of the keeper still is %s", fd.Name(), to)
		}
	}
}

func TestExitSaysWhatWasUsed(t *testing.T) {
	r := startRig(t, testConfig{})
	// 20 MiB in memory, and some time on a CPU.
	started := r.begin(0, "x=$(head -c 20971520 /dev/zero | tr '\\0' a); i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done")
	f := r.next(FactExited, started.Run)
	if f.PeakBytes < 20<<20 || f.PeakBytes > 1<<30 {
		t.Errorf("peak memory: %d bytes", f.PeakBytes)
	}
	if f.CPUNS < 5e6 || f.CPUNS > 60e9 {
		t.Errorf("CPU time: %d ns", f.CPUNS)
	}
}
