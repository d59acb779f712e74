package control

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/runtime/engine"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/lean"
	"github.com/procnanny/procnanny/runtime/output"
	"github.com/procnanny/procnanny/runtime/place"
	"github.com/procnanny/procnanny/runtime/proc"
	"github.com/procnanny/procnanny/runtime/store"
	"github.com/procnanny/procnanny/runtime/watch"
	"github.com/procnanny/procnanny/spec"
)

// Transport carries replies and events; cmd wires the sockets.
type Transport interface {
	// Publish hands events to whoever subscribed. It never blocks.
	Publish(list []rpc.Message)
	// Subscribed reports whether somebody may want an event whose topic begins
	// with prefix, and OnSubscribe calls changed whenever that may have changed;
	// changed must not block.
	Subscribed(prefix string) bool
	OnSubscribe(changed func())
	// Traffic is what it has done so far.
	Traffic() rpc.Traffic
	// Close answers what was asked, then closes the sockets.
	Close() error
}

// Config is what a control process stands on.
type Config struct {
	Place  place.Daemon
	Keeper *keeper.Conn
	Hello  keeper.Hello
	// Eval is the path of procnanny-eval.
	Eval    string
	Version string
	// Schema is the schema's text, for the method of that name.
	Schema  func() (string, error)
	Rights  rpc.Rights
	Environ []string
	// Listen opens the sockets.
	Listen func(rpc.RequestHandler) (Transport, error)
	// Orphaned is called at once when the keeper is gone, before anything is
	// brought down in order; it may become something else and never return.
	Orphaned func()
	// CheckUpgrade says why what is installed now cannot take over; nil is that
	// it can.
	CheckUpgrade func(context.Context) error
	Log          *slog.Logger
}

// Control is the running whole.
type Control struct {
	cfg    Config
	log    *slog.Logger
	store  *store.Store
	engine *engine.Engine
	proc   *proc.Proc
	logs   *output.Dir
	watch  *watch.Watcher
	desk   *desk
	hooks  *hooks
	losses chan string
	guard  *guard
	rec    *recorder
	look   *observer
	trim   *trimmer
	tail   *tail
	stall  *stall
	wall   *wall
	found  bool // programs lived already when we came
	// defined says where the files define each program.
	defined  atomic.Pointer[map[string]string]
	exitWhen exitWhen
	// end takes the first reason to end.
	end chan ending
}

// ErrUpgrade ends Run when the process is to be replaced by a newer one.
var ErrUpgrade = errors.New("to be replaced by the binary that is installed now")

// ErrRefused ends Run when there is nothing good to run and never was.
var ErrRefused = errors.New("no good configuration")

// StoreFormat is the format of the state directory.
const StoreFormat = store.Format

// ErrOrphaned ends Run when the keeper is gone.
var ErrOrphaned = errors.New("the keeper is gone")

// Run brings everything up, serves until somebody asks for the end, and brings
// it down. nil is an orderly shutdown: nothing of ours lives any more.
func Run(ctx context.Context, cfg Config) error {
	c := &Control{cfg: cfg, log: cfg.Log, end: make(chan ending, 1), losses: make(chan string, maxLosses)}
	c.guard = newGuard(c.emitRefusals)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := c.build(); err != nil {
		return err
	}
	defer c.store.Close()
	stopped := make(chan struct{})
	go func() { defer close(stopped); c.engine.Run(ctx) }()
	if err := c.adopt(); err != nil {
		return err
	}
	go c.hooks.Run(ctx)
	go c.tellLosses(ctx)
	go c.guard.run(ctx)
	kept, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	go c.wall.watch(ctx, func() { c.clockSet(ctx) })
	go c.look.run(ctx)
	go c.stall.run(ctx)
	go lean.Pulse(ctx, c.log)
	go c.trim.run(ctx)
	go c.tail.run(ctx)
	go c.watch.Run(ctx, func(r watch.Reading) { _ = c.desk.do(ctx, func() { c.desk.take(ctx, r) }) })
	late := c.desk.begin(ctx) // before we hear of a stop: it is to be as the programs say
	go c.receive(ctx, lost)
	go c.desk.run(ctx, late)
	if c.cfg.Hello.Asked == spec.SIGTERM {
		c.finish(ending{stop: true, code: c.exitWhen.found(c.engine.View())})
	}
	err := c.serve(kept)
	c.guard.finish()
	cancel()
	select { // what is written down as ordered was sent, too
	case <-stopped:
	case <-time.After(turnWait):
	}
	return err
}

// turnWait is how long the engine may take to finish its turn.
const turnWait = time.Second

// build makes the parts, from what was written down and what the keeper holds.
func (c *Control) build() error {
	crashpoint.Here(crashpoint.BuildBegun)
	c.wall = newWall(c.log)
	st, found, err := store.Open(store.Config{
		StateDir: c.cfg.Place.State, RunDir: c.cfg.Place.Run, BootID: c.cfg.Hello.BootID, BootedAt: c.wall.at.booted, Log: c.log, Lost: c.lose,
	})
	if err != nil {
		return err
	}
	c.store = st
	crashpoint.Here(crashpoint.BuildOpened)
	c.rec = newRecorder(c)
	c.hooks = newHooks(c, proc.SplitHooks(&c.cfg.Hello), found.Notes)
	c.found = len(c.cfg.Hello.Runs) > 0
	c.proc = proc.New(proc.Config{
		Send: c.cfg.Keeper.Send, Log: c.log, Environ: c.cfg.Environ,
		Facts:  func(f []reconcile.Fact) { _ = c.engine.Facts(context.Background(), f) },
		Output: func(f proc.OutputFact) { c.look.output(f) },
	})
	c.desk = newDesk(c, found)
	if err := c.desk.recall(found.Generations); err != nil {
		return err
	}
	found.World = c.desk.remind(found.World)
	c.engine = engine.New(engine.Config{
		Executor: executor{c}, Recorder: c.rec, World: found.World, Containment: c.containment(),
		ClockSet: c.wall.set, Booted: c.wall.at.booted,
		View: reconcile.View{Version: c.cfg.Version, KeeperPID: c.cfg.Hello.PID, ControlPID: os.Getpid()},
	})
	gid, err := c.cfg.Place.LogGID()
	if err != nil {
		return err
	}
	if c.logs, err = output.Open(c.cfg.Place.LogDir, gid); err != nil {
		return err
	}
	c.look, c.tail, c.trim, c.stall = newObserver(c), newTail(c), newTrimmer(c), newStall(c)
	c.watch = watch.New(c.cfg.Place.Config, c.log)
	c.watch.Trust = c.cfg.Place.CheckConfig
	for _, loss := range found.Loss {
		c.log.Warn("something was lost", "what", loss)
		c.emitLoss(loss)
	}
	c.emitKeeper()
	if facts := c.proc.Adopt(c.cfg.Hello, found.World); len(facts) > 0 {
		c.rec.adopting = facts
	}
	crashpoint.Here(crashpoint.BuildDone)
	return nil
}

// containment says how descendants are found, and why not better.
func (c *Control) containment() string {
	h := c.cfg.Hello
	if h.Degraded == "" {
		return h.Contain
	}
	return h.Contain + " (" + h.Degraded + ")"
}

// adopt hands the engine what the keeper holds. The list itself is not needed
// any more: of a thousand runs it would be half a megabyte for ever.
func (c *Control) adopt() error {
	c.cfg.Hello.Runs = nil
	if f := c.rec.adopting; f != nil {
		c.rec.adopting = nil
		if err := c.engine.Facts(context.Background(), f); err != nil {
			return err
		}
	}
	crashpoint.Here(crashpoint.AdoptDone)
	return nil
}

// listen opens the sockets, once there is something desired: the first answer
// already tells what shall run and what does.
func (c *Control) listen() error {
	server := rpc.NewServer(rpc.Options{
		Backend: c, Logs: logReader{c.logs}, Access: c.cfg.Rights, Schema: c.cfg.Schema, CUE: spec.CUE, Log: c.log, OnRefusal: c.guard.take, Traffic: c.rec.traffic,
		States: map[string]func() string{"text": reconcile.States, "dot": reconcile.StatesDot, "markdown": reconcile.StatesMarkdown},
	})
	net, err := c.cfg.Listen(server)
	if err != nil {
		return err
	}
	c.rec.attach(net)
	net.OnSubscribe(c.tail.subscribed)
	c.tail.subscribed()
	return nil
}

// receive hands the keeper's facts on until the keeper is gone, and is lost.
func (c *Control) receive(ctx context.Context, lost context.CancelCauseFunc) {
	for {
		facts, err := c.cfg.Keeper.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = ErrOrphaned
				if c.cfg.Orphaned != nil {
					c.cfg.Orphaned()
				}
			}
			lost(err)
			return
		}
		for _, f := range facts {
			if f.Kind == keeper.FactAsked {
				c.asked(f.Signal)
			}
		}
		programs, hooks := proc.SplitFacts(facts)
		c.proc.Take(programs)
		c.hooks.take(ctx, hooks)
	}
}

// asked is a signal that somebody sent to the keeper.
func (c *Control) asked(s spec.Signal) {
	if s == spec.SIGHUP {
		c.log.Info("reading the files again", "why", "HUP")
		c.watch.Kick()
		return
	}
	c.finish(ending{stop: c.cfg.Place.OnExit != "leave", by: spec.Requester{How: "signal"}})
}
