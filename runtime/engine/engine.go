package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// Bounds of the loop.
const (
	inboxLen = 1024 // messages; a sender waits when it is full
	batchLen = 256  // messages of one turn at most
	// A deadline that is due again at once is a matter of course a few times
	// over; more often it would be a mistake, and must not eat a CPU.
	dueAgain = 64
	dueRest  = 100 * time.Millisecond
)

// Executor carries out orders, in order for each instance. It must not block;
// what comes of an order returns as a fact.
type Executor interface {
	Do(orders []reconcile.Order)
}

// Recorder writes a turn down. Record comes before the turn's actions and
// survives the death of this process; Publish comes after. Neither may block
// on a consumer, nor keep the instances and programs of a batch: they are the
// world's own, as they are during the call.
type Recorder interface {
	Record(b reconcile.Batch)
	Publish(b reconcile.Batch)
}

// Config is what an Engine stands on.
type Config struct {
	Executor Executor
	Recorder Recorder
	// World is where to begin: what was recorded before.
	World reconcile.World
	// View carries what never changes: version and pids.
	View reconcile.View
	// Containment names how descendants are found, for the picture.
	Containment string
	// ClockSet says by how much somebody has set the wall clock since it was asked
	// last; nil is never. It is asked before each turn.
	ClockSet func() time.Duration
	// Booted is when the machine was booted, by the clock that World is dated by;
	// facts that say by which clock they are dated are moved to it. Zero: none is.
	Booted time.Time
	// Now is the clock; nil is time.Now. Another one is for a Hand.
	Now func() time.Time
	// Witness, for a Hand, sees what the core is told and says; nil is nobody.
	Witness Witness
}

// Desired is what shall be: the files with overrides on top.
type Desired struct {
	Spec spec.Spec
	// Shared are those programs of Spec that the sender holds too, and nobody
	// changes: the engine then holds the same ones.
	Shared     map[string]*spec.Program
	Generation uint64
	Overrides  []spec.Override
	Config     reconcile.ConfigView
	// By is the person whose wish this is; nil are the files, or time.
	By *spec.Requester
	// Ending says that everything is being stopped already: nothing is started, and
	// what lives is stopped as its program says.
	Ending bool
}

// ErrStopped answers messages that come after the loop has ended.
var ErrStopped = errors.New("the engine has stopped")

// Engine is the handle that everybody else holds.
type Engine struct {
	inbox   chan message
	stopped chan struct{}
	picture atomic.Pointer[picture]
	// coming counts messages that are on their way through the inbox.
	coming atomic.Int64

	// turning is held by whoever makes a turn: what follows is theirs meanwhile.
	turning sync.Mutex
	running bool // Run has begun, and has not ended
	loop    *loop
	pace    pacer
	timer   *time.Timer
}

// picture is a view and the channel that the next swap closes.
type picture struct {
	view *reconcile.View
	next chan struct{}
}

// New returns an engine that does nothing until Run.
func New(c Config) *Engine {
	e := &Engine{inbox: make(chan message, inboxLen), stopped: make(chan struct{}), timer: time.NewTimer(time.Hour)}
	e.timer.Stop()
	e.loop = newLoop(c, e)
	e.loop.swap()
	return e
}

// Run is the loop; it returns when ctx ends.
func (e *Engine) Run(ctx context.Context) {
	defer close(e.stopped)
	e.setRunning(true)
	defer e.setRunning(false)
	for {
		var first message
		select {
		case <-ctx.Done():
			return
		case first = <-e.inbox:
		case <-e.timer.C:
		}
		e.turning.Lock()
		e.turn(first)
		e.turning.Unlock()
	}
}

func (e *Engine) setRunning(on bool) {
	e.turning.Lock()
	defer e.turning.Unlock()
	e.running = on
}

// lend has the sender of a message make the turn, while the loop sleeps: to wake
// it first takes longer than most turns. Nothing may be overtaken.
func (e *Engine) lend(m message) bool {
	if !e.turning.TryLock() {
		return false
	}
	defer e.turning.Unlock()
	if !e.running || e.coming.Load() > 0 {
		return false
	}
	e.loop.followClock()
	m.take(e.loop)
	e.finish()
	return true
}

// turn takes the message that came first, if there is one, and what else is
// waiting.
func (e *Engine) turn(first message) {
	e.loop.followClock()
	if first != nil {
		e.take(first)
	}
	e.drain()
	e.finish()
}

// take takes a message that came through the inbox.
func (e *Engine) take(m message) {
	e.coming.Add(-1)
	m.take(e.loop)
}

// finish does what follows from the messages of a turn, and sets the timer.
func (e *Engine) finish() {
	now := e.loop.at()
	e.loop.turn(now)
	now = now.Add(time.Since(now)) // what is due was said by the clock as it was then
	if wait, ok := e.pace.wait(e.loop.wakes.next(), now); ok {
		e.timer.Reset(wait)
	} else {
		e.timer.Stop()
	}
}

// pacer says how long the timer sleeps.
type pacer struct {
	overdue int // turns in a row after which something was due at once
}

// wait is how long it is until wake; false is for ever.
func (p *pacer) wait(wake, now time.Time) (time.Duration, bool) {
	if wake.IsZero() || wake.After(now) {
		p.overdue = 0
		return wake.Sub(now), !wake.IsZero()
	}
	if p.overdue++; p.overdue > dueAgain {
		return dueRest, true
	}
	return 0, true
}

// drain takes what else is waiting into the same turn.
func (e *Engine) drain() {
	for range batchLen {
		select {
		case m := <-e.inbox:
			e.take(m)
		default:
			return
		}
	}
}

func (e *Engine) send(ctx context.Context, m message) error {
	e.coming.Add(1)
	var err error
	select {
	case e.inbox <- m:
		return nil
	case <-e.stopped:
		err = ErrStopped
	case <-ctx.Done():
		err = ctx.Err()
	}
	e.coming.Add(-1)
	return err
}

// View is the current picture.
func (e *Engine) View() *reconcile.View { return e.picture.Load().view }

// Wait returns the first picture that ok accepts.
func (e *Engine) Wait(ctx context.Context, ok func(*reconcile.View) bool) (*reconcile.View, error) {
	for {
		p := e.picture.Load()
		if ok(p.view) {
			return p.view, nil
		}
		select {
		case <-p.next:
		case <-e.stopped:
			return p.view, ErrStopped
		case <-ctx.Done():
			return p.view, ctx.Err()
		}
	}
}
