package rpc

import (
	"cmp"
	"context"
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
	return x != nil && x.Cause.Crash()
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

// Tally sums up all runs of an instance, also those that are no longer kept.
type Tally struct {
	Index int
	Since time.Time // when the first one began
	// Up is how long it ran until Until, when the last one ended.
	Up     time.Duration
	Until  time.Time
	CPU    time.Duration
	Starts int
	Ends   int
	// Crashes counts those that could not start, too.
	Crashes int
	// Living is when the run began that lives; zero is none.
	Living time.Time
}

// Tallier may be implemented by a Backend that keeps tallies, in the order of
// the instances' indexes.
type Tallier interface {
	Tallies(ctx context.Context, program string, instance *int) ([]Tally, error)
}

func (l *Tally) totals(now time.Time) totals {
	t := totals{since: l.Since, until: now, wall: max(now.Sub(l.Since), 0), up: l.Up, cpu: l.CPU, starts: l.Starts, ends: l.Ends, crashes: l.Crashes}
	if from := later(l.Living, l.Until); !l.Living.IsZero() && now.After(from) {
		t.up += now.Sub(from)
	}
	t.up = min(t.up, t.wall)
	return t
}

// totals answers what `history` is asked for. A time that is named is summed up
// from the runs that are kept, all time from tallies.
func (c *Call) totals(ctx context.Context, q RunQuery) (Map, error) {
	var tallies []Tally
	if from, ok := c.Backend.(Tallier); ok {
		var err error
		if tallies, err = from.Tallies(ctx, q.Program, q.Instance); err != nil {
			return nil, err
		}
		if q.Since.IsZero() && q.Until.IsZero() {
			return tallyMap(tallies, c.now()), nil
		}
	}
	q.Outcome, q.Limit = "", maxRecords
	runs, err := c.Backend.Runs(ctx, q)
	if err != nil {
		return nil, err
	}
	if len(runs) > 0 && !q.Since.IsZero() {
		all, err := c.Backend.Runs(ctx, RunQuery{Program: q.Program, Instance: q.Instance, Limit: maxRecords})
		if err != nil {
			return nil, err
		}
		q.Since = keptSince(q.Since, all, tallies)
	}
	return totalsMap(runs, q.Since, cmp.Or(q.Until, c.now())), nil
}

// keptSince is since, or the start of the oldest run that is kept, where older
// ones were given up: nobody knows any more what was then.
func keptSince(since time.Time, kept []Run, tallies []Tally) time.Time {
	ever := 0
	for i := range tallies {
		ever += tallies[i].Starts
	}
	if len(kept) == 0 || len(kept) >= ever && len(kept) < maxRecords {
		return since
	}
	oldest := kept[0].Start
	for i := range kept {
		oldest = earliest(oldest, kept[i].Start)
	}
	return later(since, oldest)
}

// tallyMap is totalsMap of all time.
func tallyMap(tallies []Tally, now time.Time) Map {
	all := totals{until: now}
	instances := make([]Map, 0, len(tallies))
	for i := range tallies {
		l := &tallies[i]
		if i == 0 || l.Since.Before(all.since) {
			all.since = l.Since
		}
		t := l.totals(now)
		all.add(t)
		instances = append(instances, append(Map{{"instance", l.Index}}, t.fields()...))
	}
	return append(all.fields(), Field{"instances", instances})
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
