package store

import (
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
)

// Somebody sets the clock while no control runs: what is remembered of this boot
// is moved with it, once; and what the engine has moved already is not moved again.
func TestTheClockIsSetMeanwhile(t *testing.T) {
	b := newBench(t)
	clock := b.clock()
	s, _ := b.open()
	web := living("web", 0, 1)
	ended, _ := crashed(living("web", 1, 2), 7)
	ended.Until = epoch.Add(time.Minute)
	batch := changed(web, ended)
	batch.Programs = []*reconcile.Program{{Name: "web", Instances: batch.Changed, RetryAt: epoch}}
	s.Record(batch, []Draft{draft("a")})
	expect := func(what string, moved time.Duration) *Store {
		t.Helper()
		abandon(s)
		s, rec := b.open()
		p := rec.World.Programs["web"]
		if got := p.Instances[0].StartedAt.Sub(web.StartedAt); got != moved {
			t.Errorf("%s: the start was moved by %v", what, got)
		}
		if got := p.Instances[1].Until.Sub(ended.Until); got != moved {
			t.Errorf("%s: the deadline was moved by %v", what, got)
		}
		if got := p.RetryAt.Sub(epoch); got != moved {
			t.Errorf("%s: the next look was moved by %v", what, got)
		}
		runs, err := s.Runs(RunQuery{Program: "web", Limit: 10})
		if err != nil || len(runs) != 1 || runs[0].Start.Sub(web.StartedAt) != moved {
			t.Errorf("%s: the runs are %+v, %v", what, runs, err)
		}
		return s
	}
	s = expect("nobody set it", 0)
	clock.pass(time.Hour)
	s = expect("time passed", 0)
	clock.set(-10 * year)
	s = expect("set back", -10*year)
	s = expect("only once", -10*year)
	clock.set(year)
	set := func(at time.Time) time.Time { return at.Add(-9 * year) }
	again, late := *web, *ended
	again.StartedAt, late.Until = set(web.StartedAt), set(ended.Until)
	batch = changed(&again, &late)
	batch.ClockSet = year
	batch.Programs = []*reconcile.Program{{Name: "web", Instances: batch.Changed, RetryAt: set(epoch)}}
	s.Record(batch, nil)
	s = expect("the engine saw it", -9*year)
	s = expect("and that once", -9*year)

	abandon(s)
	clock.set(year)
	b.c.BootID = "boot-2"
	if _, rec := b.open(); !rec.Rebooted || !rec.World.Programs["web"].Instances[0].StartedAt.Equal(again.StartedAt) {
		t.Errorf("a boot moved %+v", rec.World.Programs["web"].Instances[0])
	}
}
