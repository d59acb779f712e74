package proc

import (
	"slices"
	"syscall"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/spec"
)

// Adopt compares what a keeper holds with what was recorded, for a control
// that starts. It returns the facts that bring the world up to date, to be
// applied as one: a run that lives is adopted, also one that is not on record;
// one that ended meanwhile is exited, and emptied if nobody is left; one that
// the keeper does not know is lost. An end that was recorded already is
// acknowledged; what such a run left behind is killed, for nobody would ask
// about it again. Call it before the first Do.
func (p *Proc) Adopt(h keeper.Hello, w reconcile.World) []reconcile.Fact {
	c := p.clock()
	p.contained.Store(h.Contain == "cgroup")
	held := make(map[reconcile.RunID]*keeper.Run, len(h.Runs))
	for i := range h.Runs {
		held[reconcile.RunID(h.Runs[i].Run)] = &h.Runs[i]
	}
	var facts []reconcile.Fact
	for _, i := range living(w) {
		r := held[i.Run]
		if r == nil || idOf(r) != i.ID {
			facts = append(facts, c.lost(i))
			continue
		}
		delete(held, i.Run)
		facts = append(facts, p.adopt(c, i, r)...)
	}
	var orders []keeper.Order
	for i := range h.Runs {
		r := &h.Runs[i]
		if held[reconcile.RunID(r.Run)] != r {
			continue
		}
		if r.Ended && recorded(w, r) {
			orders = append(orders, p.disown(r))
			continue
		}
		p.c.Log.Warn("adopting a run that is not on record", "instance", idOf(r).String(), "run_id", r.Run, "pid", r.PID, "ended", r.Ended)
		facts = append(facts, p.adopt(c, nil, r)...)
	}
	p.send(orders)
	return facts
}

// lost says what became of a recorded run that the keeper does not know. It
// notes each before it starts it, and lists what was noted until we acknowledge
// it, so one that was only ordered never was.
func (c clock) lost(i *reconcile.Instance) reconcile.Fact {
	f := reconcile.Fact{Kind: reconcile.FactLost, ID: i.ID, Run: i.Run, At: c.wall}
	if i.State == reconcile.StateStarting && i.StartedAt.Before(i.Since) {
		f.Reason = "the order to start it was lost when a process of procnanny died"
	}
	return f
}

// recorded reports whether the end of a run that does not live in the world is
// on record: that of an instance which was forgotten, too, for only what has
// ended is. One that came back since and has not run yet knows no more of it.
func recorded(w reconcile.World, r *keeper.Run) bool {
	if known := instance(w, idOf(r)); known != nil && known.Run != 0 {
		return known.Run >= reconcile.RunID(r.Run)
	}
	return reconcile.RunID(r.Run) < w.NextRun
}

func idOf(r *keeper.Run) reconcile.InstanceID {
	return reconcile.InstanceID{Program: r.Program, Index: r.Index}
}

func instance(w reconcile.World, id reconcile.InstanceID) *reconcile.Instance {
	if g := w.Programs[id.Program]; g != nil {
		return g.Find(id.Index)
	}
	return nil
}

// living are the world's instances that may have a process, by name and index.
func living(w reconcile.World) []*reconcile.Instance {
	var out []*reconcile.Instance
	for _, g := range w.Programs {
		for _, i := range g.Instances {
			if i.Alive() {
				out = append(out, i)
			}
		}
	}
	slices.SortFunc(out, func(a, b *reconcile.Instance) int { return a.ID.Compare(b.ID) })
	return out
}

// adopt says what happened to a run that we do not know the end of; i is what
// was recorded of it, nil for nothing.
func (p *Proc) adopt(c clock, i *reconcile.Instance, r *keeper.Run) []reconcile.Fact {
	id, n := idOf(r), reconcile.RunID(r.Run)
	if !r.Emptied {
		p.mu.Lock()
		known := p.remember(id, n)
		known.startedNS, known.tuned = r.StartedNS, r.TuningDigest
		if i != nil && len(i.Pending) > 0 {
			known.fixes().before = i.Pending
		}
		p.mu.Unlock()
	}
	lives := reconcile.Fact{
		Kind: reconcile.FactAdopted, ID: id, Run: n, At: c.at(r.StartedNS), PID: r.PID,
		Launch: r.LaunchDigest, Tuning: r.TuningDigest, Generation: r.Generation, Stopping: r.Stopping,
	}
	if !r.Ended {
		return []reconcile.Fact{lives}
	}
	exit := r.Exit
	exit.Run, exit.Program, exit.Index, exit.PID = r.Run, r.Program, r.Index, r.PID
	if exit.Kind == keeper.FactStartFailed {
		f := c.fact(&exit)
		if i != nil && exit.Errno == int(syscall.EOWNERDEAD) { // our fault, not the program's
			f.Kind, f.Exit = reconcile.FactLost, &reconcile.Exit{Code: -1, Unknown: true}
			if i.State != reconcile.StateStarting {
				f.Reason = "" // it did run: its note was not finished for another reason
			}
		}
		return []reconcile.Fact{f}
	}
	var facts []reconcile.Fact
	if i != nil && i.State == reconcile.StateStarting && !i.MainGone { // it may not be known that it started
		facts = append(facts, lives)
	}
	exit.Kind, exit.Left = keeper.FactExited, max(exit.Left, 1)
	if r.Emptied {
		exit.Left = 0
	}
	ended := c.fact(&exit)
	ended.Exit.Start, ended.Launch, ended.Tuning, ended.Generation = lives.At, lives.Launch, lives.Tuning, lives.Generation
	facts = append(facts, ended)
	if r.Emptied {
		facts = append(facts, reconcile.Fact{Kind: reconcile.FactEmptied, ID: id, Run: n, At: ended.At})
	}
	return facts
}

// disown ends what is left of a run whose end is on record.
func (p *Proc) disown(r *keeper.Run) keeper.Order {
	if r.Emptied {
		return keeper.Order{Kind: keeper.OrderAck, Run: r.Run, Program: r.Program, Index: r.Index}
	}
	p.c.Log.Warn("killing what an ended run left behind", "instance", idOf(r).String(), "run_id", r.Run)
	p.mu.Lock()
	p.disowned[reconcile.RunID(r.Run)] = true // acknowledged when nobody is left
	p.mu.Unlock()
	return keeper.Order{Kind: keeper.OrderKill, Run: r.Run, Program: r.Program, Index: r.Index, Signal: spec.SIGKILL}
}
