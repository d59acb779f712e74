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

// acks are ends that are written down, of which the keeper is still to be told.
type acks struct {
	send func([]keeper.Order) error
	log  *slog.Logger

	mu     sync.Mutex
	orders []keeper.Order
	timer  *time.Timer // runs while there are orders
	ending bool
}

// add notes that the end of a run is written down. Mostly both events of an end
// come together, and one word is enough.
func (a *acks) add(run reconcile.RunID, id reconcile.InstanceID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.orders); n > 0 && a.orders[n-1].Run == uint64(run) {
		return
	}
	a.orders = append(a.orders, keeper.Order{Kind: keeper.OrderAck, Run: uint64(run), Program: id.Program, Index: id.Index})
}

// later tells the keeper in a moment.
func (a *acks) later() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.orders) == 0 || a.timer != nil {
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
	a.mu.Lock()
	orders := a.orders
	a.orders, a.timer = nil, nil
	a.mu.Unlock()
	if err := a.send(orders); err != nil {
		a.log.Warn("cannot acknowledge ends", "error", err)
	}
	crashpoint.Here(crashpoint.AcksSent)
}
