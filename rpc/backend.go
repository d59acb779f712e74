package rpc

import (
	"context"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// Backend is what the methods stand on: the engine behind its inbox. Each
// method returns at once with what will happen, unless it says it waits. What
// changes desired state returns when View shows it: `wait` judges the pictures
// that come after. View and Overrides are called on the thread that serves
// everybody, so they never wait.
type Backend interface {
	// View is the current immutable picture; it never waits for the engine.
	View() *View
	// Fresh reads observed values from the kernel now, then returns the picture.
	Fresh(ctx context.Context) (*View, error)
	// Wait returns the first picture that ok accepts, or ctx's error.
	Wait(ctx context.Context, ok func(*View) bool) (*View, error)
	// Command hands a command of the core to the engine.
	Command(ctx context.Context, c reconcile.Command) ([]reconcile.Outcome, error)
	// Override sets overrides (all or none) after the files' own constraints
	// allowed them. It fills in what each Replaced: only it knows the files.
	Override(ctx context.Context, os []spec.Override) error
	// Reset takes overrides of a program away, as one change: those of field, or
	// all when field is empty; program "" is every program. That a program was
	// created is taken away by its name, spec.FieldProgram, with all else that was
	// set of it. It returns what it took.
	Reset(ctx context.Context, program, field string, by spec.Requester) ([]spec.Override, error)
	// Overrides lists those in force.
	Overrides() []spec.Override
	// Plan shows what applying src would do; nil is the daemon's own files.
	Plan(ctx context.Context, src *spec.Source) (PlanReply, error)
	// Apply applies what the files say now. A digest that is not empty must be
	// the one that Plan gave, or it is refused as stale. force lets held rolls
	// go on; allowEmpty accepts a configuration without any program.
	Apply(ctx context.Context, o ApplyOptions) (ApplyReply, error)
	// Generations lists the kept ones, oldest first.
	Generations() ([]Generation, error)
	// GenerationSpec is what generation n said.
	GenerationSpec(n uint64) (spec.Spec, error)
	// Rollback pins generation n until the files' digest changes.
	Rollback(ctx context.Context, n uint64, by spec.Requester) (ApplyReply, error)
	// Runs lists the newest q.Limit runs, past and living, oldest first.
	Runs(ctx context.Context, q RunQuery) ([]Run, error)
	// Events lists published events after seq, oldest first.
	Events(ctx context.Context, since uint64, limit int) ([]Event, error)
	// Upgrade replaces the control process (and what else can be) by the
	// binaries that are installed now; no program is touched.
	Upgrade(ctx context.Context) error
	// Shutdown stops everything and ends the daemon.
	Shutdown(ctx context.Context, by spec.Requester) error
}

// ApplyOptions are the arguments of apply.
type ApplyOptions struct {
	Digest     string
	Force      bool
	AllowEmpty bool
	By         spec.Requester
}

// ApplyReply says what apply or rollback did.
type ApplyReply struct {
	Generation uint64             `msgpack:"generation" json:"generation"`
	Digest     string             `msgpack:"digest" json:"digest"`
	Changes    []reconcile.Change `msgpack:"changes" json:"changes"`
	Changed    bool               `msgpack:"changed" json:"changed"`
}

// PlanReply is a plan: the same plan has the same digest.
type PlanReply struct {
	Digest     string             `msgpack:"digest" json:"digest"`
	Changes    []reconcile.Change `msgpack:"changes" json:"changes"`
	Problems   spec.Problems      `msgpack:"problems" json:"problems"`
	Generation uint64             `msgpack:"generation" json:"generation"`
}

// Generation is one accepted configuration.
type Generation struct {
	Number uint64         `msgpack:"generation" json:"generation"`
	Digest string         `msgpack:"digest" json:"digest"`
	Commit string         `msgpack:"commit" json:"commit"`
	At     time.Time      `msgpack:"-" json:"at"`
	By     spec.Requester `msgpack:"by" json:"by"`
	// Programs and Instances count what it desires.
	Programs  int `msgpack:"programs" json:"programs"`
	Instances int `msgpack:"instances" json:"instances"`
}

// RunQuery selects runs.
type RunQuery struct {
	Program  string
	Instance *int
	Since    time.Time
	// Until leaves out what began later; zero is now.
	Until time.Time
	// Outcome selects by the cause of the end, see Outcomes; empty is all.
	Outcome string
	Limit   int
}

// Run is one process life.
type Run struct {
	ID         reconcile.InstanceID
	Run        reconcile.RunID
	PID        int
	Start      time.Time
	End        time.Time // zero while it lives
	Exit       *reconcile.Exit
	StartCause reconcile.Cause
	Generation uint64
	// Commit is the git commit of the generation, as far as it was known.
	Commit string
	By     *spec.Requester
	// StartedBy is who asked for the start, where By is about the end.
	StartedBy *spec.Requester
}

// Event is a published event: Topic, and the map without seq, prev, time and
// topic, which EncodeEvent adds.
type Event struct {
	Seq   uint64
	Prev  uint64
	Time  time.Time
	Topic string
	// Fields are in the order they are written.
	Fields []Field
	// Body is the whole encoded map, when it comes from the store.
	Body Raw
}

// Message is an event as it goes to subscribers.
type Message struct {
	Topic string
	Body  []byte
	// Legacy is the single frame of 2011. It is made of Body when it is nil and
	// somebody subscribed to such frames.
	Legacy []byte
}

// Field is one key of a map whose order matters on the wire.
type Field struct {
	Key   string
	Value any
}

// The picture's types are the core's: the engine builds them, we only read.
type (
	// View is an immutable picture of everything.
	View = reconcile.View
	// ConfigView is the state of the configuration.
	ConfigView = reconcile.ConfigView
	// ProgramView is one program of a View.
	ProgramView = reconcile.ProgramView
	// InstanceView is one instance of a ProgramView.
	InstanceView = reconcile.InstanceView
)
