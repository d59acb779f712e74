package reconcile

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// InstanceID names one copy of a program: web/0.
type InstanceID struct {
	Program string `json:"program" msgpack:"program"`
	Index   int    `json:"instance" msgpack:"instance"`
}

func (id InstanceID) String() string { return fmt.Sprintf("%s/%d", id.Program, id.Index) }

// Compare orders instances by program and index.
func (id InstanceID) Compare(o InstanceID) int {
	return cmp.Or(strings.Compare(id.Program, o.Program), cmp.Compare(id.Index, o.Index))
}

// RunID counts process lives; it never repeats in a daemon's history.
type RunID uint64

// State is where an instance is. The zero value is unset, never a state.
type State uint8

// The states of the 2011 table.
const (
	StateUnset    State = iota
	StateNew            // no process yet
	StateStarting       // ordered or living, not yet known good
	StateRunning        // good
	StateStopping       // on its way to nobody left
	StateExited         // nobody left
	StateBackoff        // nobody left, waiting for its next start
	// StateImpossible is no state: it stands in the fact table for a pair that
	// cannot come to pass. Such a fact moves nothing and becomes EventIgnored.
	StateImpossible
)

// Goal is what an instance shall come to; Diff derives it anew each time.
type Goal uint8

// The goals.
const (
	GoalUnset Goal = iota
	GoalUp         // running, as it is
	GoalCycle      // stopped, then running anew: replaced or restarted
	GoalDown       // stopped, kept
	GoalRest       // ended by policy (done, gave up): nothing until a start
	GoalGone       // stopped, then forgotten
)

// Verb is the one next thing to do toward a goal.
type Verb uint8

// The verbs.
const (
	VerbUnset  Verb = iota
	VerbNone        // nothing: it is there, or on its way
	VerbStart       // order a start
	VerbStop        // order a stop
	VerbWait        // a deadline (Until) will say
	VerbSettle      // nobody runs and nobody shall: call it exited
	VerbForget      // take the instance out of the world
)

// Cause is why a run started or ended.
type Cause string

// Causes of a start.
const (
	CauseBoot    Cause = "boot"
	CauseConfig  Cause = "config change"
	CauseScale   Cause = "scale"
	CauseCrash   Cause = "restart after exit"
	CauseCommand Cause = "command"
)

// Causes of an end.
const (
	CauseExit       Cause = "exit"  // by itself, a success
	CauseCrashed    Cause = "crash" // by itself, not a success
	CauseOOM        Cause = "out of memory"
	CauseStop       Cause = "stop"
	CauseReplaced   Cause = "replaced"
	CauseRestart    Cause = "restart"
	CauseScaledDown Cause = "scaled down"
	CauseRemoved    Cause = "removed"
	CauseShutdown   Cause = "shutdown"
	CauseNoStart    Cause = "could not start"
	CauseLost       Cause = "unknown"
)

// Crash reports whether a run that ended so ended by itself and badly, or never
// began.
func (c Cause) Crash() bool { return c == CauseCrashed || c == CauseOOM || c == CauseNoStart }

// Exit is how a run ended.
type Exit struct {
	Code   int         `json:"code"`            // -1 when a signal ended it
	Signal spec.Signal `json:"signal,omitzero"` // 0 unless a signal ended it
	Core   bool        `json:"core"`
	// Unknown is true when the kernel could not tell; nothing is guessed then.
	Unknown bool `json:"unknown,omitempty"`
	// OutOfMemory is true when the kernel killed it for want of memory, as far as
	// its cgroup tells.
	OutOfMemory bool `json:"out_of_memory,omitempty"`

	At       time.Time     `json:"at"`
	Duration time.Duration `json:"duration"` // from exec
	Cause    Cause         `json:"cause"`
	// Error is the step and errno when it could not start.
	Error string `json:"error,omitempty"`
	// Run, PID, Start and Generation are of the run that ended.
	Run        RunID     `json:"run_id"`
	PID        int       `json:"pid"`
	Start      time.Time `json:"start,omitzero"`
	Generation uint64    `json:"generation"`
	// CPU is the time on a CPU, and PeakMemory the largest resident set in bytes,
	// of the main process and the children it waited for; 0 is not known.
	CPU        time.Duration `json:"cpu,omitempty"`
	PeakMemory int64         `json:"peak_memory,omitempty"`
	// Drain is what came of what was done before the stop; nil: nothing was.
	Drain *Drain `json:"drain,omitempty"`
}

// Drain is what came of stop.before.
type Drain struct {
	// OK is whether it did what it was to do.
	OK bool `json:"ok"`
	// Answer says so in words: "exit code 0", "200 OK", "no answer within 10s".
	Answer string        `json:"answer"`
	Took   time.Duration `json:"took"`
}

// Instance is all we know of one instance.
type Instance struct {
	ID InstanceID `json:"id"`
	// Run is the current run, or the last one when nobody runs; 0 is none yet.
	Run RunID `json:"run_id"`
	// PID is of the current run, or of the last one; 0 is none yet.
	PID int `json:"pid"`
	// Since is when State was entered.
	Since time.Time `json:"since"`
	// Until is the one deadline of this instance; zero is none. What it means
	// is the state's: min_uptime, stop timeout, next start.
	Until time.Time `json:"until,omitzero"`
	// StartedAt is when the current or last run's exec succeeded.
	StartedAt time.Time `json:"started_at,omitzero"`
	// Launch and Tuning are what the current run has.
	Launch spec.Digest `json:"launch,omitempty"`
	Tuning spec.Digest `json:"tuning,omitempty"`
	// Generation is the configuration the current or last run started under.
	Generation uint64 `json:"generation,omitempty"`
	// Starts counts exec attempts over the instance's whole life.
	Starts int `json:"starts"`
	// Attempt counts unplanned ends since the last long run: backoff and give_up.
	Attempt int `json:"attempt,omitempty"`
	// Ends are the times of unplanned ends, the newest last, at most flap.count.
	Ends []time.Time `json:"ends,omitempty"`
	// Finished is why policy lets it rest: "", "done" or "gave up".
	Finished string `json:"finished,omitempty"`
	// Waits names the programs that it waits for, by start.after, to be started.
	Waits string `json:"waits,omitempty"`
	// Held is why this one's replacement did not get to run, until the roll that
	// it holds goes on or is over; so a hold outlives control.
	Held string `json:"held,omitempty"`
	// EndCause is why a stop was ordered; the run's end takes it.
	EndCause Cause `json:"end_cause,omitempty"`
	// StartCause is why the current or next run starts.
	StartCause Cause `json:"start_cause,omitempty"`
	// By is who asked for the current or last start or stop; nil is policy.
	By *spec.Requester `json:"by,omitempty"`
	// Drain says what came of what stop.before says.
	Drain    *Drain `json:"drain,omitempty"`
	LastExit *Exit  `json:"last_exit,omitempty"`
	// Pending maps a tuning key that the kernel refused to change to the reason.
	Pending map[string]string `json:"pending,omitempty"`

	// What is small stands together: there are thousands of instances, and pictures of
	// them, and each of these between two large ones would take eight bytes.

	State State `json:"state"`
	// Tune is how far the order to bring Tuning to the living run is.
	Tune TuneState `json:"tune,omitempty"`
	// Owed is the next step of its stop, due now: ActionSignal after what was done
	// before it, ActionSweep or ActionKill.
	Owed     ActionKind `json:"owed,omitempty"`
	Flapping bool       `json:"flapping,omitempty"`
	// Cycle is set while a person's restart of this run is owed.
	Cycle bool `json:"cycle,omitempty"`
	// AtOnce means that Cycle does not wait for its turn in a roll.
	AtOnce bool `json:"at_once,omitempty"`
	// Rolling is set from the stop of the old process of a replacement until
	// the new one is running.
	Rolling bool `json:"rolling,omitempty"`
	// Unjudged is set when a run ended before its program's policy was known
	// (control was away): the next Diff's policy judges it.
	Unjudged bool `json:"unjudged,omitempty"`
	// Draining is set while what stop.before says is awaited: nobody has asked the
	// process to end yet.
	Draining bool `json:"draining,omitempty"`
	// Escalated is set once stop.escalate was ordered: KILL or, while Until is set,
	// another signal that KILL follows.
	Escalated bool `json:"escalated,omitempty"`
	// MainGone is set while stopping when the main process has ended and only
	// others of its containment are left.
	MainGone bool `json:"main_gone,omitempty"`
	// Revoked is set while it is stopping because a person stopped it, once its
	// program was removed: if it starts again, the files ask for that.
	Revoked bool `json:"revoked,omitempty"`
}

// TuneState is how far a live change is.
type TuneState uint8

// The states of a live change.
const (
	TuneSettled TuneState = iota // nothing was ordered, or the kernel's answer is known
	TuneAsked                    // ordered, and not yet known what the kernel made of it
	TuneLost                     // the answer went to a control that died: ask again
)

// Alive reports whether a process of it may exist.
func (i *Instance) Alive() bool {
	return i.State == StateStarting || i.State == StateRunning || i.State == StateStopping
}

// Program is all we know of one program: its instances and its roll.
type Program struct {
	Name string
	// Instances are sorted by index.
	Instances []*Instance
	// Target is the launch digest that the last Diff wanted; empty when the
	// program is gone from desired.
	Target spec.Digest
	// Preflight is what is known of Target: PreflightUnknown, Asked, Good, Bad.
	Preflight PreflightState
	// Held is why the roll does not go on; empty while it does.
	Held   string
	heldBy holder
	// RetryAt is when the roll is looked at again: a preflight that was bad, or that
	// nobody answered, is asked again then.
	RetryAt time.Time
	// Spec is the desired program of the last Diff that had one; its policy
	// judges exits. Nil until then: a recovered world knows instances only.
	Spec *spec.Program
	// recalled is what was desired last, until Spec is known: see Recall.
	recalled *spec.Program
	// Forced is the Target that a person forced: what fails there holds nothing.
	Forced spec.Digest
	// tuning is the tuning digest of Spec, kept beside Target because digests
	// are dear: both hold as long as Spec is the same pointer.
	tuning spec.Digest
	// past are the desired programs before Spec, the newest first, so that a
	// plan can say what differs from what an old process has.
	past []version
}

// holder is what holds a roll, and so what lets it go on beside an edit and a
// person's force.
type holder uint8

const (
	holderNone      holder = iota
	holderPreflight        // a good preflight
	holderFailed           // nothing else
	holderGaveUp           // when what gave up is started, or goes away
)

// PreflightState is what is known of a new launch before an old process is
// stopped for it.
type PreflightState uint8

// The preflight states.
const (
	PreflightUnknown PreflightState = iota
	PreflightAsked
	PreflightGood
	PreflightBad
)

// World is what is. Make one with NewWorld.
type World struct {
	Programs map[string]*Program
	// NextRun is the id of the next run.
	NextRun RunID
	// Generation is the accepted configuration that starts belong to.
	Generation uint64
	// Booting is true until the first Diff after a start of the daemon ran:
	// starts are caused by boot.
	Booting bool
	// ShuttingDown makes every goal GoalDown, in the order that start.after gives.
	ShuttingDown bool
	// shutBy is who asked for that; nil is nobody that we know of.
	shutBy *spec.Requester
	// waiters are the programs that name another in start.after, by that one's
	// name: what Program.Spec says, the other way round.
	waiters map[string][]string
}
