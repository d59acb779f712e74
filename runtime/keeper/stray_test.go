package keeper

import (
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// leaver is a program that moves itself out of its cgroup, starts another there
// that has a session of its own and no parent, and hears only KILL.
const leaver = `trap "" TERM
echo $$ > %s || exit 1
setsid sh -c 'trap "" TERM; setsid sh -c "echo pid \$\$; while :; do sleep 30; done" & exit' &
echo up
while :; do sleep 0.02; done`

// Who leaves its cgroup is ended by a stop like others, and so is whom it started
// there; there is no second copy meanwhile, and a keeper after us knows it too.
func TestLeavesItsCgroup(t *testing.T) {
	box, err := newCgroups(t.TempDir())
	if err != nil {
		t.Skip("no cgroup v2 that we may write to:", err)
	}
	box.close(true)
	door := filepath.Join(box.parent, "cgroup.procs")
	for _, adopted := range []bool{false, true} {
		t.Run(fmt.Sprintf("adopted=%v", adopted), func(t *testing.T) {
			r := startRig(t, testConfig{})
			ours := &cgroups{dir: filepath.Join(box.parent, baseName(r.c.Dir))}
			f := r.begin(0, fmt.Sprintf(leaver, door))
			r.logged(0, "up")
			other := grandchild(r)
			if ours.contains(f.PID) || ours.contains(other) {
				t.Fatal("they are still in their cgroup")
			}
			if adopted {
				r.raise(r.orphan())
			}
			o := r.shell(0, "exit 0")
			r.send(o)
			if no := r.next(FactStartFailed, o.Start.Run); no.Errno != int(unix.EBUSY) {
				t.Errorf("a second copy: %+v", no)
			}
			r.send(Order{Kind: OrderSignal, Run: f.Run, Signal: spec.SIGTERM}, Order{Kind: OrderKill, Run: f.Run, Signal: spec.SIGKILL})
			if end := r.next(FactExited, f.Run); end.Signal != spec.SIGKILL {
				t.Errorf("%+v", end)
			}
			r.next(FactEmptied, f.Run)
			if !adopted && alive(other) {
				t.Error("somebody is left")
			}
			if alive(other) { // of an adopted run, one with a session of its own is nobody's
				must(t, unix.Kill(other, unix.SIGKILL))
			}
			next := r.begin(0, "exit 5")
			if end := r.next(FactExited, next.Run); end.Code != 5 {
				t.Errorf("the next run: %+v", end)
			}
		})
	}
}

// Who ends by itself and leaves somebody outside is not over before that one is.
func TestLeavesSomebodyOutside(t *testing.T) {
	box, err := newCgroups(t.TempDir())
	if err != nil {
		t.Skip("no cgroup v2 that we may write to:", err)
	}
	box.close(true)
	r := startRig(t, testConfig{})
	f := r.begin(0, fmt.Sprintf(`(echo $$ > %s; exec setsid sh -c 'echo pid $$; while :; do sleep 30; done') & exit 3`, filepath.Join(box.parent, "cgroup.procs")))
	other := grandchild(r)
	if end := r.next(FactExited, f.Run); end.Code != 3 || end.Left == 0 {
		t.Errorf("%+v", end)
	}
	o := r.shell(0, "exit 0")
	r.send(o)
	if no := r.next(FactStartFailed, o.Start.Run); no.Errno != int(unix.EBUSY) {
		t.Errorf("a second copy: %+v", no)
	}
	r.send(Order{Kind: OrderSweep, Run: f.Run, Signal: spec.SIGTERM})
	r.next(FactEmptied, f.Run)
	if alive(other) {
		t.Error("somebody is left")
	}
}
