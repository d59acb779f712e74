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

// A control that goes on with a stop of all ends the daemon with the code of what began it.
func TestTheCodeOfAStopOutlivesControl(t *testing.T) {
	exit := func(code int, cause reconcile.Cause) *reconcile.Exit {
		return &reconcile.Exit{Code: code, Cause: cause}
	}
	for _, c := range []struct {
		name, when string
		i          reconcile.Instance
		code       int
	}{
		{"it always restarts and has ended", "always", reconcile.Instance{State: reconcile.StateBackoff, LastExit: exit(7, reconcile.CauseCrashed)}, 7},
		{"it always restarts and is stopped", "always", reconcile.Instance{State: reconcile.StateExited, LastExit: exit(9, reconcile.CauseShutdown)}, 0},
		{"it lives", "always", reconcile.Instance{State: reconcile.StateRunning, LastExit: exit(7, reconcile.CauseCrashed)}, 0},
		{"it is done", "never", reconcile.Instance{State: reconcile.StateExited, Finished: "done", LastExit: exit(7, reconcile.CauseCrashed)}, 7},
		{"it would be tried again", "failure", reconcile.Instance{State: reconcile.StateBackoff, LastExit: exit(7, reconcile.CauseCrashed)}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := spec.Program{Policy: spec.Defaults().Policy}
			p.Restart.When.Mode = c.when
			e := exitWhen{}
			v := &reconcile.View{Programs: []*reconcile.ProgramView{{Name: "main", Instances: []*reconcile.InstanceView{{Instance: c.i}}}}}
			if code := e.found(v); code != 0 {
				t.Errorf("code %d without exit_when", code)
			}
			e.wish(spec.Spec{ExitWhen: "main", Programs: map[string]spec.Program{"main": p}})
			if code := e.found(v); code != c.code {
				t.Errorf("code %d, not %d", code, c.code)
			}
			if code := e.found(&reconcile.View{}); code != 0 {
				t.Errorf("code %d of nothing", code)
			}
		})
	}
}
