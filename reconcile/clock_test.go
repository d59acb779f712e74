package reconcile

import (
	"reflect"
	"testing"
	"time"
)

// Every time that is in the world is moved, none is forgotten.
func TestClockSetMovesEveryTime(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	i := &Instance{}
	p := &Program{Name: "web", Instances: []*Instance{i}}
	held := &Exit{}
	i.LastExit, i.Ends = held, []time.Time{at, at}
	times := func(visit func(*time.Time)) {
		for _, v := range []any{p, i, i.LastExit} {
			for field, f := range reflect.ValueOf(v).Elem().Fields() {
				if field.Type == reflect.TypeFor[time.Time]() {
					visit(f.Addr().Interface().(*time.Time))
				}
			}
		}
		for n := range i.Ends {
			visit(&i.Ends[n])
		}
	}
	n := 0
	times(func(v *time.Time) { *v = at; n++ })
	if n < 8 {
		t.Fatalf("only %d times were found", n)
	}
	w := NewWorld()
	w.Programs["web"] = p
	ClockSet(w, -time.Hour)
	times(func(v *time.Time) {
		if !v.Equal(at.Add(-time.Hour)) {
			t.Errorf("a time is %v", v)
		}
	})
	if !held.At.Equal(at) {
		t.Error("an end that others hold was changed")
	}
	times(func(v *time.Time) { *v = time.Time{} })
	ClockSet(w, time.Hour)
	times(func(v *time.Time) {
		if !v.IsZero() {
			t.Errorf("what was no time is %v", v)
		}
	})
}

// A time that the wall clock and another one measured goes by the wall clock.
func TestClockSetGoesByTheWallClock(t *testing.T) {
	now := time.Now()
	before := moved(now.Add(-time.Minute), time.Hour)
	set := now.Round(0).Add(time.Hour) // what the clock says now
	if d := set.Sub(before); d != time.Minute {
		t.Errorf("a minute ago is %v ago", d)
	}
}

// A fact that was dated before the clock was set back is not of the future: what
// it makes due would not come.
func TestNoFactIsOfTheFuture(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	w, _ := Apply(NewWorld(), Fact{Kind: FactAdopted, ID: InstanceID{"web", 0}, Run: 1, PID: 7, At: now.Add(time.Hour)}, now)
	if i := w.Programs["web"].Instances[0]; i.Since.After(now) || i.Until.After(now.Add(time.Minute)) {
		t.Errorf("it is %v since %v, until %v", i.State, i.Since, i.Until)
	}
}
