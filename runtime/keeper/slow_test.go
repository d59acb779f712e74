package keeper

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/spec"
)

const endless = `i=0; while :; do echo "line $i of a log that never ends"; i=$((i+1)); done`

// slowed is a keeper whose first programs write at full speed to a disk that
// does not answer.
func slowed(t *testing.T, programs int) (r *rig, answer func(index int), runs []uint64) {
	r = startRig(t, testConfig{SlowDisk: true})
	file := func(i int) string { return filepath.Join(r.c.Dir, fmt.Sprintf("slow.%d", i)) }
	for i := range programs {
		must(t, os.WriteFile(file(i), nil, 0o600))
		runs = append(runs, r.begin(i, endless).Run)
	}
	return r, func(i int) { must(t, os.Remove(file(i))) }, runs
}

// While one program's disk does not answer, and another's, those of others do
// not notice: their output, their ends, their starts.
func TestSlowDiskHoldsUpNobodyElse(t *testing.T) {
	for _, programs := range []int{1, deviceLoud} {
		t.Run(fmt.Sprint(programs), func(t *testing.T) {
			r, answer, runs := slowed(t, programs)
			for i := range 30 {
				run := r.begin(9, fmt.Sprintf("echo says %d; exit 3", i)).Run
				if f := r.next(FactExited, run); f.Code != 3 {
					t.Fatalf("%+v", f)
				}
				r.next(FactEmptied, run)
				if b, _ := os.ReadFile(filepath.Join(r.c.Dir, "log/web/9.log")); !strings.HasSuffix(string(b), fmt.Sprintf("says %d\n", i)) {
					t.Fatalf("%d: the file has %q", i, b)
				}
			}
			for i := range programs {
				if f := r.next(FactOutput, runs[i]); !strings.Contains(f.Reason, errSlow.Error()) || f.Dropping {
					t.Errorf("told %+v", f)
				}
				answer(i)
				if f := r.next(FactOutput, runs[i]); f.Reason != "" || f.Dropped != 0 {
					t.Errorf("told %+v", f)
				}
				checkEndless(t, r, i, runs[i])
			}
		})
	}
}

// checkEndless ends an endless writer and looks whether all lines are there.
func checkEndless(t *testing.T, r *rig, index int, run uint64) {
	t.Helper()
	r.send(Order{Kind: OrderKill, Run: run, Signal: spec.SIGKILL})
	r.next(FactEmptied, run)
	list, err := filepath.Glob(filepath.Join(r.c.Dir, "log/web", fmt.Sprintf("%d.log*", index)))
	must(t, err)
	next := 0
	for n := range list {
		name := list[(n+1)%len(list)] // the live one, which sorts first, is the last
		b, err := os.ReadFile(name)
		must(t, err)
		for line := range strings.Lines(string(b)) {
			if want := fmt.Sprintf("line %d of", next); !strings.HasPrefix(line, want) && (strings.HasSuffix(line, "\n") || len(line) > len(want)) {
				t.Fatalf("%s: %q, not %q", name, line, want)
			}
			next++
		}
	}
	if next < 100 {
		t.Errorf("%d lines", next)
	}
}

// A program ends although its disk does not answer; its next run waits, and
// nothing that it wrote is lost.
func TestEndIsToldThoughTheDiskDoesNotAnswer(t *testing.T) {
	r := startRig(t, testConfig{SlowDisk: true})
	slow := filepath.Join(r.c.Dir, "slow.0")
	must(t, os.WriteFile(slow, nil, 0o600))
	run := r.begin(0, "echo last words; exit 4").Run
	if f := r.next(FactExited, run); f.Code != 4 {
		t.Errorf("%+v", f)
	}
	r.next(FactEmptied, run)
	o := r.shell(0, "echo the next; exit 5")
	r.send(o)
	if f := r.next(FactStartFailed, o.Start.Run); !strings.Contains(f.Reason, "slow disk") {
		t.Errorf("%+v", f)
	}
	must(t, os.Remove(slow))
	r.logged(0, "last words\n")
	var again Order
	r.poll("the start to succeed", func() bool {
		again = r.shell(0, "echo the next; exit 5")
		r.send(again)
		for {
			facts, err := r.conn.Recv()
			must(t, err)
			for _, f := range facts {
				switch {
				case f.Run == again.Start.Run && f.Kind == FactStartFailed:
					return false
				case f.Run == again.Start.Run && f.Kind == FactEmptied:
					return true
				}
			}
		}
	})
	if text := r.logged(0, "the next\n"); text != "last words\nthe next\n" {
		t.Errorf("%q", text)
	}
}
