package engine

import "github.com/procnanny/procnanny/reconcile"

// followClock moves all that is remembered when somebody has set the wall clock,
// so that what is due stays due when it was, and nothing gets older or younger.
func (l *loop) followClock() {
	if l.clockSet == nil {
		return
	}
	d := l.clockSet()
	if d == 0 {
		return
	}
	l.wasSet += d
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
}
