package control

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// watched is a stall whose keeper is one of the test.
type watched struct {
	*stall
	letter atomic.Int32 // of the keeper's state
	looked atomic.Int64
	heard  chan time.Time // since when it is said to be stopped
}

func idleStall(t *testing.T) *watched {
	w := &watched{stall: newStall(nil), heard: make(chan time.Time, 100)}
	w.letter.Store('S')
	w.state = func() byte {
		w.looked.Add(1)
		return byte(w.letter.Load())
	}
	w.seq = func() uint64 { return 7 }
	w.tell = func(_ context.Context, since time.Time) { w.heard <- since }
	ctx, cancel := context.WithCancel(t.Context())
	go w.run(ctx)
	t.Cleanup(cancel)
	return w
}

// A keeper that is stopped while nothing happens is told within 10 s and the
// moment that it takes to be sure; that it goes on, within 3 s; and looking costs
// six wakes a minute.
func TestStalledWhileIdle(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 4 * time.Second, 9999 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			w := idleStall(t)
			time.Sleep(time.Hour)
			if n := w.looked.Load(); n > 362 {
				t.Errorf("%d looks in an hour", n)
			}
			time.Sleep(after)
			at := time.Now()
			w.letter.Store('T')
			if since := <-w.heard; since.IsZero() || time.Since(at) > stallIdle+stallSure {
				t.Errorf("told after %v, since %v", time.Since(at), since)
			}
			time.Sleep(time.Minute)
			at = time.Now()
			w.letter.Store('S')
			if since := <-w.heard; !since.IsZero() || time.Since(at) > stallEvery {
				t.Errorf("that it goes on: told after %v, since %v", time.Since(at), since)
			}
		})
	}
}

// Who keeps asking for something does not put the look off.
func TestStalledWhileAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := idleStall(t)
		time.Sleep(time.Hour)
		at := time.Now()
		w.letter.Store('T')
		for len(w.heard) == 0 && time.Since(at) < time.Minute {
			w.soon()
			time.Sleep(time.Second)
		}
		if took := time.Since(at); took > stallEvery+time.Second {
			t.Errorf("told after %v", took)
		}
	})
}

// What a debugger stops for a moment is not said to be stopped.
func TestTracedForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := idleStall(t)
		for range 100 {
			time.Sleep(7 * time.Second)
			w.letter.Store('t')
			time.Sleep(stallEvery - time.Millisecond)
			w.letter.Store('S')
		}
		if len(w.heard) > 0 {
			t.Error("it is said to be stopped")
		}
		w.letter.Store('t')
		if since := <-w.heard; since.IsZero() {
			t.Error("one that a debugger holds is not said to be stopped")
		}
	})
}
