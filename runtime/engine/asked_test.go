package engine

import (
	"context"
	"reflect"
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

// What starts, is replaced or ends because of a wish was asked for by whose wish
// it is: until the files, or somebody else, want something else.
func TestWhatFollowsFromAWishIsWhoseWishItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		defer h.run(reconcile.NewWorld())()
		ann, bob := &spec.Requester{How: "rpc", UID: 1001}, &spec.Requester{How: "key", Key: "bob"}
		want := func(command string, count int, by *spec.Requester) {
			d := Desired{Spec: spec.Spec{Programs: map[string]spec.Program{}}, Generation: 1, By: by}
			if count > 0 {
				d.Spec.Programs["web"] = program(command, count)
			}
			if err := h.e.Desire(context.Background(), d); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		check := func(step string, want ...*spec.Requester) {
			t.Helper()
			for n, i := range h.e.View().Programs[0].Instances {
				if !reflect.DeepEqual(i.By, want[n]) {
					t.Errorf("%s: %s by %v, want %v", step, i.ID, i.By, want[n])
				}
			}
		}
		want("/bin/web", 1, nil)
		check("boot", nil)
		want("/bin/web", 2, ann)
		check("ann scales", nil, ann)
		want("/bin/new", 2, bob)
		check("bob sets", bob, bob)
		want("/bin/web", 2, nil)
		check("the file is edited", nil, nil)
		want("/bin/web", 0, ann)
		want("/bin/web", 1, bob)
		check("bob creates what ann deleted", bob)
	})
}
