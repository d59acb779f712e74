package reconcile

import "github.com/procnanny/procnanny/spec"

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
