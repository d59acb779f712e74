package store

import (
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/procnanny/procnanny/reconcile"
)

// tallied is what the totals of instance 0 of web must be after n crashes of a
// second each, ten seconds apart.
func tallied(t *testing.T, s *Store, n int) {
	t.Helper()
	got, err := s.Tallies("web", nil)
	if err != nil || len(got) != 1 {
		t.Fatalf("%d tallies, error %v", len(got), err)
	}
	g := got[0]
	if g.Starts != n || g.Ends != n || g.Crashes != n || g.Up != time.Duration(n)*time.Second || !g.Since.Equal(epoch) {
		t.Fatalf("after %d runs: %+v", n, g)
	}
}

func crashAt(s *Store, run int) {
	record(s, "web", run, 1, epoch.Add(time.Duration(run-1)*10*time.Second))
}

// Totals are about every run there ever was, also those that are not kept, and
// count each once: while it waits, when it is in the database, and when a journal
// tells it again.
func TestTalliesCountEachRunOnce(t *testing.T) {
	b := newBench(t)
	b.c.Keep = Keep{RunsPerProgram: 5}
	s, _ := b.open()
	for run := 1; run <= 300; run++ {
		crashAt(s, run)
		if run%50 == 0 {
			tallied(t, s, run)
			settled(t, s)
			tallied(t, s, run)
		}
	}
	eventually(t, "it is trimmed", func() bool { return countRuns(t, s, "web") == 5 })
	abandon(s)
	s, _ = b.open() // the journal has runs that the database has counted
	settled(t, s)
	tallied(t, s, 300)
	live := living("web", 0, 301)
	s.Record(changed(live), nil)
	got, err := s.Tallies("web", nil)
	if err != nil || len(got) != 1 || got[0].Starts != 301 || got[0].Ends != 300 || !got[0].Living.Equal(live.StartedAt) {
		t.Fatalf("%+v, %v", got, err)
	}
	if one, err := s.Tallies("web", new(7)); err != nil || len(one) != 0 {
		t.Errorf("an instance that never was: %+v, %v", one, err)
	}
}

// A version that knows no tallies writes runs down; what it wrote is counted by
// the next one that does.
func TestTalliesOfAnotherVersionsRuns(t *testing.T) {
	for name, forget := range map[string]func(tx *bbolt.Tx) error{
		"from the beginning": func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketTallies) },
		"in between":         func(tx *bbolt.Tx) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			s, _ := b.open()
			for run := 1; run <= 20; run++ {
				crashAt(s, run)
			}
			settled(t, s)
			err := s.db.Load().update(func(tx *bbolt.Tx) error {
				if err := forget(tx); err != nil {
					return err
				}
				w := &work{boot: "boot-1", seq: s.m.seq + 1, nextRun: 22, runs: map[reconcile.RunID]*Run{}}
				at := epoch.Add(200 * time.Second)
				end, _ := crashed(living("web", 0, 21), 1)
				end.LastExit.At, end.LastExit.Start = at.Add(time.Second), at
				w.runs[21] = &Run{ID: end.ID, Run: 21, PID: 5, Start: at, End: at.Add(time.Second), Exit: end.LastExit}
				if err := w.putRuns(tx); err != nil {
					return err
				}
				return w.putMeta(tx.Bucket(bucketMeta)) // as the other version does: no more
			})
			if err != nil {
				t.Fatal(err)
			}
			tallied(t, s, 21)
			crashAt(s, 22)
			settled(t, s)
			tallied(t, s, 22)
		})
	}
}

func TestTalliesGoWithTheHistory(t *testing.T) {
	b := newBench(t)
	s, _ := b.open()
	crashAt(s, 1)
	settled(t, s)
	err := s.db.Load().update(func(tx *bbolt.Tx) error { return putRunStat(tx, "web", runStat{}) })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.db.Load().view(func(tx *bbolt.Tx) error {
		if k, _ := tx.Bucket(bucketTallies).Cursor().First(); k != nil {
			t.Errorf("%q is left", k)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
