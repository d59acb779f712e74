package sim

import (
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// Fate decides what nobody orders: how a start goes, how long things are on
// their way. It is asked in the order of time, so a Fate that depends on
// nothing but a seed gives the same history each time.
type Fate interface {
	// Birth is what becomes of a start.
	Birth(id reconcile.InstanceID, run reconcile.RunID) Birth
	// Lag is how long something is on its way.
	Lag(l Lag, id reconcile.InstanceID) time.Duration
	// Preflight says why a program's start would fail; empty is that it would not.
	Preflight(program string) string
	// Tune says what the kernel refuses to change.
	Tune(id reconcile.InstanceID) map[string]string
	// Drain is how stop.before is answered, and after how long; false is never.
	Drain(id reconcile.InstanceID) (reconcile.Drain, time.Duration, bool)
}

// Birth is what becomes of a start.
type Birth struct {
	// Step, Errno and Reason say why it fails; no Reason: it does not.
	Step   string
	Errno  int
	Reason string
	// Lives is how long its main process lives by itself, and Ending how it ends
	// then; 0 is for ever.
	Lives  time.Duration
	Ending Ending
	// Stops is how long it takes to end once it was asked to; Deaf is for ever.
	Stops time.Duration
	Deaf  bool
	// Left is how many others it leaves when it ends, which end by themselves
	// after LeftLive, 0 being never. They hear a signal unless LeftDeaf.
	Left     int
	LeftLive time.Duration
	LeftDeaf bool
}

// Ending is how a process ends.
type Ending struct {
	Code   int // -1 when a signal ended it
	Signal spec.Signal
	Core   bool
}

// Lag is a way that takes time.
type Lag uint8

// The ways.
const (
	LagOrder   Lag = iota // an order, from control to the keeper
	LagNotice             // an end, from the kernel to the keeper
	LagFact               // a fact, from the keeper to control
	LagTurn               // from a message to the engine's turn
	LagTimer              // from a deadline to the engine's turn
	LagControl            // from the end of a control to the next one
	LagFiles              // from the start of a control to its desired state
)

// Calm is a Fate in which all goes well and at once.
type Calm struct{}

// Birth is of a process that lives until it is asked to end.
func (Calm) Birth(reconcile.InstanceID, reconcile.RunID) Birth { return Birth{} }

// Lag is none.
func (Calm) Lag(Lag, reconcile.InstanceID) time.Duration { return 0 }

// Preflight finds nothing wrong.
func (Calm) Preflight(string) string { return "" }

// Tune refuses nothing.
func (Calm) Tune(reconcile.InstanceID) map[string]string { return nil }

// Drain is answered at once.
func (Calm) Drain(reconcile.InstanceID) (reconcile.Drain, time.Duration, bool) {
	return reconcile.Drain{OK: true, Answer: "exit code 0"}, 0, true
}
