package reconcile

import (
	"encoding/json"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// Order is an action with what an executor needs to carry it out.
type Order struct {
	Action
	// Program is the desired program; nil for one that is gone from desired.
	Program    *spec.Program
	Generation uint64
}

// Observation is what the kernel said about a run.
type Observation struct {
	ID  InstanceID
	Run RunID
	// Observed are values by tuning key, in the file's JSON form; Drift says in
	// words how those that the spec sets differ.
	Observed map[string]json.RawMessage
	Drift    map[string]string
	Output   OutputState
}

// OutputState is how it goes with writing a run's output to its files.
type OutputState struct {
	// Fault is why it cannot be written now, in words; empty: it can.
	Fault string
	// Dropped is how many bytes were dropped, as far as we have heard.
	Dropped int64
}

// Roll is what a program itself knows that must outlive whoever holds the world;
// the rest is found out again, or its instances know it.
type Roll struct {
	Target    spec.Digest    `json:"target,omitempty"`
	Preflight PreflightState `json:"preflight,omitempty"`
	Held      string         `json:"held,omitempty"`
	RetryAt   time.Time      `json:"retry_at"`
	Forced    spec.Digest    `json:"forced,omitempty"`
}

// Roll is what is to be remembered of p.
func (p *Program) Roll() Roll { return Roll{p.Target, p.Preflight, p.Held, p.RetryAt, p.Forced} }

// SetRoll is for a world that is made anew from what was remembered.
func (p *Program) SetRoll(r Roll) {
	p.Target, p.Preflight, p.Held, p.RetryAt, p.Forced = r.Target, r.Preflight, r.Held, r.RetryAt, r.Forced
}

// Batch is what one turn of the engine changed, for whoever writes it down.
type Batch struct {
	// Changed are the instances as they are now; Gone are those forgotten.
	Changed []*Instance
	Gone    []InstanceID
	Events  []Event
	// Programs are those whose Roll changed.
	Programs []*Program
	// NextRun is the world's counter after the turn.
	NextRun RunID
	// ClockSet is by how much the wall clock was set before the turn, and with it
	// every time that the world remembers: all instances are in Changed then.
	ClockSet time.Duration
}
