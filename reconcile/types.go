package reconcile

import (
	"fmt"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// InstanceID names one copy of a program: web/0.
type InstanceID struct {
	Program string `json:"program" msgpack:"program"`
	Index   int    `json:"instance" msgpack:"instance"`
}

func (id InstanceID) String() string { return fmt.Sprintf("%s/%d", id.Program, id.Index) }

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
	CauseStop       Cause = "stop"
	CauseReplaced   Cause = "replaced"
	CauseRestart    Cause = "restart"
	CauseScaledDown Cause = "scaled down"
	CauseRemoved    Cause = "removed"
	CauseShutdown   Cause = "shutdown"
	CauseNoStart    Cause = "could not start"
	CauseLost       Cause = "unknown"
)

// Exit is how a run ended.
type Exit struct {
	Code   int         `json:"code"`   // -1 when a signal ended it
	Signal spec.Signal `json:"signal"` // 0 unless a signal ended it
	Core   bool        `json:"core"`
	// Unknown is true when the kernel could not tell; nothing is guessed then.
	Unknown  bool          `json:"unknown,omitempty"`
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
}

// Instance is all we know of one instance.
type Instance struct {
	ID    InstanceID `json:"id"`
	State State      `json:"state"`
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
	Ends     []time.Time `json:"ends,omitempty"`
	Flapping bool        `json:"flapping,omitempty"`
	// Finished is why policy lets it rest: "", "done" or "gave up".
	Finished string `json:"finished,omitempty"`
	// Cycle is set while a person's restart of this run is owed.
	Cycle bool `json:"cycle,omitempty"`
	// Rolling is set from the stop of the old process of a replacement until
	// the new one is running.
	Rolling bool `json:"rolling,omitempty"`
	// Escalated is set once KILL was ordered.
	Escalated bool `json:"escalated,omitempty"`
	// EndCause is why a stop was ordered; the run's end takes it.
	EndCause Cause `json:"end_cause,omitempty"`
	// StartCause is why the current or next run starts.
	StartCause Cause `json:"start_cause,omitempty"`
	// By is who asked for the current or last start or stop; nil is policy.
	By *spec.Requester `json:"by,omitempty"`
	// MainGone is set while stopping when the main process has ended and only
	// others of its containment are left.
	MainGone bool  `json:"main_gone,omitempty"`
	LastExit *Exit `json:"last_exit,omitempty"`
	// Pending maps a tuning key that the kernel refused to change to the reason.
	Pending map[string]string `json:"pending,omitempty"`
}

// Alive reports whether a process of it may exist.
func (i *Instance) Alive() bool {
	return i.State == StateStarting || i.State == StateRunning || i.State == StateStopping
}

// Program is all we know of one program: its instances and its roll.
type Program struct {
	Name string
	// Instances are sorted by index.
	Instances []*Instance
	// Target is the launch digest that the last Diff wanted.
	Target spec.Digest
	// Preflight is what is known of Target: PreflightUnknown, Asked, Good, Bad.
	Preflight PreflightState
	// Held is why the roll does not go on; empty while it does.
	Held string
	// RetryAt is when a bad preflight is asked again.
	RetryAt time.Time
	// Spec is the desired program of the last Diff; its policy judges exits.
	// Nil for a program that is gone from desired.
	Spec *spec.Program
}

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
	// ShuttingDown makes every goal GoalDown.
	ShuttingDown bool
}

// Fact is something that happened. A fact of another run than the instance's
// current one is ignored.
type Fact struct {
	Kind FactKind
	ID   InstanceID
	Run  RunID
	// At is when it happened (not when it was learnt).
	At  time.Time
	PID int
	// Exit is set for FactExited. Its Run, PID, Start, Generation, Duration and
	// Cause are filled in by Apply.
	Exit *Exit
	// Left is how many other processes of the containment live: FactExited.
	Left int
	// Step and Errno say what failed: FactStartFailed.
	Step  string
	Errno int
	// Reason is for people: FactStartFailed, FactPreflight (empty is good).
	Reason string
	// Launch is the digest a preflight was about, or that an adopted run has.
	Launch spec.Digest
	// Tuning is the digest that FactTuned was about.
	Tuning spec.Digest
	// Refused maps tuning keys the kernel refused to the reason: FactTuned.
	Refused map[string]string
	// Change is set for the ordered facts.
	Change *Change
	// Stopping is set for FactAdopted when a stop was already ordered.
	Stopping bool
}

// CommandKind is what a person asked for that moves the world itself. What
// changes desired state (scale, stop, set, ...) is an override instead.
type CommandKind uint8

// The commands.
const (
	CommandUnset CommandKind = iota
	// CommandRestart owes every matching living instance a new process, and
	// starts what rests or backs off. Down instances are skipped and say so.
	CommandRestart
	// CommandStart makes what finished, gave up or backs off start now.
	CommandStart
	// CommandSignal sends Signal to the main process.
	CommandSignal
	// CommandForce lets a held roll go on.
	CommandForce
	// CommandShutdown stops everything.
	CommandShutdown
)

// Command is what a person said.
type Command struct {
	Kind    CommandKind
	Targets []InstanceID
	Program string // CommandForce: one program, or all when empty
	Signal  spec.Signal
	By      spec.Requester
}

// Outcome is what a command will do to one instance: Reason is empty when it
// is done or on its way, else why not.
type Outcome struct {
	ID     InstanceID
	Reason string
}

// Change is one line of a plan: an instance, what is done, and why.
type Change struct {
	ID   InstanceID `json:"id"`
	Verb Verb       `json:"verb"`
	// What is for people and scripts: start, stop, replace, live, forget, wait.
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
}

// Plan is what Diff found: what changes, what to do now, and when to look again.
type Plan struct {
	Changes []Change
	Actions []Action
	// Wake is the earliest deadline in the world; zero is none.
	Wake time.Time
}

// Empty reports whether desired and observed agree.
func (p Plan) Empty() bool { return len(p.Changes) == 0 && len(p.Actions) == 0 }

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
}
