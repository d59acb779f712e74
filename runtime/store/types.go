package store

import (
	"log/slog"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// Config is what a Store stands on.
type Config struct {
	// StateDir survives a reboot; RunDir only our processes (a tmpfs).
	StateDir string
	RunDir   string
	// BootID is the kernel's random/boot_id: it tells whether processes that
	// were recorded can still live.
	BootID string
	// BootedAt is when that boot was, by the wall clock; zero asks the kernel. Runs
	// that a boot ended, ended then at the latest; and when it is another time than
	// before in the same boot, the clock was set.
	BootedAt time.Time
	// Now is the wall clock; nil is time.Now. Uptime is how long the machine runs,
	// by a clock that nobody sets; nil asks the kernel.
	Now    func() time.Time
	Uptime func() time.Duration
	Log    *slog.Logger
	// Keep bounds the history; zero fields take their default.
	Keep Keep
	// Lost is told, in words, what could not be kept while running. It is
	// called from a goroutine of the store and may call the store. Nil: the log.
	Lost func(what string)
}

// Keep bounds the history. Whichever bound is met first holds.
type Keep struct {
	Events         int           // 1,000,000
	EventBytes     int64         // 256 MiB, but at most a twentieth of the file system
	RunsPerProgram int           // 10,000
	RunBytes       int64         // as EventBytes; the program with the most gives first
	Age            time.Duration // 90 days, runs and events
}

// Recovered is what was found.
type Recovered struct {
	// World is what was recorded last. Programs have no Spec: desired state
	// comes with the first Diff.
	World reconcile.World
	// Rebooted is true when what was recorded is of another boot: no process of
	// it lives, and the runs that did have ended (Ended).
	Rebooted    bool
	Ended       []Run
	Overrides   []spec.Override
	Generations []Generation // oldest first, without Spec
	Pinned      uint64
	// Notes are those that were given to SetNotes last.
	Notes map[string][]byte
	// Loss names, for people, what was lost or put aside. To be told as events.
	Loss []string
}

// Draft is an event before it has its number.
type Draft struct {
	Topic string
	Time  time.Time
	// Encode makes the body. It is called once, in Record, and must not call
	// the store.
	Encode func(seq, prev uint64) []byte
}

// Event is a numbered event. Prev is the number of the last one before it on
// the same topic; 0 when there was none or it is no longer kept.
type Event struct {
	Seq, Prev uint64
	Time      time.Time
	Topic     string
	Body      []byte
}

// Run is one process life.
type Run struct {
	ID  reconcile.InstanceID `json:"id"`
	Run reconcile.RunID      `json:"run"`
	PID int                  `json:"pid,omitempty"`
	// Start is when exec succeeded; when it did not, when that was found.
	Start time.Time `json:"start"`
	End   time.Time `json:"end"` // zero while it lives
	// Exit says how and why it ended; nil while it lives.
	Exit       *reconcile.Exit `json:"exit,omitempty"`
	StartCause reconcile.Cause `json:"start_cause,omitempty"`
	Generation uint64          `json:"generation,omitempty"`
	// Commit is the git commit of the generation, as far as it was known.
	Commit string `json:"commit,omitempty"`
	// By is who asked for the start and EndBy for the end; nil is policy.
	By    *spec.Requester `json:"by,omitempty"`
	EndBy *spec.Requester `json:"end_by,omitempty"`
}

// RunQuery selects the newest Limit runs of one program.
type RunQuery struct {
	Program  string
	Instance *int      // nil: every instance
	Since    time.Time // runs that lived then or later; zero: all
	Until    time.Time // runs that began then or before; zero: all
	Limit    int       // at most 10,000; 0 is 1000
	// Select says whether a run is meant; nil: every one.
	Select func(*Run) bool
}

// Generation is one accepted configuration.
type Generation struct {
	Number uint64
	Digest string
	Commit string
	At     time.Time
	By     spec.Requester
	// Programs and Instances count what it desires; AddGeneration counts them.
	Programs  int
	Instances int
	// Spec is what it said. Store.Generation fills it in; lists leave it out.
	Spec spec.Spec
	// Shared are the programs of Spec, where the caller keeps them and nobody changes
	// them: then AddGeneration encodes only those that it did not have the last time.
	Shared map[string]*spec.Program `json:"-"`
	// Source is the files it was made of, to judge overrides by; as Spec.
	Source spec.Source
	// Defined says where the files define each program; as Spec.
	Defined map[string]string `json:",omitempty"`
}
