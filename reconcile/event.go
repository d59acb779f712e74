package reconcile

import (
	"slices"
	"time"
)

// EventKind is what we tell others.
type EventKind string

// The events of the core. State events carry the state's name.
const (
	EventState    EventKind = "state"
	EventFlapping EventKind = "flapping"
	EventStable   EventKind = "stable"
	EventHeld     EventKind = "held"
	EventResumed  EventKind = "resumed"
	EventIgnored  EventKind = "ignored" // an impossible pair of state and fact
	EventPending  EventKind = "pending" // the kernel refused a live change
	EventRunEnded EventKind = "run"     // a run is over: Exit
	EventDrained  EventKind = "drained" // what was done before a stop is over: Drain
)

// Event is one thing that others may want to know.
type Event struct {
	Kind  EventKind
	ID    InstanceID
	State State
	From  State
	Run   RunID
	PID   int
	Exit  *Exit
	Cause Cause
	At    time.Time
	// Detail is for people.
	Detail     string
	Generation uint64
	// Attempt counts unplanned ends in a row.
	Attempt int
	// Flap is what a flapping, and its end, was judged by.
	Flap *Flapping
	// Drain is what came of what was done before a stop.
	Drain *Drain
}

// Flapping are the numbers that a verdict was judged by: Ends within Window
// against Count within Within.
type Flapping struct {
	Ends []time.Time
	// Window is how long ago the first of Ends was.
	Window time.Duration
	Count  int
	Within time.Duration
}

// sortEvents orders events of one moment by program and instance, where they
// were gathered from a map.
func sortEvents(events []Event) {
	slices.SortStableFunc(events, func(a, b Event) int { return a.ID.Compare(b.ID) })
}
