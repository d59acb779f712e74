package keeper

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/runtime/launch"
	"github.com/procnanny/procnanny/spec"
)

// last has the keeper die right after it made the processes of some starts, before
// it told anybody, and returns what its control holds then.
func (r *rig) last(orders ...Order) *Will {
	r.t.Helper()
	r.send(orders...)
	_ = r.cmd.Wait()
	for {
		if _, err := r.conn.Recv(); err != nil {
			break
		}
	}
	w, err := r.conn.Will()
	must(r.t, err)
	if w.Escrow == 0 {
		r.t.Fatal("control holds no escrow")
	}
	return w
}

// What is started in a keeper's last moment loses nothing, though it ends before
// there is another keeper: output, code and signal are known.
func TestStartsInTheLastMoment(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := newRig(t, c)
		r.crash = t.TempDir()
		for n, tt := range []struct {
			script, output, errors string
			code                   int
			signal                 spec.Signal
			separate               bool
		}{
			{script: "echo first words; exit 7", output: "first words\n", code: 7},
			{script: "echo out; echo err >&2; kill -9 $$", output: "out\n", errors: "err\n", code: -1, signal: spec.SIGKILL, separate: true},
			{script: "true"},
		} {
			must(t, crashpoint.Arm(r.crash, crashpoint.StartCloned))
			r.start()
			r.connect()
			o := r.shell(n, tt.script)
			file := func(stream string) string {
				b, _ := os.ReadFile(filepath.Join(r.c.Dir, "log", "web", fmt.Sprintf("%d%s.log", n, stream)))
				return string(b)
			}
			out, err := "", ""
			if tt.separate {
				o.Start.Launch.Mode.Kind, out, err = "separate", ".stdout", ".stderr"
			}
			w := r.last(o)
			r.poll("the process to be gone", func() bool {
				return len(r.living(o.Start.Run)) == 0
			})
			r.raise(w)
			if v, ok := byRun(r.hello, o.Start.Run); !ok || v.PID == 0 {
				t.Fatalf("%q is not known: %+v", tt.script, r.hello.Runs)
			}
			f := r.ended(o.Start.Run)
			if f.Unknown || f.Code != tt.code || f.Signal != tt.signal {
				t.Errorf("%q ended with %+v", tt.script, f)
			}
			if got := file(out); got != tt.output {
				t.Errorf("%q wrote %q", tt.script, got)
			}
			if got := file(err); tt.separate && got != tt.errors {
				t.Errorf("%q wrote %q to stderr", tt.script, got)
			}
			r.leave()
		}
	})
}

// ended is how a run ended, from the list or told since.
func (r *rig) ended(run uint64) Fact {
	r.t.Helper()
	if v, ok := byRun(r.hello, run); ok && v.Ended {
		return v.Exit
	}
	return r.next(FactExited, run)
}

// leave ends the keeper and what it holds.
func (r *rig) leave() {
	r.t.Helper()
	must(r.t, r.cmd.Process.Signal(unix.SIGTERM))
	r.send(Order{Kind: OrderShutdown})
	r.waitEnd()
}

// living are the processes that carry a run's mark.
func (r *rig) living(run uint64) (list []int) {
	for _, pid := range allPids() {
		if hasVariable(pid, fmt.Sprintf("PROCNANNY_RUN_ID=%d", run)) && hasVariable(pid, "RIG="+r.c.Dir) && alive(pid) {
			list = append(list, pid)
		}
	}
	return list
}

// One that lives on is taken over as it is, once, and so is its pipe.
func TestStartInTheLastMomentLivesOn(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := newRig(t, c)
		r.crash = t.TempDir()
		must(t, crashpoint.Arm(r.crash, crashpoint.StartCloned))
		r.start()
		r.connect()
		o := r.shell(0, `trap "echo bye; exit 6" TERM; echo up; while :; do sleep 0.01; done`)
		r.raise(r.last(o))
		v, ok := byRun(r.hello, o.Start.Run)
		if !ok || v.Ended || !alive(v.PID) {
			t.Fatalf("%+v", r.hello.Runs)
		}
		r.logged(0, "up")
		w := r.orphan() // and by the next one from the first one's will
		r.raise(w)
		r.send(Order{Kind: OrderSignal, Run: o.Start.Run, Signal: spec.SIGTERM})
		if f := r.next(FactExited, o.Start.Run); f.Code != 6 {
			t.Errorf("%+v", f)
		}
		if log := r.logged(0, "bye"); !strings.HasPrefix(log, "up\n") || strings.Count(log, "up") != 1 {
			t.Errorf("it wrote %q", log)
		}
		r.next(FactEmptied, o.Start.Run)
		r.begin(0, "exit 0")
	})
}

// One that did not come to execute its program was not started.
func TestWithdrawalInTheLastMoment(t *testing.T) {
	r := newRig(t, testConfig{})
	b, err := newEscrow()
	must(t, err)
	defer closeSome(b.in, b.out)
	boot, err := bootID()
	must(t, err)
	v := note{Boot: boot, Run: 41, Program: "web", Index: 0, StartedNS: BootTime(), Cookie: "PROCNANNY_RUN_ID=41"}
	must(t, os.MkdirAll(filepath.Join(r.c.Dir, "keeper"), 0o700))
	must(t, os.WriteFile(filepath.Join(r.c.Dir, "keeper", "41"), append(v.text(), '\n'), 0o600))
	q := r.shell(0, "").Start.Launch
	q.Candidates = []string{"/nowhere"}
	io := launch.NoStdio
	io.Escrow = &launch.Escrow{Socket: b.in, Deposit: []byte("41\n"), Withdrawal: []byte("-41\n")}
	if _, err := launch.Start(&q, io, -1); err == nil {
		t.Fatal("it was started")
	}
	r.raise(&Will{Version: WillVersion, Boot: boot, Origin: OriginDeath, Escrow: b.out})
	got, _ := byRun(r.hello, 41)
	if !got.Emptied || got.Exit.Kind != FactStartFailed || !strings.Contains(got.Exit.Reason, "died while it started this") {
		t.Errorf("%+v", got)
	}
	r.begin(0, "exit 0")
}

// The escrow is empty once control has what is in it, and a start that fails leaves
// nothing there.
func TestEscrowIsEmptied(t *testing.T) {
	r := startRig(t, testConfig{})
	for i := range 300 { // more than it takes
		o := r.shell(i%3, "exit 0")
		if i%3 == 2 {
			o.Start.Launch.Candidates = []string{"/nowhere"}
			r.send(o)
			r.next(FactStartFailed, o.Start.Run)
			continue
		}
		r.send(o)
		r.next(FactEmptied, o.Start.Run)
	}
	r.poll("the escrow to be empty", func() bool {
		n, err := unix.IoctlGetInt(r.conn.estate.escrow, unix.TIOCINQ)
		return err == nil && n == 0
	})
}
