package reconcile

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// View is an immutable picture of everything, swapped whole by the engine.
// Programs are sorted by name; an unchanged program keeps its *ProgramView, so
// encoders can cache by pointer.
type View struct {
	Programs []*ProgramView
	Config   ConfigView
	// ObservedAt is when observed values were read last.
	ObservedAt time.Time
	Version    string
	KeeperPID  int
	ControlPID int
}

// Program is the program of that name; nil is that there is none.
func (v *View) Program(name string) *ProgramView {
	n, ok := slices.BinarySearchFunc(v.Programs, name, func(p *ProgramView, name string) int { return strings.Compare(p.Name, name) })
	if !ok {
		return nil
	}
	return v.Programs[n]
}

// ConfigView is the state of the configuration.
type ConfigView struct {
	State      string // ok, rejected
	Generation uint64
	Digest     string
	Commit     string
	// Error is the first problem as one line; Problems are all of them.
	Error    string
	Problems spec.Problems
	// Pinned is the generation a rollback pinned; 0 is none.
	Pinned uint64
	// Ahead is true when the files say something else than what runs.
	Ahead bool
	// Stalled is since when the keeper is stopped, so that nothing is done; zero
	// is that it is not.
	Stalled time.Time
}

// ProgramView is one program, immutable.
type ProgramView struct {
	Name string
	// Spec is shared with others, and nobody's to change; never nil.
	Spec *spec.Program
	// Defined is whether it is desired: not while it is being removed, nor after a
	// restart of control before anything is desired again.
	Defined bool
	// Overrides are those in force on it.
	Overrides []spec.Override
	// Generation is the configuration it is held to: the one accepted last. What a
	// process runs under is its instance's.
	Generation uint64
	Flapping   bool
	Held       string
	// Instances are sorted by index; an unchanged one keeps its pointer.
	Instances []*InstanceView
}

// Instance is instance index; nil is that there is none.
func (p *ProgramView) Instance(index int) *InstanceView {
	n, ok := slices.BinarySearchFunc(p.Instances, index, func(i *InstanceView, index int) int { return cmp.Compare(i.ID.Index, index) })
	if !ok {
		return nil
	}
	return p.Instances[n]
}

// InstanceView is one instance, immutable.
type InstanceView struct {
	Instance
	Down bool
	// Containment names how descendants are found, and why when degraded.
	Containment string
	// Observed are the values that the kernel reported last, by tuning key, and
	// Drift those that differ from what the spec sets.
	Observed map[string]json.RawMessage
	Drift    map[string]string
	Output   OutputState
}
