package control

import (
	"context"
	"sync/atomic"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// exitWhen ends the daemon when a certain program has ended: `exit_when`.
type exitWhen struct {
	// want is the program, and whether its first end counts; set by the desk,
	// read in the engine's turns.
	want atomic.Pointer[exitWish]
}

type exitWish struct {
	program string
	// first is true when its policy always restarts it: then the first end
	// counts, for there is no last one.
	first bool
}

// wish takes over what a specification says.
func (e *exitWhen) wish(s spec.Spec) {
	w := &exitWish{program: s.ExitWhen}
	if p, ok := s.Programs[s.ExitWhen]; ok {
		w.first = p.Restart.When.Mode == "always" && p.Restart.GiveUp == 0
	}
	e.want.Store(w)
}

// unplanned are the ends that nobody ordered.
var unplanned = map[reconcile.Cause]bool{
	reconcile.CauseExit: true, reconcile.CauseCrashed: true, reconcile.CauseOOM: true, reconcile.CauseLost: true,
}

// watch looks at the events of a turn and says whether the end that was waited
// for is among them, and how that was.
func (e *exitWhen) watch(b reconcile.Batch) (code int, ended bool) {
	w := e.want.Load()
	if w == nil || w.program == "" {
		return 0, false
	}
	for i := range b.Events {
		ev := &b.Events[i]
		switch {
		case ev.ID.Program != w.program:
		case ev.Kind == reconcile.EventRunEnded && w.first && unplanned[ev.Cause]:
			code, ended = exitCode(ev.Exit), true
		case ev.Kind == reconcile.EventState && ev.State == reconcile.StateExited && reconcile.Rests(ev.Detail):
			code, ended = exitCode(lastExit(b, ev.ID)), true
		}
	}
	return code, ended
}

// lastExit is how an instance ended that changed in a turn. The event of that end may
// have been told before, by a control before us, when others of it were left.
func lastExit(b reconcile.Batch, id reconcile.InstanceID) *reconcile.Exit {
	for _, i := range b.Changed {
		if i.ID == id {
			return i.LastExit
		}
	}
	return nil
}

// found is the code of a stop of all that a control before us was at: the program's,
// where its end is why. One that is stopped with the others has no such end.
func (e *exitWhen) found(v *reconcile.View) (code int) {
	w := e.want.Load()
	if w == nil {
		return 0
	}
	p := v.Program(w.program)
	if p == nil {
		return 0
	}
	for _, i := range p.Instances {
		if x := i.LastExit; x != nil && !i.Alive() && (i.Finished != "" || w.first && unplanned[x.Cause]) {
			code = exitCode(x)
		}
	}
	return code
}

// exitCode is a program's end as a shell tells it; 1 when it could not start or
// nobody knows.
func exitCode(x *reconcile.Exit) int {
	switch {
	case x == nil || x.Error != "" || x.Unknown:
		return 1
	case x.Signal != 0:
		return 128 + int(x.Signal)
	}
	return x.Code
}

// resume looks, once something is desired again, whether the program rests
// already. To a daemon that starts this is the past: the program starts again.
// To a control that starts it is what its predecessor died over.
func (c *Control) resume(ctx context.Context) {
	w := c.exitWhen.want.Load()
	p := c.engine.View().Program(w.program)
	if w.program == "" || p == nil {
		return
	}
	for _, i := range p.Instances {
		switch {
		case i.Finished == "" || i.State != reconcile.StateExited || i.Down:
		case c.afresh():
			cmd := reconcile.Command{Kind: reconcile.CommandStart, Targets: []reconcile.InstanceID{i.ID}, By: spec.Requester{How: exitWhenKey}}
			if _, err := c.engine.Command(ctx, cmd); err != nil {
				c.log.Warn("cannot start the program that the daemon ends with", "instance", i.ID.String(), "error", err)
			}
		default:
			c.finish(ending{stop: true, code: exitCode(i.LastExit), by: spec.Requester{How: exitWhenKey}})
		}
	}
}

const exitWhenKey = "exit_when"
