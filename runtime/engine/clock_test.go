package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// When the clock is set, all that is remembered goes with it: here the clock
// stays, so what was due in a while is due that much later, or at once.
func TestTheClockIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		defer h.run(reconcile.NewWorld())()
		h.dies["web"] = 100 * time.Millisecond
		programs := map[string]spec.Program{"web": program("/bin/web", 1), "ok": program("/bin/ok", 2)}
		web, ok := reconcile.InstanceID{Program: "web"}, reconcile.InstanceID{Program: "ok"}
		check := func() {
			synctest.Wait() // in the middle of a turn the record is behind
			h.check(programs)
		}
		starts := func(id reconcile.InstanceID) int {
			defer h.quietly()()
			return len(h.starts[id])
		}
		recorded := func() reconcile.Instance {
			defer h.quietly()()
			return h.instances[ok]
		}
		h.desire(programs)
		time.Sleep(10 * time.Minute)
		check()
		began := recorded().StartedAt
		set := func(d time.Duration) int {
			h.set.Store(int64(d))
			if err := h.e.Facts(context.Background(), nil); err != nil { // anything lets it look
				t.Fatal(err)
			}
			check()
			return starts(web)
		}
		before := set(24 * time.Hour)
		if i := recorded(); !i.StartedAt.Equal(began.Add(24*time.Hour)) || i.State != reconcile.StateRunning {
			t.Errorf("ok is recorded as %+v; it began %v", i, began)
		}
		time.Sleep(23 * time.Hour)
		if check(); starts(web) != before {
			t.Error("it was started before its time")
		}
		time.Sleep(2 * time.Hour)
		if check(); starts(web) < before+100 {
			t.Errorf("it was started %d times only", starts(web)-before)
		}
		before = starts(web)
		set(-24 * time.Hour)
		time.Sleep(time.Second)
		if check(); starts(web) == before {
			t.Error("it is due, and was not started")
		}
		if n := starts(ok); n != 1 {
			t.Errorf("ok was started %d times", n)
		}
	})
}

// What is dated by the clock as it was before somebody set it, or as it is while
// the loop does not know yet, counts as when it happened.
func TestFactsOfAnotherClock(t *testing.T) {
	booted := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const decade, since = 10 * 365 * 24 * time.Hour, time.Hour
	var set time.Duration
	l := newLoop(Config{World: reconcile.NewWorld(), Booted: booted, ClockSet: func() time.Duration { d := set; set = 0; return d }}, nil)
	dated := func(by time.Time) reconcile.Fact {
		return reconcile.Fact{At: by.Add(since), Booted: by, Exit: &reconcile.Exit{At: by.Add(since)}}
	}
	for _, c := range []struct {
		name       string
		set        time.Duration // known to the loop
		by, expect time.Time
	}{
		{"nothing was set", 0, booted, booted},
		{"the clock is set, and the loop does not know", 0, booted.Add(decade), booted},
		{"the clock was set after it was dated", decade, booted, booted.Add(decade)},
		{"dated by the new clock", 0, booted.Add(decade), booted.Add(decade)},
		{"and set back after it was dated", -decade, booted.Add(decade), booted},
	} {
		set = c.set
		l.followClock()
		f := dated(c.by)
		x := f.Exit
		got := l.rebased(f)
		if want := c.expect.Add(since); !got.At.Equal(want) || !got.Exit.At.Equal(want) || !x.At.Equal(c.by.Add(since)) {
			t.Errorf("%s: %v and %v, want %v; it was %v", c.name, got.At, got.Exit.At, want, x.At)
		}
	}
	if f := (reconcile.Fact{Booted: booted.Add(decade)}); !l.rebased(f).At.IsZero() {
		t.Error("a fact without a time has one")
	}
	// It is set between the look at it and what it says: the next look counts.
	looks := 0
	l.now = func() time.Time {
		if looks++; looks == 1 {
			set = decade
			return booted
		}
		return booted.Add(decade)
	}
	if at := l.at(); !at.Equal(booted.Add(decade)) || looks != 2 || !l.booted.Equal(booted.Add(decade)) {
		t.Errorf("it is %v after %d looks, and booted at %v", at, looks, l.booted)
	}
}
