package reconcile

import (
	"time"

	"github.com/procnanny/procnanny/spec"
)

// NewWorld is a world in which nothing ever ran.
func NewWorld() World {
	return World{Programs: map[string]*Program{}, NextRun: 1, Booting: true}
}

// Apply says what a fact means.
func Apply(w World, f Fact, now time.Time) (World, []Event) { panic("not written yet") }

// Execute says what a person's command means.
func Execute(w World, c Command, now time.Time) (World, []Event, []Action, []Outcome) {
	panic("not written yet")
}

// Diff says what must be done next so that w becomes s.
func Diff(s spec.Spec, w World, now time.Time) Plan { panic("not written yet") }

// DiffProgram is Diff of one program; desired is nil when s does not have it.
func DiffProgram(name string, desired *spec.Program, w World, now time.Time) Plan {
	panic("not written yet")
}

// Commit lets the changes of a plan take effect in w: each becomes its ordered
// fact. The caller then carries out p.Actions.
func Commit(w World, p Plan, now time.Time) (World, []Event) { panic("not written yet") }

// Check reports the first way in which w cannot be.
func Check(w World) error { panic("not written yet") }

// Due lists the instances of p whose deadline is not after now.
func Due(p *Program, now time.Time) []InstanceID { panic("not written yet") }

// Wake is the next time at which p must be looked at again; zero is never.
func Wake(p *Program, now time.Time) time.Time { panic("not written yet") }
