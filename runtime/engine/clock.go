package engine

import (
	"time"

	"github.com/procnanny/procnanny/reconcile"
)

// at is the time, by the same clock as all that is remembered: it may be set at
// any moment, also between a look at it and a look at what it says.
func (l *loop) at() time.Time {
	for {
		now := l.now()
		if !l.followClock() {
			return now
		}
	}
}

// rebased is f dated by the clock that the loop goes by: somebody may have set the
// clock after f was dated, or before, and the loop does not know yet.
func (l *loop) rebased(f reconcile.Fact) reconcile.Fact {
	if f.Booted.IsZero() || l.booted.IsZero() || f.At.IsZero() {
		return f
	}
	d := l.booted.Sub(f.Booted)
	if d == 0 {
		return f
	}
	f.At = f.At.Add(d)
	if f.Exit != nil {
		x := *f.Exit
		x.At = x.At.Add(d)
		f.Exit = &x
	}
	return f
}

// followClock moves all that is remembered when somebody has set the wall clock,
// so that what is due stays due when it was, and nothing gets older or younger.
// It reports whether somebody has.
func (l *loop) followClock() bool {
	if l.clockSet == nil {
		return false
	}
	d := l.clockSet()
	if d == 0 {
		return false
	}
	l.wasSet += d
	if !l.booted.IsZero() {
		l.booted = l.booted.Add(d)
	}
	l.world = reconcile.ClockSet(l.world, d)
	if !l.observedAt.IsZero() {
		l.observedAt = l.observedAt.Round(0).Add(d)
	}
	l.wakes, l.redrawn = newWakes(), true // Diff sets them anew
	l.touchAll()
	for _, p := range l.world.Programs {
		for _, i := range p.Instances {
			l.touch(i.ID)
		}
	}
	return true
}
