package engine

import (
	"context"
	"errors"
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
}

// ErrStopped answers messages that come after the loop has ended.
var ErrStopped = errors.New("the engine has stopped")

// Engine is the handle that everybody else holds.
type Engine struct {
	inbox   chan message
	stopped chan struct{}
	picture atomic.Pointer[picture]
	loop    *loop
}

// picture is a view and the channel that the next swap closes.
type picture struct {
	view *reconcile.View
	next chan struct{}
}

// New returns an engine that does nothing until Run.
func New(c Config) *Engine {
	e := &Engine{inbox: make(chan message, inboxLen), stopped: make(chan struct{})}
	e.loop = newLoop(c, e)
	e.loop.swap()
	return e
}

// Run is the loop; it returns when ctx ends.
func (e *Engine) Run(ctx context.Context) {
	defer close(e.stopped)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	var pace pacer
	for {
		var first message
		select {
		case <-ctx.Done():
			return
		case first = <-e.inbox:
		case <-timer.C:
		}
		e.loop.followClock()
		if first != nil {
			first.take(e.loop)
		}
		e.drain()
		now := e.loop.at()
		e.loop.turn(now)
		now = now.Add(time.Since(now)) // what is due was said by the clock as it was then
		if wait, ok := pace.wait(e.loop.wakes.next(), now); ok {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
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
			m.take(e.loop)
		default:
			return
		}
	}
}

func (e *Engine) send(ctx context.Context, m message) error {
	select {
	case e.inbox <- m:
		return nil
	case <-e.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
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
