package lean

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Who waits for long wakes on a beat, no later than asked and as often as before
// once it is on the beat, together with all others.
func TestBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1234567 * time.Microsecond)
		if got := Beat(BeatEvery - 1); got != BeatEvery-1 {
			t.Errorf("a short wait became %v", got)
		}
		var mu sync.Mutex
		wakes := map[time.Time]bool{}
		end := time.Now().Add(time.Hour)
		for n, d := range []time.Duration{BeatEvery, 3 * BeatEvery, 6 * BeatEvery} {
			go func() {
				time.Sleep(time.Duration(n) * 777 * time.Millisecond)
				for first, last := true, time.Now(); last.Before(end); first = false {
					time.Sleep(Beat(d))
					now := time.Now()
					mu.Lock()
					wakes[now] = true
					mu.Unlock()
					if took := now.Sub(last); took > d || took <= 0 || !first && took != d {
						t.Errorf("slept %v instead of %v", took, d)
					}
					last = now
				}
			}()
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(wakes) > 366 {
			t.Errorf("%d wakes in an hour", len(wakes))
		}
	})
}
