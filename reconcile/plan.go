package reconcile

import (
	"time"

	"github.com/procnanny/procnanny/spec"
)

// Change is one line of a plan: an instance, what is done, and why.
type Change struct {
	ID   InstanceID `json:"id"`
	Verb Verb       `json:"verb"`
	// What is for people and scripts: start, stop, replace, restart, live,
	// settle, forget, wait, and of a stop under way signal, sweep and kill.
	What   string `json:"what"`
	Reason string `json:"reason"`
	// Keys are the keys that differ, for replace and live.
	Keys []string `json:"keys,omitempty"`
	// Run is the id a start will have.
	Run RunID `json:"run_id,omitempty"`
	// StartCause and EndCause are recorded with the run.
	StartCause Cause `json:"start_cause,omitempty"`
	EndCause   Cause `json:"end_cause,omitempty"`
	// Launch and Tuning are the digests a start or a retune brings.
	Launch spec.Digest `json:"-"`
	Tuning spec.Digest `json:"-"`
	// Until is the deadline that the change sets, if any.
	Until time.Time `json:"-"`
	// Waits are the programs that a start is put off for.
	Waits string `json:"-"`
	// Action is what a stop does now: ActionDrain, ActionSignal, ActionSweep or
	// ActionKill.
	Action ActionKind `json:"-"`
	// Rolling marks a stop or start that a roll waits for.
	Rolling bool `json:"-"`
	// Later marks a change that waits for others (a roll): foretold, not yet
	// ordered, and without an action.
	Later bool `json:"later,omitempty"`
}

// ActionKind is what must be done outside.
type ActionKind uint8

// The actions.
const (
	ActionUnset     ActionKind = iota
	ActionStart                // start Run of ID as the desired program says
	ActionSignal               // Signal to the stop scope (main's process group)
	ActionKill                 // the escalation signal to the whole containment, until it is empty
	ActionSweep                // Signal to what is left after the main process ended
	ActionTune                 // bring Tuning to the live run
	ActionPreflight            // check that the desired launch of ID.Program would start
	ActionForget               // drop what is kept for ID (log file, containment)
	ActionPoke                 // a person's signal to the main process only
	ActionDrain                // do Before, and say FactDrained: Signal follows
)

// Action is one thing to do.
type Action struct {
	Kind   ActionKind
	ID     InstanceID
	Run    RunID
	Signal spec.Signal
	// Launch and Tuning are the digests it is about.
	Launch spec.Digest
	Tuning spec.Digest
	// At is when the action was decided.
	At time.Time
	// Before is what to do, and Cause why the stop was ordered: ActionDrain.
	Before *spec.Before
	Cause  Cause
}

// Plan is what Diff found: what changes, what to do now, and when to look again.
type Plan struct {
	Changes []Change
	Actions []Action
	// By is who wants it so, for whoever commits the plan to say: those that start
	// or end because of it are asked for by them. Nil are the files, or time.
	By *spec.Requester
	// Wake is the earliest deadline in the world; zero is none.
	Wake time.Time
	// programs are what Commit must remember of each program looked at.
	programs []programChange
}

// Empty reports whether desired and observed agree.
func (p Plan) Empty() bool { return len(p.Changes) == 0 && len(p.Actions) == 0 }
