package control

import (
	"cmp"
	"context"
	"runtime/debug"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/runtime/lean"
	"github.com/procnanny/procnanny/runtime/proc"
	"github.com/procnanny/procnanny/spec"
)

// observeEach is how often living programs are looked at without a reason, on the
// beat.
const observeEach = time.Minute

// observer asks the kernel what it says of living programs.
type observer struct {
	c    *Control
	ask  chan chan error
	poke chan struct{}
}

func newObserver(c *Control) *observer {
	return &observer{c: c, ask: make(chan chan error), poke: make(chan struct{}, 1)}
}

// run looks at the beginning, once a minute, and when somebody asks.
func (o *observer) run(ctx context.Context) {
	tick := time.NewTimer(lean.Beat(observeEach))
	defer tick.Stop()
	if err := o.look(ctx); err != nil && ctx.Err() == nil { // what was found alive
		o.c.log.Warn("cannot observe", "error", err)
	}
	for {
		select {
		case <-o.poke:
			if err := o.look(ctx); err != nil && ctx.Err() == nil {
				o.c.log.Warn("cannot observe", "error", err)
			}
		case <-tick.C:
			tick.Reset(lean.Beat(observeEach))
			if err := o.look(ctx); err != nil && ctx.Err() == nil {
				o.c.log.Warn("cannot observe", "error", err)
			}
			debug.FreeOSMemory() // a look at a thousand makes 3 MiB of garbage, and the next thing may be the next look
		case reply := <-o.ask:
			reply <- o.look(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// soon has it looked once more. It never blocks.
func (o *observer) soon() {
	select {
	case o.poke <- struct{}{}:
	default:
	}
}

// output publishes that output cannot be written, or is again, and has status
// say so.
func (o *observer) output(f proc.OutputFact) {
	event := "flows"
	switch {
	case f.Reason != "" && f.Dropping:
		event = "dropping"
	case f.Reason != "":
		event = "blocked"
	}
	o.c.emit(instanceTopic("full", f.ID), rpc.Map{
		{Key: "event", Value: event},
		{Key: "program", Value: f.ID.Program},
		{Key: "instance", Value: f.ID.Index},
		{Key: "source", Value: cmp.Or(f.Stream, rpc.SourceMerged)},
		{Key: "run_id", Value: uint64(f.Run)},
		{Key: "reason", Value: f.Reason},
		{Key: "dropped", Value: f.Dropped},
	})
	o.soon()
}

// now looks at once.
func (o *observer) now(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case o.ask <- reply:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (o *observer) look(ctx context.Context) error {
	v := o.c.engine.View()
	list := looksOf(v, func(i *reconcile.InstanceView) bool { return i.Alive() && i.PID > 0 && !i.MainGone })
	return o.c.engine.Observe(ctx, time.Now(), o.tell(v, o.c.proc.Observe(list)))
}

// desired has what runs, also what is on its way, follow what is desired now.
func (o *observer) desired() {
	o.c.proc.Desired(looksOf(o.c.engine.View(), func(i *reconcile.InstanceView) bool { return i.Run != 0 }))
}

func looksOf(v *reconcile.View, wanted func(*reconcile.InstanceView) bool) (list []proc.Look) {
	for _, p := range v.Programs {
		var program *spec.Program
		if p.Defined {
			program = p.Spec
		}
		for _, i := range p.Instances {
			if wanted(i) {
				list = append(list, proc.Look{ID: i.ID, Run: i.Run, PID: i.PID, Program: program})
			}
		}
	}
	return list
}

// tell publishes drift that was not there at the last look.
func (o *observer) tell(v *reconcile.View, found []reconcile.Observation) []reconcile.Observation {
	before := map[reconcile.InstanceID]map[string]string{}
	for _, p := range v.Programs {
		for _, i := range p.Instances {
			if len(i.Drift) > 0 {
				before[i.ID] = i.Drift
			}
		}
	}
	for _, f := range found {
		for key, how := range f.Drift {
			if before[f.ID][key] != how {
				o.c.emit(instanceTopic("drift", f.ID), driftFields(f, key, how))
			}
		}
	}
	return found
}
