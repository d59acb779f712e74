package store

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/procnanny/procnanny/reconcile"
)

// record makes n ended runs of a program with an event each.
func record(s *Store, program string, first, n int, at time.Time) {
	for k := range n {
		i := living(program, 0, reconcile.RunID(first+k))
		i.Since, i.StartedAt = at, at
		end, ev := crashed(i, 1)
		batch := changed(end)
		batch.Events = []reconcile.Event{ev}
		d := draft("state." + program)
		d.Time = at
		s.Record(batch, []Draft{d})
	}
}

func countRuns(t *testing.T, s *Store, program string) int {
	t.Helper()
	runs, err := s.Runs(RunQuery{Program: program, Limit: maxRunsPage})
	if err != nil {
		t.Fatal(err)
	}
	return len(runs)
}

func firstEvent(t *testing.T, s *Store) uint64 {
	t.Helper()
	events, err := s.Events(0, 1)
	if err != nil || len(events) == 0 {
		t.Fatal(len(events), err)
	}
	return events[0].Seq
}

func TestHistoryIsBoundedByCount(t *testing.T) {
	b := newBench(t)
	b.c.Keep = Keep{Events: 100, RunsPerProgram: 20}
	s, _ := b.open()
	s.Record(changed(living("web", 9, 1)), nil) // lives, and is the oldest
	record(s, "web", 2, 500, epoch)
	record(s, "db", 600, 10, epoch)
	settled(t, s)
	eventually(t, "it is trimmed", func() bool { return countRuns(t, s, "web") == 20 && firstEvent(t, s) == 411 })
	runs, _ := s.Runs(RunQuery{Program: "web"})
	if runs[0].Run != 1 || !runs[0].End.IsZero() || runs[1].Run != 483 || runs[19].Run != 501 {
		t.Errorf("kept are %d, %d to %d", runs[0].Run, runs[1].Run, runs[19].Run)
	}
	if n := countRuns(t, s, "db"); n != 10 {
		t.Errorf("%d runs of another program", n)
	}
	checkStats(t, s)
}

func TestTheLargestHistoryGivesFirst(t *testing.T) {
	b := newBench(t)
	b.c.Keep = Keep{RunBytes: 100_000}
	s, _ := b.open()
	record(s, "quiet", 1, 20, epoch)
	record(s, "noisy", 100, 3000, epoch)
	settled(t, s)
	eventually(t, "it is trimmed", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.runBytes <= 100_000
	})
	if n := countRuns(t, s, "quiet"); n != 20 {
		t.Errorf("%d of 20 runs of the quiet program are left", n)
	}
	if n := countRuns(t, s, "noisy"); n == 0 || n > 600 {
		t.Errorf("%d runs of the noisy program are left", n)
	}
	checkStats(t, s)
}

func TestHistoryIsBoundedByBytesAndAge(t *testing.T) {
	b := newBench(t)
	b.c.Keep = Keep{EventBytes: 10_000, Age: time.Hour}
	clock := b.clock()
	s, _ := b.open()
	clock.pass(2 * time.Hour)
	record(s, "old", 1, 50, epoch)
	record(s, "web", 100, 2000, epoch.Add(2*time.Hour))
	settled(t, s)
	eventually(t, "what is old goes", func() bool { return countRuns(t, s, "old") == 0 })
	eventually(t, "the bytes are within bounds", func() bool { return eventBytes(t, s) <= 10_000 })
	if n := countRuns(t, s, "web"); n != 2000 {
		t.Errorf("%d runs are left", n)
	}
	// The topic of "old" is forgotten with its last event: prev says so.
	d := draft("state.old")
	d.Time = epoch.Add(2 * time.Hour)
	if e := s.Record(reconcile.Batch{}, []Draft{d})[0]; e.Prev != 0 {
		t.Errorf("prev is %d, of an event that is not kept", e.Prev)
	}
	if e := s.Record(reconcile.Batch{}, []Draft{draft("state.web")})[0]; e.Prev != 2050 {
		t.Errorf("prev is %d", e.Prev)
	}
}

// A clock that is wrong for a while, as at the boot of a machine whose clock has
// no battery, takes no history away; one that is right for an hour does.
func TestAWrongClockTakesNoHistoryAway(t *testing.T) {
	b := newBench(t)
	clock := b.clock()
	s, _ := b.open()
	record(s, "web", 1, 50, epoch)
	settled(t, s)
	clock.pass(2 * time.Hour)
	for _, set := range []time.Duration{10 * year, -20 * year, 10 * year, year} {
		clock.set(set)
		s.Record(reconcile.Batch{}, []Draft{draft("a")})
		settled(t, s)
	}
	clock.pass(59 * time.Minute)
	s.Record(reconcile.Batch{}, []Draft{draft("a")})
	settled(t, s)
	if n := countRuns(t, s, "web"); n != 50 {
		t.Errorf("%d runs are left", n)
	}
	clock.pass(2 * time.Minute)
	s.Record(reconcile.Batch{}, []Draft{draft("a")})
	eventually(t, "what is older than 90 days goes", func() bool { return countRuns(t, s, "web") == 0 })
}

const year = 365 * 24 * time.Hour

// clocks are a wall clock that can be set, and the uptime.
type clocks struct {
	mu   sync.Mutex
	wall time.Time
	up   time.Duration
}

// clock gives the store clocks of its own.
func (b *bench) clock() *clocks {
	c := &clocks{wall: epoch, up: time.Minute}
	b.c.Now = func() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.wall }
	b.c.Uptime = func() time.Duration { c.mu.Lock(); defer c.mu.Unlock(); return c.up }
	return c
}

func (c *clocks) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.up = c.wall.Add(d), c.up+d
}

func (c *clocks) set(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = c.wall.Add(by)
}

func eventBytes(t *testing.T, s *Store) (n int64) {
	t.Helper()
	err := s.db.Load().view(func(tx *bbolt.Tx) error {
		n = int64(getUint(tx.Bucket(bucketMeta), keyEventBytes))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// checkStats counts what the statistics say.
func checkStats(t *testing.T, s *Store) {
	t.Helper()
	count := map[string]runStat{}
	err := s.db.Load().view(func(tx *bbolt.Tx) error {
		_ = tx.Bucket(bucketRuns).ForEach(func(k, v []byte) error {
			program := string(k[:len(k)-9])
			count[program] = runStat{count[program].count + 1, count[program].bytes + int64(len(v))}
			return nil
		})
		return tx.Bucket(bucketRunStats).ForEach(func(k, v []byte) error {
			if got := parseRunStat(v); got != count[string(k)] {
				return fmt.Errorf("%s: %+v is said, %+v is there", k, got, count[string(k)])
			}
			return nil
		})
	})
	if err != nil {
		t.Error(err)
	}
}

func TestRunsAreSelected(t *testing.T) {
	b := newBench(t)
	s, _ := b.open()
	for n := range 60 {
		i := living("web", n%3, reconcile.RunID(n+1))
		i.StartedAt = epoch.Add(time.Duration(n) * time.Minute)
		i.Since = i.StartedAt
		end, ev := crashed(i, n)
		batch := changed(end)
		batch.Events = []reconcile.Event{ev}
		s.Record(batch, nil)
		if n == 30 {
			settled(t, s) // half is in the database, half may not be yet
		}
	}
	s.Record(changed(living("web2", 1, 100), living("we", 1, 101)), nil)
	one := 1
	for name, c := range map[string]struct {
		q           RunQuery
		n           int
		first, last reconcile.RunID
	}{
		"all":               {RunQuery{Program: "web"}, 60, 1, 60},
		"the newest":        {RunQuery{Program: "web", Limit: 5}, 5, 56, 60},
		"one instance":      {RunQuery{Program: "web", Instance: &one}, 20, 2, 59},
		"newest of one":     {RunQuery{Program: "web", Instance: &one, Limit: 2}, 2, 56, 59},
		"since":             {RunQuery{Program: "web", Since: epoch.Add(50 * time.Minute)}, 10, 51, 60},
		"another program":   {RunQuery{Program: "web2"}, 1, 100, 100},
		"a prefix of it":    {RunQuery{Program: "we"}, 1, 101, 101},
		"none of this name": {RunQuery{Program: "w"}, 0, 0, 0},
	} {
		runs, err := s.Runs(c.q)
		if err != nil || len(runs) != c.n || c.n > 0 && (runs[0].Run != c.first || runs[c.n-1].Run != c.last) {
			t.Errorf("%s: %d runs, %v: %+v", name, len(runs), err, runs)
		}
	}
}
