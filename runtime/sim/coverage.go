package sim

import (
	"fmt"
	"strings"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// Coverage counts how often each row of the core's two tables was taken.
type Coverage struct {
	Facts map[reconcile.State]map[reconcile.FactKind]int
	Verbs map[reconcile.State]map[reconcile.Goal]int
}

// NewCoverage returns one that counts from zero.
func NewCoverage() *Coverage {
	return &Coverage{map[reconcile.State]map[reconcile.FactKind]int{}, map[reconcile.State]map[reconcile.Goal]int{}}
}

func (c *Coverage) fact(s reconcile.State, k reconcile.FactKind) {
	if c.Facts[s] == nil {
		c.Facts[s] = map[reconcile.FactKind]int{}
	}
	c.Facts[s][k]++
}

func (c *Coverage) verb(s reconcile.State, g reconcile.Goal) {
	if c.Verbs[s] == nil {
		c.Verbs[s] = map[reconcile.Goal]int{}
	}
	c.Verbs[s][g]++
}

// Fact is told what the core is told: the audit is the engine's witness.
func (a *audit) Fact(w reconcile.World, f reconcile.Fact) {
	if a.cover == nil {
		return
	}
	i := lookup(w, f.ID)
	switch {
	case f.Kind == reconcile.FactPreflight:
		a.coverPreflight(w, f)
		return
	case i == nil && (f.Kind == reconcile.FactAdopted || f.Kind == reconcile.FactExited):
		i = &reconcile.Instance{State: reconcile.StateNew, Run: f.Run}
	case i == nil || i.Run != f.Run && f.Kind != reconcile.FactAdopted:
		return // of another run: it does not come to the table
	}
	kind := f.Kind
	switch {
	case kind == reconcile.FactExited && f.Left > 0:
		kind = reconcile.FactMainExited
	case kind == reconcile.FactAdopted && f.Stopping:
		kind = reconcile.FactAdoptedStopping
	}
	a.cover.fact(i.State, kind)
}

// coverPreflight counts for each instance of the program, which it is about.
func (a *audit) coverPreflight(w reconcile.World, f reconcile.Fact) {
	if p := w.Programs[f.ID.Program]; p != nil {
		for _, i := range p.Instances {
			a.cover.fact(i.State, reconcile.FactPreflight)
		}
	}
}

// orders are the facts that verbs become.
var orders = map[reconcile.Verb]reconcile.FactKind{
	reconcile.VerbStart: reconcile.FactStartOrdered, reconcile.VerbStop: reconcile.FactStopOrdered, reconcile.VerbSettle: reconcile.FactSettled,
}

// Plan is told what the core wants, before it takes effect.
func (a *audit) Plan(w reconcile.World, name string, desired *spec.Program, plan reconcile.Plan) {
	if a.cover == nil {
		return
	}
	changes := map[int]*reconcile.Change{}
	for n := range plan.Changes {
		c := &plan.Changes[n]
		changes[c.ID.Index] = c
		i := lookup(w, c.ID)
		if i == nil {
			i = &reconcile.Instance{ID: c.ID, State: reconcile.StateNew}
			a.cover.verb(i.State, goalOf(w, desired, i, c))
		}
		if kind, ok := orders[c.Verb]; ok && !c.Later {
			a.cover.fact(i.State, kind)
		}
	}
	if p := w.Programs[name]; p != nil {
		for _, i := range p.Instances {
			a.cover.verb(i.State, goalOf(w, desired, i, changes[i.ID.Index]))
		}
	}
}

// goalOf is what an instance shall come to, told from what the core does about
// it and from what is desired.
func goalOf(w reconcile.World, want *spec.Program, i *reconcile.Instance, c *reconcile.Change) reconcile.Goal {
	cycles := c != nil && !c.Later && c.Verb == reconcile.VerbStop && (c.EndCause == reconcile.CauseReplaced || c.EndCause == reconcile.CauseRestart)
	switch {
	case w.ShuttingDown:
		return reconcile.GoalDown
	case want == nil || i.ID.Index >= want.Instances:
		return reconcile.GoalGone
	case want.Admin.IsDown(i.ID.Index):
		return reconcile.GoalDown
	case cycles:
		return reconcile.GoalCycle
	case i.Finished != "" && !w.Booting && (c == nil || c.Verb != reconcile.VerbStart):
		return reconcile.GoalRest
	}
	return reconcile.GoalUp
}

func lookup(w reconcile.World, id reconcile.InstanceID) *reconcile.Instance {
	if p := w.Programs[id.Program]; p != nil {
		for _, i := range p.Instances {
			if i.ID == id {
				return i
			}
		}
	}
	return nil
}

// String is a table of the counts.
func (c *Coverage) String() string {
	var b strings.Builder
	for s := reconcile.StateNew; s < reconcile.StateImpossible; s++ {
		fmt.Fprintf(&b, "%s:", s)
		for k := reconcile.FactStartOrdered; k <= reconcile.FactDrained; k++ {
			if n := c.Facts[s][k]; n > 0 {
				fmt.Fprintf(&b, " %s %d,", k, n)
			}
		}
		for g := reconcile.GoalUp; g <= reconcile.GoalGone; g++ {
			if n := c.Verbs[s][g]; n > 0 {
				fmt.Fprintf(&b, " toward %s %d,", g, n)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
