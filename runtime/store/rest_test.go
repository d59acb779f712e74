package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/procnanny/procnanny/reconcile"
)

// stopMany starts n instances and, once the database knows, ends them all in an
// orderly stop.
func stopMany(b *bench, n int) {
	b.t.Helper()
	s, _ := b.open()
	list := make([]*reconcile.Instance, n)
	for at := range list {
		list[at] = living("web", at, reconcile.RunID(at+1))
		s.Record(changed(list[at]), []Draft{draft(fmt.Sprintf("state.web.%d", at))})
	}
	settled(b.t, s)
	s.Ending()
	for at, i := range list {
		after, ended := crashed(i, 3)
		batch := changed(after)
		batch.Events = []reconcile.Event{ended}
		s.Record(batch, []Draft{draft(fmt.Sprintf("state.web.%d", at))})
	}
	if err := s.Close(); err != nil {
		b.t.Fatal(err)
	}
}

// reboot takes the run directory away.
func (b *bench) reboot() {
	b.t.Helper()
	if err := os.RemoveAll(b.c.RunDir); err != nil {
		b.t.Fatal(err)
	}
	b.c.BootID += "+"
}

// checkEnds wants the history of stopMany, each end once, and nothing lost.
func checkEnds(t *testing.T, s *Store, rec *Recovered, n int) {
	t.Helper()
	if len(rec.Loss) > 0 {
		t.Errorf("lost: %q", rec.Loss)
	}
	checkGapless(t, s, uint64(2*n))
	runs, err := s.Runs(RunQuery{Program: "web", Limit: 2 * n})
	if err != nil || len(runs) != n {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	for _, r := range runs {
		if r.End.IsZero() || r.Exit == nil || r.Exit.Code != 3 {
			t.Errorf("%+v", r)
		}
	}
	totals, err := s.Tallies("web", nil)
	if err != nil || len(totals) != n {
		t.Fatalf("%d totals, %v", len(totals), err)
	}
	for _, x := range totals {
		if x.Starts != 1 || x.Ends != 1 {
			t.Errorf("%+v", x)
		}
	}
}

func hasRest(t *testing.T, s *Store) bool {
	t.Helper()
	_, err := os.Stat(s.restPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// What a stop of many left is in the history after a reboot, also when the machine
// dies again before the database has it, and once.
func TestAStopOfManyIsThereAfterABoot(t *testing.T) {
	const n = 300
	b := newBench(t)
	stopMany(b, n)
	for range 2 {
		b.reboot()
		s, rec := b.open()
		if !rec.Rebooted || !hasRest(t, s) {
			t.Fatalf("rebooted: %v, rest: %v", rec.Rebooted, hasRest(t, s))
		}
		checkEnds(t, s, &rec, n)
		abandon(s) // perhaps before the first commit
		if !hasRest(t, s) {
			break // it was not
		}
	}
	for range 2 {
		s, rec := b.open()
		settled(t, s)
		eventually(t, "the rest is in the database", func() bool { return !hasRest(t, s) })
		checkEnds(t, s, &rec, n)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		b.reboot()
	}
}

func TestAStopOfManyIsThereInTheSameBoot(t *testing.T) {
	const n = 300
	b := newBench(t)
	stopMany(b, n)
	s, rec := b.open()
	checkEnds(t, s, &rec, n)
	settled(t, s)
	eventually(t, "the rest is in the database", func() bool { return !hasRest(t, s) })
	checkEnds(t, s, &rec, n)
}

// A stop of few is in the database when it is over.
func TestAStopOfFewLeavesNothing(t *testing.T) {
	b := newBench(t)
	stopMany(b, 20)
	b.reboot()
	s, rec := b.open()
	if hasRest(t, s) {
		t.Error("a rest was left")
	}
	checkEnds(t, s, &rec, 20)
}

// A rest that is not whole, or not of this database as it is, says nothing: what was
// given out never comes again, and what is missing is named.
func TestARestIsNotBelievedBlindly(t *testing.T) {
	const n = 300
	for name, spoil := range map[string]func([]byte) []byte{
		"cut":     func(rest []byte) []byte { return rest[:len(rest)-1] },
		"half":    func(rest []byte) []byte { return rest[:len(rest)/2] },
		"empty":   func([]byte) []byte { return nil },
		"changed": func(rest []byte) []byte { rest[len(rest)/2]++; return rest },
		"nothing": func(rest []byte) []byte { return bytes.Repeat([]byte{0}, len(rest)) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			stopMany(b, n)
			path := b.c.StateDir + "/history.rest"
			rest, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, spoil(rest), 0o600); err != nil {
				t.Fatal(err)
			}
			b.reboot()
			s, rec := b.open()
			if len(rec.Loss) == 0 {
				t.Error("nothing is said to be lost")
			}
			if e := s.Record(reconcile.Batch{}, []Draft{draft("state.web.0")}); e[0].Seq <= 2*n {
				t.Errorf("number %d was given out before", e[0].Seq)
			}
		})
	}
}

// A rest that somebody else's writing came after is of no use any more.
func TestAnOldRestIsLeftAlone(t *testing.T) {
	const n = 300
	b := newBench(t)
	stopMany(b, n)
	path := b.c.StateDir + "/history.rest"
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := b.open()
	settled(t, s)
	again := living("web", 0, n+1)
	s.Record(changed(again), []Draft{draft("state.web.0")})
	settled(t, s)
	abandon(s)
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	b.reboot()
	s, rec := b.open()
	if i := rec.World.Programs["web"].Find(0); i.Run != n+1 {
		t.Errorf("the world is the old one: %+v", i)
	}
	if events, err := s.Events(0, 10*n); err != nil || len(events) != 2*n+1 {
		t.Errorf("%d events, %v", len(events), err)
	}
}
