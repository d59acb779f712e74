package proc

import (
	"slices"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/spec"
)

// Adopt compares what a keeper holds with what was recorded, for a control
// that starts. It returns the facts that bring the world up to date: a run that
// lives is adopted; one that ended meanwhile is adopted, then exited, then (if
// nobody is left) emptied; one that the keeper does not know is lost.
//
// What the keeper holds and the world does not know, or knows to be over, must
// not stay beside what will be started: it is killed, and forgotten once it is
// gone. Call it before the first Do.
func (p *Proc) Adopt(h keeper.Hello, w reconcile.World) []reconcile.Fact {
	c := newClock()
	held := make(map[reconcile.RunID]*keeper.Run, len(h.Runs))
	for i := range h.Runs {
		held[reconcile.RunID(h.Runs[i].Run)] = &h.Runs[i]
	}
	var facts []reconcile.Fact
	for _, i := range living(w) {
		r := held[i.Run]
		if r == nil || r.Program != i.ID.Program || r.Index != i.ID.Index {
			facts = append(facts, reconcile.Fact{Kind: reconcile.FactLost, ID: i.ID, Run: i.Run, At: c.wall})
			continue
		}
		delete(held, i.Run)
		facts = append(facts, p.adopt(c, i.ID, r)...)
	}
	p.disown(h.Runs, held)
	return facts
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
	slices.SortFunc(out, func(a, b *reconcile.Instance) int {
		if a.ID.Program != b.ID.Program {
			if a.ID.Program < b.ID.Program {
				return -1
			}
			return 1
		}
		return a.ID.Index - b.ID.Index
	})
	return out
}

func (p *Proc) adopt(c clock, id reconcile.InstanceID, r *keeper.Run) []reconcile.Fact {
	n := reconcile.RunID(r.Run)
	exit := r.Exit
	exit.Run, exit.Program, exit.Index = r.Run, r.Program, r.Index
	if r.Ended && exit.Kind == keeper.FactStartFailed {
		return []reconcile.Fact{c.fact(&exit)}
	}
	facts := []reconcile.Fact{{
		Kind: reconcile.FactAdopted, ID: id, Run: n, At: c.at(r.StartedNS), PID: r.PID,
		Launch: r.LaunchDigest, Tuning: r.TuningDigest, Stopping: r.Stopping,
	}}
	if r.Ended {
		exit.Kind = keeper.FactExited
		facts = append(facts, c.fact(&exit))
	}
	if r.Emptied {
		return append(facts, reconcile.Fact{Kind: reconcile.FactEmptied, ID: id, Run: n, At: c.at(exit.AtNS)})
	}
	p.mu.Lock()
	p.remember(id, n).startedNS = r.StartedNS
	p.mu.Unlock()
	return facts
}

// disown ends what nobody will ask about again.
func (p *Proc) disown(runs []keeper.Run, orphans map[reconcile.RunID]*keeper.Run) {
	var orders []keeper.Order
	for i := range runs {
		r := &runs[i]
		if orphans[reconcile.RunID(r.Run)] != r {
			continue
		}
		if !r.Emptied {
			p.c.Log.Warn("killing a process that is not on record", "program", r.Program, "instance", r.Index, "run_id", r.Run, "pid", r.PID)
			orders = append(orders, keeper.Order{Kind: keeper.OrderKill, Run: r.Run, Program: r.Program, Index: r.Index, Signal: spec.SIGKILL})
		}
		orders = append(orders, keeper.Order{Kind: keeper.OrderAck, Run: r.Run})
	}
	p.send(orders)
}

// NextRun is the first run id that neither the world nor the keeper has used.
func NextRun(h keeper.Hello, w reconcile.World) reconcile.RunID {
	next := w.NextRun
	for i := range h.Runs {
		next = max(next, reconcile.RunID(h.Runs[i].Run)+1)
	}
	return next
}
