package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// Who stops or starts something by a wish is known to whoever records it, and
// an end that nobody asked for is nobody's.
func TestWhoWantsItIsNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		defer h.run(reconcile.NewWorld())()
		ann := &spec.Requester{How: "rpc", UID: 1001}
		want := func(admin spec.Admin, by *spec.Requester) {
			p := program("/bin/web", 2)
			p.Admin = admin
			d := Desired{Spec: spec.Spec{Programs: map[string]spec.Program{"web": p}}, Generation: 1, By: by}
			if err := h.e.Desire(context.Background(), d); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		by := func(index int) *spec.Requester { return h.e.View().Programs[0].Instances[index].By }
		want(spec.Admin{}, nil)
		want(spec.Admin{Index: map[int]bool{1: true}}, ann)
		if got := by(1); got == nil || got.UID != 1001 || by(0) != nil {
			t.Errorf("web/1 was stopped by %v, web/0 by %v", got, by(0))
		}
		want(spec.Admin{}, nil) // its time is over
		if got := by(1); got != nil {
			t.Errorf("nobody started web/1, not %v", got)
		}
	})
}
