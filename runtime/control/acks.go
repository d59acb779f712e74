package control

import (
	"log/slog"
	"sync"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/runtime/keeper"
)

// ackAfter is how long an acknowledgement waits: the keeper's work for it would
// come before what a subscriber, a hook or a restart waits for, on the processor
// that all of them share. The keeper waits longer before it wonders (its endWait).
const ackAfter = 10 * time.Millisecond

// ackAfterStop is that while everything is being stopped: mostly the order comes
// sooner that says it of all.
const ackAfterStop = 300 * time.Millisecond

// While the run directory and the database are full the keeper goes on holding ends,
// so that a control that starts hears of them; but no more than so many.
const (
	ackBehind = 100 * time.Millisecond
	ackMost   = 1000
)

// acks are ends that are written down, of which the keeper is still to be told.
type acks struct {
	send func([]keeper.Order) error
	log  *slog.Logger
	// behind reports whether our death would lose ends that are written down.
	behind func() bool

	mu     sync.Mutex
	ends   []end
	timer  *time.Timer // runs while there are ends
	ending bool
}

// end is one of them. There may be a thousand, and an order is large.
type end struct {
	run reconcile.RunID
	id  reconcile.InstanceID
}

// add notes that the end of a run is written down. Mostly both events of an end
// come together, and one word is enough.
func (a *acks) add(run reconcile.RunID, id reconcile.InstanceID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.ends); n > 0 && a.ends[n-1].run == run {
		return
	}
	a.ends = append(a.ends, end{run, id})
}

// later tells the keeper in a moment.
func (a *acks) later() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.ends) == 0 || a.timer != nil {
		return
	}
	crashpoint.Here(crashpoint.EventsTold)
	after := ackAfter
	if a.ending {
		after = ackAfterStop
	}
	a.timer = time.AfterFunc(after, a.tell)
}

// end is for when everything is being stopped.
func (a *acks) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ending = true
}

func (a *acks) tell() {
	behind := a.behind()
	a.mu.Lock()
	if behind && len(a.ends) < ackMost {
		a.timer = time.AfterFunc(ackBehind, a.tell)
		a.mu.Unlock()
		return
	}
	ends := a.ends
	a.ends, a.timer = nil, nil
	a.mu.Unlock()
	orders := make([]keeper.Order, len(ends))
	for n, e := range ends {
		orders[n] = keeper.Order{Kind: keeper.OrderAck, Run: uint64(e.run), Program: e.id.Program, Index: e.id.Index}
	}
	if err := a.send(orders); err != nil {
		a.log.Warn("cannot acknowledge ends", "error", err)
	}
	crashpoint.Here(crashpoint.AcksSent)
}
