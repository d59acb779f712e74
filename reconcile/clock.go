package reconcile

import (
	"slices"
	"time"
)

// ClockSet moves every time that w remembers by d, for somebody has set the wall
// clock by that much: what was a minute ago still was a minute ago, and what is
// due in a minute still is. What has been told already stays as it was told.
func ClockSet(w World, d time.Duration) World {
	for _, p := range w.Programs {
		p.RetryAt = moved(p.RetryAt, d)
		for _, i := range p.Instances {
			i.clockSet(d)
		}
	}
	return w
}

func (i *Instance) clockSet(d time.Duration) {
	i.Since, i.Until, i.StartedAt = moved(i.Since, d), moved(i.Until, d), moved(i.StartedAt, d)
	i.Ends = slices.Clone(i.Ends)
	for n := range i.Ends {
		i.Ends[n] = moved(i.Ends[n], d)
	}
	if i.LastExit != nil { // others hold it too
		x := *i.LastExit
		x.At, x.Start = moved(x.At, d), moved(x.Start, d)
		i.LastExit = &x
	}
}

// moved is at, by the wall clock alone: its reading of the monotonic clock would
// be moved with it, and be wrong.
func moved(at time.Time, d time.Duration) time.Time {
	if at.IsZero() {
		return at
	}
	return at.Round(0).Add(d)
}
