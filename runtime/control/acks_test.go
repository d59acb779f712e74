package control

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
)

// The keeper is told of ends together, a moment later: a longer one while everything
// is being stopped, and sooner than it would note them.
func TestEndsAreAcknowledgedTogether(t *testing.T) {
	for name, after := range map[string]time.Duration{"otherwise": ackAfter, "in a stop": ackAfterStop} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := make(chan []keeper.Order, 3)
				a := acks{log: slog.New(slog.DiscardHandler), behind: func() bool { return false }, send: func(o []keeper.Order) error {
					sent <- o
					return nil
				}}
				if after == ackAfterStop {
					a.end()
				}
				for run := range reconcile.RunID(3) {
					a.add(run+1, reconcile.InstanceID{Program: "web", Index: int(run)})
					a.later()
				}
				time.Sleep(after - 1)
				synctest.Wait()
				if len(sent) != 0 {
					t.Errorf("it is told at once: %v", <-sent)
				}
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				if n := len(sent); n != 1 {
					t.Fatalf("it is told %d times", n)
				}
				if o := <-sent; len(o) != 3 {
					t.Errorf("%v", o)
				}
			})
		})
	}
}

// What our death would lose the keeper still holds, within bounds.
func TestEndsThatAreInMemoryOnlyAreNotAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var behind atomic.Bool
		behind.Store(true)
		sent := make(chan []keeper.Order, 3)
		a := acks{log: slog.New(slog.DiscardHandler), behind: behind.Load, send: func(o []keeper.Order) error {
			sent <- o
			return nil
		}}
		more := func(from, n reconcile.RunID) {
			for run := range n {
				a.add(from+run, reconcile.InstanceID{Program: "web"})
				a.later()
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		more(1, 2)
		if len(sent) != 0 {
			t.Fatalf("told: %v", <-sent)
		}
		behind.Store(false)
		more(3, 1)
		if o := <-sent; len(o) != 3 {
			t.Errorf("told once the disk has them: %v", o)
		}
		behind.Store(true)
		more(10, ackMost)
		if o := <-sent; len(o) != ackMost {
			t.Errorf("of %d ends %d were told", ackMost, len(o))
		}
	})
}
