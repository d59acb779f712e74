package rpc

import (
	"cmp"
	"slices"
	"time"

	"github.com/procnanny/procnanny/reconcile"
)

// Outcomes are how runs end, as `history` filters them. x is nil while one lives.
var Outcomes = map[string]func(x *reconcile.Exit) bool{
	"alive":   func(x *reconcile.Exit) bool { return x == nil },
	"crash":   crashed,
	"exit":    func(x *reconcile.Exit) bool { return x != nil && x.Cause == reconcile.CauseExit },
	"unknown": func(x *reconcile.Exit) bool { return x != nil && x.Cause == reconcile.CauseLost },
	"stopped": func(x *reconcile.Exit) bool {
		return x != nil && !crashed(x) && x.Cause != reconcile.CauseExit && x.Cause != reconcile.CauseLost
	},
}

func crashed(x *reconcile.Exit) bool {
	return x != nil && (x.Cause == reconcile.CauseCrashed || x.Cause == reconcile.CauseNoStart)
}

// totals are sums over the time from since to until.
type totals struct {
	since, until  time.Time
	wall, up, cpu time.Duration
	starts        int // runs that began in it
	crashes, ends int
}

// totalsOf sums up the runs of an instance, oldest first. Runs do not overlap:
// what one of them is said to have lived beyond the next one's start is not
// counted twice.
func totalsOf(runs []Run, since, until time.Time) totals {
	t := totals{since: since, until: until}
	if t.since.IsZero() && len(runs) > 0 {
		t.since = runs[0].Start
	}
	t.wall = max(t.until.Sub(t.since), 0)
	counted := t.since
	for i := range runs {
		r := &runs[i]
		if within(r.Start, t.since, t.until) {
			t.starts++
		}
		end := t.until
		if r.Exit != nil {
			end = cmp.Or(r.End, r.Exit.At)
			if within(end, t.since, t.until) {
				t.ends++
				t.cpu += r.Exit.CPU
				if crashed(r.Exit) {
					t.crashes++
				}
			}
		}
		from, to := later(r.Start, counted), earliest(end, t.until)
		if r.PID != 0 && to.After(from) {
			t.up += to.Sub(from)
			counted = to
		}
	}
	return t
}

func within(at, since, until time.Time) bool { return !at.Before(since) && !at.After(until) }

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (t *totals) add(o totals) {
	t.wall, t.up, t.cpu = t.wall+o.wall, t.up+o.up, t.cpu+o.cpu
	t.starts, t.crashes, t.ends = t.starts+o.starts, t.crashes+o.crashes, t.ends+o.ends
}

func (t *totals) fields() Map {
	share := 0.0
	if t.wall > 0 {
		share = t.up.Seconds() / t.wall.Seconds()
	}
	return Map{
		{"since", t.since},
		{"until", t.until},
		{"wall", t.wall},
		{"up", t.up},
		{"down", t.wall - t.up},
		{"up_share", share},
		{"starts", t.starts},
		{"crashes", t.crashes},
		{"ends", t.ends},
		{"cpu", t.cpu},
	}
}

// totalsMap sums up a program and each of its instances.
func totalsMap(runs []Run, since, until time.Time) Map {
	byIndex := map[int][]Run{}
	all := totals{since: since, until: until}
	for _, r := range runs {
		byIndex[r.ID.Index] = append(byIndex[r.ID.Index], r)
		if all.since.IsZero() || since.IsZero() && r.Start.Before(all.since) {
			all.since = r.Start
		}
	}
	indexes := make([]int, 0, len(byIndex))
	for index := range byIndex {
		indexes = append(indexes, index)
	}
	slices.Sort(indexes)
	instances := make([]Map, 0, len(indexes))
	for _, index := range indexes {
		t := totalsOf(byIndex[index], since, until)
		all.add(t)
		instances = append(instances, append(Map{{"instance", index}}, t.fields()...))
	}
	return append(all.fields(), Field{"instances", instances})
}
