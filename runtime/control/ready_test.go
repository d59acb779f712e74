package control

import (
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/spec"
)

// What ended while nobody was there to hear of it counts for exit_when, before
// anything is desired; to a daemon that starts it is the past.
func TestExitWhenHearsOfWhatEndedMeanwhile(t *testing.T) {
	for _, c := range []struct {
		name  string
		hello keeper.Hello
		ended bool
	}{
		{"another control", keeper.Hello{}, true},
		{"another keeper, too", keeper.Hello{First: true, Origin: keeper.OriginDeath}, true},
		{"a daemon that starts", keeper.Hello{First: true}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			control := &Control{found: true, cfg: Config{Hello: c.hello}}
			d := &desk{c: control, shelf: shelf{exitWhen: "main", programs: map[string]*spec.Program{"main": {Policy: spec.Defaults().Policy}}}}
			d.remind(reconcile.NewWorld())
			code, ended := control.exitWhen.watch(reconcile.Batch{Events: []reconcile.Event{{
				Kind: reconcile.EventRunEnded, ID: reconcile.InstanceID{Program: "main"}, Cause: reconcile.CauseCrashed, Exit: &reconcile.Exit{Code: 7},
			}}})
			if ended != c.ended || ended && code != 7 {
				t.Errorf("ended: %v, code %d", ended, code)
			}
		})
	}
}

// Others of the program may be left when it ends, and outlive the control that heard
// of the end: the next one, too, tells the code.
func TestExitWhenKnowsACodeThatWasToldBefore(t *testing.T) {
	e, id := exitWhen{}, reconcile.InstanceID{Program: "main"}
	p := spec.Program{Policy: spec.Defaults().Policy}
	p.Restart.When.Mode = "never"
	e.wish(spec.Spec{ExitWhen: "main", Programs: map[string]spec.Program{"main": p}})
	w := reconcile.NewWorld()
	w.Generation, w.Booting, w.NextRun = 1, false, 2
	w.Programs["main"] = &reconcile.Program{Name: "main", Instances: []*reconcile.Instance{{
		ID: id, State: reconcile.StateStopping, Run: 1, MainGone: true, Finished: "done", LastExit: &reconcile.Exit{Run: 1, Code: 7, Cause: reconcile.CauseCrashed},
	}}}
	now := time.Now()
	w, events := reconcile.Apply(w, reconcile.Fact{Kind: reconcile.FactEmptied, ID: id, Run: 1, At: now}, now)
	code, ended := e.watch(reconcile.Batch{Events: events, Changed: w.Programs["main"].Instances})
	if !ended || code != 7 {
		t.Errorf("ended: %v, code %d", ended, code)
	}
}
