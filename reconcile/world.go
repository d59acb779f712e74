package reconcile

import (
	"slices"
	"sort"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// NewWorld is a world in which nothing ever ran.
func NewWorld() World {
	return World{Programs: map[string]*Program{}, NextRun: 1, Booting: true}
}

// Find returns instance index of p; nil is that there is none.
func (p *Program) Find(index int) *Instance {
	if n, ok := p.place(index); ok {
		return p.Instances[n]
	}
	return nil
}

// place is where instance index is, or would be.
func (p *Program) place(index int) (int, bool) {
	n := sort.Search(len(p.Instances), func(n int) bool { return p.Instances[n].ID.Index >= index })
	return n, n < len(p.Instances) && p.Instances[n].ID.Index == index
}

// insert puts an instance into its place. At the end, where scaling up puts
// them, that is O(1).
func (p *Program) insert(i *Instance) {
	n, _ := p.place(i.ID.Index)
	p.Instances = slices.Insert(p.Instances, n, i)
}

// program returns the program of that name, made when missing.
func (w *World) program(name string) *Program {
	p := w.Programs[name]
	if p == nil {
		p = &Program{Name: name}
		w.Programs[name] = p
	}
	return p
}

// instance returns the program and the instance that id names; nil for what
// is not there.
func (w *World) instance(id InstanceID) (*Program, *Instance) {
	p := w.Programs[id.Program]
	if p == nil {
		return nil, nil
	}
	return p, p.Find(id.Index)
}

// defaults is the policy for what no configuration that we know of defines.
var defaults = spec.Defaults()

// policy is what judges the ends and stops of p's instances.
func (p *Program) policy() *spec.Policy {
	if p := p.known(); p != nil {
		return &p.Policy
	}
	return &defaults.Policy
}

// judgeable is whether policy is p's own. An end is judged at once where it can be:
// what tells of it says whether it is done, or gave up, and calls their hooks.
func (p *Program) judgeable() bool { return p.known() != nil }

// known is what is desired of p, as far as that is known; nil is not.
func (p *Program) known() *spec.Program {
	switch {
	case p == nil:
		return nil
	case p.Spec != nil:
		return p.Spec
	}
	return p.recalled
}

// Recall tells a recovered world what was desired last, for what comes before the
// first Diff: how an end is judged, how long a stop has, and who waits for
// whom when the first thing that is asked is to stop everything.
func Recall(w World, s spec.Spec) World {
	for name, p := range w.Programs {
		if desired, ok := s.Programs[name]; ok && p.Spec == nil {
			w.await(name, p.recalled, &desired)
			p.recalled = &desired
		}
	}
	return w
}

// stableAt is when a flapping instance will have proved stable; zero is never.
func (i *Instance) stableAt(pol *spec.Policy) time.Time {
	if !i.Flapping || i.State != StateRunning {
		return time.Time{}
	}
	return i.Since.Add(pol.Restart.Flap.Within.D())
}

// next is the next moment at which i is due; zero is none.
func (i *Instance) next(pol *spec.Policy) time.Time { return earlier(i.until(pol), i.stableAt(pol)) }

// until is the deadline that i has under a policy: min_uptime counts as it is now,
// and until a new control knows the policy, Until may be by the default one.
func (i *Instance) until(pol *spec.Policy) time.Time {
	if i.State != StateStarting || i.StartedAt.IsZero() {
		return i.Until
	}
	return i.StartedAt.Add(pol.Start.MinUptime.D())
}

// due reports whether a deadline has come; zero is none.
func due(at, now time.Time) bool { return !at.IsZero() && !at.After(now) }

// earlier is the earlier of two deadlines; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Due lists the instances of p whose deadline is not after now.
func Due(p *Program, now time.Time) []InstanceID {
	if p == nil {
		return nil
	}
	var out []InstanceID
	pol := p.policy()
	for _, i := range p.Instances {
		if due(i.next(pol), now) {
			out = append(out, i.ID)
		}
	}
	return out
}

// Wake is the next time at which p must be looked at again; zero is never. It
// may lie in the past: then it is due now.
func Wake(p *Program) time.Time {
	if p == nil {
		return time.Time{}
	}
	at := p.RetryAt
	pol := p.policy()
	for _, i := range p.Instances {
		at = earlier(at, i.next(pol))
	}
	return at
}
