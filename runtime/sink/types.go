package sink

import (
	"log/slog"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// Event is a published event as hooks see it.
type Event struct {
	Seq uint64 // 0: it was never published, a drain's
	// Names are what hooks call it: an end is exited, and crashed too.
	Names []string
	// ID is what it is about; Program is empty for the configuration, Index below 0
	// for a program as a whole.
	ID reconcile.InstanceID
	// Ended is whether it tells of the end of a run, with Code or Signal.
	Ended   bool
	Code    int
	Signal  spec.Signal
	Attempt int
	// JSON is the whole of it, for stdin and POST.
	JSON []byte
	// Vars are its fields as variables.
	Vars map[string]string
}

// Command is a command to start: Run is its number in the keeper, where it is
// Name/Index.
type Command struct {
	Name  string
	Index int
	Run   uint64
	Hook  *spec.HookRun
	// Identity is who it runs as.
	Identity spec.Identity
	Event    *Event
	Vars     map[string]string // beside the event's
}

// Held is a command that was started before us.
type Held struct {
	Name  string
	Index int
	Run   uint64
	// At is when it was started; Ended says how it is over, nil if it is not.
	At    time.Time
	Ended *Ended
}

// Ended is how a command ended: Failed when it could not start.
type Ended struct {
	Code   int
	Signal spec.Signal
	Failed string
	At     time.Time
}

// Keeper starts and ends commands. What becomes of them comes back by
// [Hooks.Ended], once nobody is left of it. None of these may block.
type Keeper interface {
	Start(c Command)
	Kill(name string, index int, run uint64)
	// Forget says that the end is written down.
	Forget(name string, index int, run uint64)
	// Drop says that nothing will be started there any more.
	Drop(name string, index int)
}

// Config is what Hooks stand on.
type Config struct {
	// Read lists at most limit events after since, oldest first, without those that
	// no name is wanted of; next is up to where was looked.
	Read func(since uint64, limit int, wanted func(name string) bool) (events []Event, next uint64, err error)
	// Last is the number of the last event.
	Last   func() uint64
	Keeper Keeper
	// Save writes notes down, so that they survive our death; an empty one is gone.
	// Saved are those of before, and Held what the keeper runs of them.
	Save  func(map[string][]byte)
	Saved map[string][]byte
	Held  []Held
	// Tell is told what came of each try. It is called on our goroutine.
	Tell    func(Outcome)
	Version string
	Log     *slog.Logger
}

// Outcome is what came of one try.
type Outcome struct {
	Hook  string
	Event string // what the hook is about
	ID    reconcile.InstanceID
	Seq   uint64 // of the event
	Try   int
	OK    bool
	// Dead is whether it is not tried again.
	Dead   bool
	Answer string
	Took   time.Duration
}

// Dead is an event that a hook failed on for good, until somebody has it retried.
type Dead struct {
	Seq    uint64               `json:"seq"`
	ID     reconcile.InstanceID `json:"id"`
	At     time.Time            `json:"at"`
	Tries  int                  `json:"tries"`
	Answer string               `json:"answer"`
}

// Status is a hook as people see it.
type Status struct {
	ID, Event string
	// Program is whose it is, empty for the top level.
	Program string
	// Action is run or webhook.
	Action string
	// What is the command, or scheme and host of the webhook.
	What string
	// Waiting counts events that are due, Running those of them at work.
	Waiting, Running int
	// Behind is whether so many are due that the rest wait in the history.
	Behind bool
	// Done and Failed count tries since this process began.
	Done, Failed uint64
	Last         *Outcome
	LastAt       time.Time
	Dead         []Dead
	// DeadDropped counts those that no longer fit the list.
	DeadDropped uint64
}

// Bounds.
const (
	perHook   = 4   // at work at once
	maxActive = 32  // commands at work at once, of all hooks
	maxDue    = 256 // of one hook in memory; the rest waits in the history
	maxAll    = 16384
	maxDead   = 100
	pageLen   = 512
	inboxLen  = 1024
	savePos   = 1000 // events that are looked at again after our death, at most
)
