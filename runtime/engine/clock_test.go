package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// When the clock is set, all that is remembered goes with it: here the clock
// stays, so what was due in a while is due that much later, or at once.
func TestTheClockIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		defer h.run(reconcile.NewWorld())()
		h.dies["web"] = 100 * time.Millisecond
		programs := map[string]spec.Program{"web": program("/bin/web", 1), "ok": program("/bin/ok", 2)}
		web, ok := reconcile.InstanceID{Program: "web"}, reconcile.InstanceID{Program: "ok"}
		check := func() {
			synctest.Wait() // in the middle of a turn the record is behind
			h.check(programs)
		}
		starts := func(id reconcile.InstanceID) int {
			defer h.quietly()()
			return len(h.starts[id])
		}
		recorded := func() reconcile.Instance {
			defer h.quietly()()
			return h.instances[ok]
		}
		h.desire(programs)
		time.Sleep(10 * time.Minute)
		check()
		began := recorded().StartedAt
		set := func(d time.Duration) int {
			h.set.Store(int64(d))
			if err := h.e.Facts(context.Background(), nil); err != nil { // anything lets it look
				t.Fatal(err)
			}
			check()
			return starts(web)
		}
		before := set(24 * time.Hour)
		if i := recorded(); !i.StartedAt.Equal(began.Add(24*time.Hour)) || i.State != reconcile.StateRunning {
			t.Errorf("ok is recorded as %+v; it began %v", i, began)
		}
		time.Sleep(23 * time.Hour)
		if check(); starts(web) != before {
			t.Error("it was started before its time")
		}
		time.Sleep(2 * time.Hour)
		if check(); starts(web) < before+100 {
			t.Errorf("it was started %d times only", starts(web)-before)
		}
		before = starts(web)
		set(-24 * time.Hour)
		time.Sleep(time.Second)
		if check(); starts(web) == before {
			t.Error("it is due, and was not started")
		}
		if n := starts(ok); n != 1 {
			t.Errorf("ok was started %d times", n)
		}
	})
}
