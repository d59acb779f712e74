package engine

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// A control that comes while everything is being stopped goes on with that as the
// programs say, and starts nothing of what has ended.
func TestANewControlGoesOnStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		stop := h.run(reconcile.NewWorld())
		web := program("/bin/web", 2)
		web.Stop.Signal, web.Stop.Timeout = spec.Signal(syscall.SIGINT), spec.Duration(time.Minute)
		programs := map[string]spec.Program{"web": web, "db": program("/bin/db", 3)}
		h.desire(programs)
		time.Sleep(time.Minute)
		stop()
		h.takeOrders()
		h.deaf["web"] = true
		delete(h.live, reconcile.InstanceID{Program: "db", Index: 1})

		defer h.run(h.world())()
		ctx := context.Background()
		err := h.e.Facts(ctx, h.adopted())
		if err == nil {
			err = h.e.Desire(ctx, Desired{Spec: spec.Spec{Programs: programs}, Generation: 1, Ending: true})
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		h.desire(programs) // what is read of the files later does not change that
		time.Sleep(time.Hour)
		got := map[string]map[reconcile.ActionKind]int{"web": {}, "db": {}}
		for _, o := range h.takeOrders() {
			got[o.ID.Program][o.Kind]++
			if o.ID.Program == "web" && o.Kind == reconcile.ActionSignal && o.Signal != web.Stop.Signal {
				t.Errorf("web is stopped by %v", o.Signal)
			}
		}
		if w := got["web"]; len(w) != 2 || w[reconcile.ActionSignal] != 2 || w[reconcile.ActionKill] != 2 {
			t.Errorf("web: %v", w)
		}
		if d := got["db"]; len(d) != 1 || d[reconcile.ActionSignal] != 2 {
			t.Errorf("db: %v", d)
		}
	})
}

// Nor does it forget who waits for whom.
func TestANewControlStopsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		stop := h.run(reconcile.NewWorld())
		web := program("/bin/web", 1)
		web.Start.After = map[string]string{"db": spec.AfterRunning}
		desired := spec.Spec{Programs: map[string]spec.Program{"web": web, "db": program("/bin/db", 1)}}
		h.desire(desired.Programs)
		time.Sleep(time.Minute)
		stop()
		h.takeOrders()
		h.deaf["web"] = true // it takes ten seconds to end

		defer h.run(reconcile.Recall(h.world(), desired))()
		ctx := context.Background()
		err := h.e.Facts(ctx, h.adopted())
		if err == nil {
			err = h.e.Desire(ctx, Desired{Spec: desired, Generation: 1, Ending: true})
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		var order []string
		for _, o := range h.takeOrders() {
			order = append(order, o.ID.Program+" "+o.Kind.String())
		}
		if got := strings.Join(order, ", "); got != "web signal, web kill, db signal" {
			t.Errorf("the orders were: %s", got)
		}
	})
}

// What is edited while everything is being stopped may let go of a program that
// others waited for: it is stopped then, and not forgotten.
func TestAnEditWhileStoppingLetsGo(t *testing.T) {
	without := map[string]func(map[string]spec.Program){
		"start.after": func(m map[string]spec.Program) { m["web"] = program("/bin/web", 1) },
		"the program": func(m map[string]spec.Program) { delete(m, "web") },
		"both":        func(m map[string]spec.Program) { clear(m) },
	}
	for name, edit := range without {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				defer h.run(reconcile.NewWorld())()
				web := program("/bin/web", 1)
				web.Start.After = map[string]string{"db": spec.AfterRunning}
				programs := map[string]spec.Program{"web": web, "db": program("/bin/db", 1)}
				h.desire(programs)
				time.Sleep(time.Minute)
				h.deaf["web"] = true
				if _, err := h.e.Command(context.Background(), reconcile.Command{Kind: reconcile.CommandShutdown}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				edit(programs)
				h.desire(programs)
				time.Sleep(time.Hour)
				for _, p := range h.e.View().Programs {
					for _, i := range p.Instances {
						if i.Alive() {
							t.Errorf("%s is %v", i.ID, i.State)
						}
					}
				}
			})
		})
	}
}
