package engine

import (
	"slices"

	"github.com/procnanny/procnanny/reconcile"
)

// note takes a copy of events into the turn.
func (l *loop) note(events []reconcile.Event) {
	if cap(l.events)-len(l.events) < len(events) { // twice as much: append would add a quarter
		l.events = slices.Grow(l.events, max(len(events), len(l.events)))
	}
	l.events = append(l.events, events...)
	l.tellOf(events)
}

// take is note of events that are the loop's own, a thousand in a stop of all.
func (l *loop) take(events []reconcile.Event) {
	if len(l.events) > 0 {
		l.note(events)
		return
	}
	l.events = events
	l.tellOf(events)
}

// tellOf touches what events are about.
func (l *loop) tellOf(events []reconcile.Event) {
	if len(events) > few && len(l.moved) == 0 { // room at once
		l.moved, l.touched = make(map[reconcile.InstanceID]bool, len(events)), slices.Grow(l.touched, len(events))
	}
	for n := range events {
		l.touch(events[n].ID)
	}
}

// few is up to how many keys a map is used again, and grows by itself.
const few = 64

// emptied is m without its keys. A map that was large once costs its size each
// time somebody walks or clears it, so that one is not used again.
func emptied[K comparable, V any](m map[K]V) map[K]V {
	if len(m) > few {
		return map[K]V{}
	}
	clear(m)
	return m
}
