package keeper

import (
	"github.com/procnanny/procnanny/runtime/launch"
	"github.com/procnanny/procnanny/spec"
)

// Version of the protocol between keeper and control. A keeper answers a
// control of another version with its own Hello and nothing else.
const Version = 1

// OrderKind is what control asks of the keeper.
type OrderKind uint8

// The orders.
const (
	OrderUnset     OrderKind = iota
	OrderStart               // Start
	OrderSignal              // Run, Signal: main's process group
	OrderPoke                // Run, Signal: the main process only
	OrderSweep               // Run, Signal: everything left in the containment
	OrderKill                // Run, Signal: the whole containment, until it is empty
	OrderTune                // Run, Tuning, Digest
	OrderOutput              // Program, Index, Output: new rotation policy
	OrderPreflight           // Start.Program, Start.Launch, Digest
	OrderForget              // Program, Index: close and remove what is kept for it
	OrderAck                 // Run: control has recorded the end of this run
	OrderShutdown            // nothing lives any more: exit 0
	OrderReady               // control answers status: tell NOTIFY_SOCKET
	OrderList                // Version in Run: answer with a Fact of kind FactHello
	OrderLean                // nothing is going on: give memory back
	OrderStop                // somebody asked control to stop everything: as TERM, also where that leaves programs
)

// Order is one request of control.
type Order struct {
	Kind    OrderKind
	Run     uint64
	Program string
	Index   int
	Signal  spec.Signal
	Start   *Start
	Tuning  *spec.Tuning
	Output  *Output
	Digest  spec.Digest
	// Holds, with OrderList: control keeps duplicates of the descriptors of
	// runs, for the next keeper.
	Holds bool
	// Code, with OrderShutdown, is the exit code of the daemon.
	Code int
}

// Start is everything the keeper needs to start one instance.
type Start struct {
	Program string
	Index   int
	Run     uint64
	Launch  launch.Request
	Output  Output
	// LaunchDigest and TuningDigest come back in the list of runs.
	LaunchDigest spec.Digest
	TuningDigest spec.Digest
	Generation   uint64
	// Input is what the process finds on its stdin, instead of Launch.Stdin.
	Input string
}

// Output is the part of a program's output that its processes do not see.
type Output struct {
	RotateBytes int64
	Keep        int
	Drop        bool
	Timestamps  bool
	AgeNS       int64
	TotalBytes  int64
}

// FactKind is what the keeper tells control.
type FactKind uint8

// The facts.
const (
	FactUnset       FactKind = iota
	FactHello                // Runs, Boot, Containment: the answer to a new control, and to OrderList
	FactStarted              // exec succeeded
	FactStartFailed          // Step, Errno, Reason
	FactExited               // the main process ended
	FactEmptied              // nobody is left
	FactTuned                // Digest, Refused
	FactPreflight            // Program, Digest, Reason (empty is good)
	FactAsked                // Signal: somebody sent us TERM, INT (stop; or OrderStop came) or HUP (read again)
	FactHeld                 // Hello.Runs with Held and Note; their descriptors came with it. Conn keeps it to itself
	FactFarewell             // the keeper ends on purpose: no other is to be raised. Conn keeps it to itself
	FactOutput               // Stream, Reason, Dropping, Dropped: output cannot be written, or (no Reason) is again
)

// Fact is one thing the keeper knows.
type Fact struct {
	Kind    FactKind
	Run     uint64
	Program string
	Index   int
	PID     int
	// AtNS is when, CLOCK_BOOTTIME in nanoseconds.
	AtNS   int64
	Code   int // -1 when a signal ended it
	Signal spec.Signal
	Core   bool
	Left   int // other living processes of the containment
	Step   string
	Errno  int
	Reason string
	Digest spec.Digest
	// Refused maps a tuning key to why the kernel refused it.
	Refused map[string]string
	Hello   *Hello
	// Unknown is true when the kernel could not say how it ended: FactExited.
	Unknown bool
	// CPUNS is the time on a CPU, in nanoseconds, and PeakBytes the largest
	// resident set of the main process and the children it waited for: FactExited.
	// 0 is not known.
	CPUNS     int64
	PeakBytes int64
	// Stream ("", stdout, stderr), Dropping (else it waits in the pipe) and
	// Dropped, all bytes since the keeper began: FactOutput.
	Stream   string
	Dropping bool
	Dropped  int64
	// OutOfMemory is true when KILL ended it and the kernel had killed for want of
	// memory in its cgroup since its start: FactExited.
	OutOfMemory bool
}

// Hello is everything the keeper knows, for a control that starts.
type Hello struct {
	Version  int
	BootID   string
	PID      int // the keeper's own
	Binary   string
	Contain  string // how descendants are found: "cgroup" or "sweep"
	Degraded string // why, when it is not "cgroup"
	Runs     []Run
	// Asked is TERM once somebody asked to stop everything.
	Asked spec.Signal
	// NoFile is the keeper's hard limit of open descriptors; Reserved of them
	// are its own. Every instance costs 1 for its pidfd and 1 for each pipe.
	NoFile   uint64
	Reserved uint64
	// More is true when another Hello with more of Runs follows.
	More bool
	// Locks is how many descriptors of locks came first: FactHeld.
	Locks int
	// Exec is what to execute when this keeper dies; empty is nothing.
	Exec string
	// Supervised is true when somebody else starts the daemon again.
	Supervised bool
	// Release is the keeper's version, as people name it.
	Release string
	// Origin is how this keeper came to be, see Will.Origin, and Raised how many
	// before it died young.
	Origin string
	Raised int
	// First is true for the first control of this keeper.
	First bool
	// Escrow is how many descriptors of the escrow came behind the locks: FactHeld.
	Escrow int
}

// Run is a process life the keeper holds: alive, or ended and not yet
// acknowledged.
type Run struct {
	Run          uint64
	Program      string
	Index        int
	PID          int
	StartedNS    int64 // CLOCK_BOOTTIME
	LaunchDigest spec.Digest
	TuningDigest spec.Digest
	Generation   uint64
	// Stopping is true once a stop signal was ordered.
	Stopping bool
	// Ended is true once the main process is gone: Exit says how.
	Ended bool
	// Emptied is true once nobody is left.
	Emptied bool
	Exit    Fact
	// Held, in FactHeld, says which descriptors came: bit 0 the pidfd, 1 and 2
	// the pipes. Note is the run's note.
	Held uint8
	Note string
}
