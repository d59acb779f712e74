package reconcile

import (
	"time"

	"github.com/procnanny/procnanny/spec"
)

// FactKind is what happened to an instance. The zero value is unset.
type FactKind uint8

// The facts. Ordered ones are our own verbs taking effect; the rest come from
// the kernel, a probe or a deadline.
const (
	FactUnset        FactKind = iota
	FactStartOrdered          // a start was handed to the keeper
	FactStopOrdered           // a stop was handed to the keeper
	FactSettled               // VerbSettle took effect
	FactStarted               // exec succeeded: PID, At
	FactStartFailed           // exec did not: Step, Errno, Reason
	FactReady                 // known good: min_uptime passed, or readiness
	FactExited                // the main process ended: Exit; Left says how many others live
	FactEmptied               // nobody is left in the containment
	FactDeadline              // Instance.Until passed
	FactAdopted               // the keeper says this run lives (control was restarted)
	FactLost                  // the keeper does not know this run: its end is unknown
	FactTuned                 // live tuning was tried: Refused, Tuning
	FactPreflight             // program-wide: a preflight of Launch ended; Reason empty is good
	// These three are never sent: Apply makes them out of those above, so that the
	// table needs no condition.
	FactMainExited      // FactExited with Left above 0
	FactAdoptedStopping // FactAdopted with Stopping
	FactDelayed         // policy wants it again, but later: Until

	FactDrained // stop.before was answered: Drain
)

// Fact is something that happened. A fact of another run than the instance's
// current one is ignored.
type Fact struct {
	Kind FactKind
	ID   InstanceID
	Run  RunID
	// At is when it happened (not when it was learnt); zero is now. For
	// FactAdopted it is when the run's exec succeeded.
	At time.Time
	// Booted is when the machine was booted, by the clock that At (and Exit.At) is
	// read from, which somebody may set before the fact is applied; zero: not known.
	Booted time.Time
	PID    int
	// Exit is set for FactExited, and for a FactLost of which nobody knows whether it
	// ever was. Its Run, PID, Start, Generation, Duration and Cause are filled in by
	// Apply.
	Exit *Exit
	// Left is how many other processes of the containment live: FactExited.
	Left int
	// Step and Errno say what failed: FactStartFailed.
	Step  string
	Errno int
	// Reason is for people: FactStartFailed, FactPreflight (empty is good), FactLost
	// (it never was, and why; with Exit, why nobody knows that; empty is that it was,
	// and nobody knows how it ended).
	Reason string
	// Launch is the digest a preflight was about, or that a run has which was adopted,
	// or had which has ended and is perhaps not on record.
	Launch spec.Digest
	// Tuning is the digest that FactTuned was about, or that such a run has.
	Tuning spec.Digest
	// Refused maps tuning keys the kernel refused to the reason: FactTuned.
	Refused map[string]string
	// Change is set for the ordered facts.
	Change *Change
	// Generation is what such a run started under; 0 is unknown.
	Generation uint64
	// Stopping is set for FactAdopted when a stop was already ordered.
	Stopping bool
	// Drain is what came of it: FactDrained. Took is filled in by Apply.
	Drain *Drain
}
