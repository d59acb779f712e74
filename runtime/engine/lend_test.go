package engine

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/procnanny/procnanny/reconcile"
)

// numbered is the message that a sender sent as its n-th.
type numbered struct {
	n     int
	taken *[]int
}

func (m numbered) take(*loop) { *m.taken = append(*m.taken, m.n) }

// Whoever makes a turn is the only writer, and a message that somebody takes
// himself does not overtake those that he has sent.
func TestNothingIsOvertaken(t *testing.T) {
	const senders, each = 4, 2000
	e := New(Config{Executor: &nobody{}, Recorder: &nobody{}, World: reconcile.NewWorld()})
	go e.Run(t.Context())
	var taken [senders][]int
	seen := 0 // shared by all turns: the race detector watches it
	var all sync.WaitGroup
	for s := range senders {
		all.Go(func() {
			for n := range each {
				m := numbered{n, &taken[s]}
				if n%3 != 0 && e.lend(m) {
					continue
				}
				if err := e.send(t.Context(), m); err != nil {
					t.Error(err)
				}
				if n%100 == 0 { // let the loop fall asleep
					within(t, e, func(*loop) { seen++ })
				}
			}
		})
	}
	all.Wait()
	within(t, e, func(*loop) {
		for s := range taken {
			if len(taken[s]) != each || !slices.IsSorted(taken[s]) {
				t.Errorf("sender %d: %d of %d messages were taken, in order: %v", s, len(taken[s]), each, slices.IsSorted(taken[s]))
			}
		}
	})
}

// within has fn called in a turn, and waits for it.
func within(t *testing.T, e *Engine, fn func(*loop)) {
	t.Helper()
	done := make(chan struct{})
	if err := e.send(t.Context(), inspect(func(l *loop) { fn(l); close(done) })); err != nil {
		t.Fatal(err)
	}
	<-done
}

// Before Run begins and after it has ended nobody makes a turn.
func TestNoTurnIsMadeWhileTheLoopDoesNotRun(t *testing.T) {
	e := New(Config{Executor: &nobody{}, Recorder: &nobody{}, World: reconcile.NewWorld()})
	var taken []int
	if e.lend(numbered{1, &taken}) {
		t.Error("a turn before Run")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e.Run(ctx)
	if e.lend(numbered{2, &taken}) || len(taken) > 0 {
		t.Error("a turn after Run")
	}
}
