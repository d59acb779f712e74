package store

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/procnanny/procnanny/reconcile"
)

// The most that one answer holds.
const (
	maxEventsPage = 10_000
	maxRunsPage   = 10_000
	defaultPage   = 1_000
)

func page(limit, most int) int {
	if limit <= 0 {
		limit = defaultPage
	}
	return min(limit, most)
}

// errNoHistory is what queries get while there is no database.
var errNoHistory = errors.New("the database is not available")

// Events lists events after since, oldest first, at most limit (1,000 when it
// is 0, never more than 10,000). It sees every event that Record returned.
func (s *Store) Events(since uint64, limit int) ([]Event, error) {
	limit = page(limit, maxEventsPage)
	// First what waits, then the database: what moves between them is seen twice,
	// not never.
	waiting := s.waitingEvents(since, limit)
	var kept []Event
	if len(waiting) == 0 || waiting[0].Seq > since+1 {
		var err error
		if kept, err = s.keptEvents(since, limit); err != nil && len(waiting) == 0 {
			return nil, fmt.Errorf("cannot read events: %w", err)
		}
	}
	if n := len(kept); n > 0 {
		last := kept[n-1].Seq
		waiting = waiting[sort.Search(len(waiting), func(i int) bool { return waiting[i].Seq > last }):]
	}
	kept = append(kept, waiting...)
	return kept[:min(len(kept), limit)], nil
}

func (s *Store) waitingEvents(since uint64, limit int) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.q.events
	from := sort.Search(len(q), func(i int) bool { return q[i].Seq > since })
	return slices.Clone(q[from:min(len(q), from+limit)])
}

func (s *Store) keptEvents(since uint64, limit int) (out []Event, err error) {
	err = s.query(func(d *database) (bad int, err error) {
		out, bad, err = readEvents(d, since, limit)
		return bad, err
	})
	return out, err
}

// query runs fn on the database. One that is exchanged under it is asked anew.
func (s *Store) query(fn func(*database) (bad int, err error)) error {
	d := s.db.Load()
	if d == nil {
		return errNoHistory
	}
	bad, err := fn(d)
	if now := s.db.Load(); err != nil && now != nil && now != d {
		bad, err = fn(now)
	}
	if isBroken(err) {
		signal(s.kick) // the committer puts it aside
	}
	if bad > 0 {
		s.c.Log.Error("history has values that are not what was written; they are left out", "file", s.dbPath, "values", bad)
	}
	return err
}

// Runs lists past and living runs of a program, oldest first: the newest
// Limit of those that q selects.
func (s *Store) Runs(q RunQuery) ([]Run, error) {
	q.Limit = page(q.Limit, maxRunsPage)
	newest := s.waitingRuns(q)
	var kept []Run
	err := s.query(func(d *database) (bad int, err error) {
		kept, bad, err = readRuns(d, q)
		return bad, err
	})
	if err != nil && len(newest) == 0 {
		return nil, fmt.Errorf("cannot read runs of %s: %w", q.Program, err)
	}
	out := make([]Run, 0, len(newest)+len(kept))
	for _, r := range newest {
		out = append(out, *r)
	}
	for _, r := range kept {
		if newest[r.Run] == nil {
			out = append(out, r)
		}
	}
	out = slices.DeleteFunc(out, func(r Run) bool { return !q.selects(&r) })
	sort.Slice(out, func(i, j int) bool { return out[i].Run < out[j].Run })
	return out[max(0, len(out)-q.Limit):], nil
}

// waitingRuns are those of the program that the database may not have, or not
// in their newest form: also those that q does not select, because an older
// form in the database may be one that it does.
func (s *Store) waitingRuns(q RunQuery) map[reconcile.RunID]*Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[reconcile.RunID]*Run{}
	for _, runs := range []map[reconcile.RunID]*Run{s.q.busy, s.q.runs} {
		for id, r := range runs {
			if r.ID.Program == q.Program {
				out[id] = clone(r)
			}
		}
	}
	for id, r := range s.m.living { // who asked for its end may be newer than what is queued
		if id.Program == q.Program && r.PID != 0 {
			out[r.Run] = clone(r)
		}
	}
	return out
}
