package rpc

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/procnanny/procnanny/reconcile"
)

func at(seconds int) time.Time { return time.Unix(int64(seconds), 0) }

func TestTotals(t *testing.T) {
	end := func(seconds int, cause reconcile.Cause) *reconcile.Exit {
		return &reconcile.Exit{At: at(seconds), Cause: cause, CPU: time.Second}
	}
	runs := []Run{
		{PID: 1, Start: at(100), End: at(160), Exit: end(160, reconcile.CauseCrashed)},
		{Start: at(170), End: at(170), Exit: end(170, reconcile.CauseNoStart)},
		{PID: 2, Start: at(180), End: at(190), Exit: end(190, reconcile.CauseStop)},
		{PID: 3, Start: at(195)},
	}
	for _, c := range []struct {
		since, until          time.Time
		up, wall              int
		starts, crashes, ends int
	}{
		{time.Time{}, at(200), 75, 100, 4, 2, 3},
		{at(150), at(185), 15, 35, 2, 2, 2},
		{at(0), at(50), 0, 50, 0, 0, 0},
		{at(196), at(200), 4, 4, 0, 0, 0},
	} {
		got := totalsOf(runs, c.since, c.until)
		if got.up != time.Duration(c.up)*time.Second || got.wall != time.Duration(c.wall)*time.Second || got.starts != c.starts || got.crashes != c.crashes || got.ends != c.ends {
			t.Errorf("from %v to %v: %+v", c.since.Unix(), c.until.Unix(), got)
		}
	}
}

// Whatever the runs are, up and down add up to the wall clock, and two halves of
// a time to the whole.
func TestTotalsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var runs []Run
		now := 0
		for n := range rapid.IntRange(0, 8).Draw(t, "runs") {
			start := now + rapid.IntRange(0, 5).Draw(t, "gap")
			now = start + rapid.IntRange(0, 5).Draw(t, "life")
			r := Run{PID: n + 1, Start: at(start), End: at(now), Exit: &reconcile.Exit{At: at(now), Cause: reconcile.CauseCrashed}}
			runs = append(runs, r)
		}
		if len(runs) > 0 && rapid.Bool().Draw(t, "lives") {
			runs[len(runs)-1].Exit, runs[len(runs)-1].End = nil, time.Time{}
		}
		from, to := rapid.IntRange(0, 40).Draw(t, "from"), 0
		to = from + rapid.IntRange(0, 40).Draw(t, "to")
		mid := rapid.IntRange(from, to).Draw(t, "mid")
		whole := totalsOf(runs, at(from), at(to))
		if whole.up < 0 || whole.up > whole.wall || whole.wall != time.Duration(to-from)*time.Second {
			t.Fatalf("%+v", whole)
		}
		a, b := totalsOf(runs, at(from), at(mid)), totalsOf(runs, at(mid), at(to))
		if a.up+b.up != whole.up || a.wall+b.wall != whole.wall {
			t.Fatalf("%v + %v is not %v", a.up, b.up, whole.up)
		}
	})
}

// Totals of all time say the same as those of the runs, however many are kept;
// those of a time before the oldest kept run begin with it.
func TestTotalsOfTallies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var runs []Run
		tally := Tally{Since: at(10), Until: at(10)}
		now := 10
		for n := range rapid.IntRange(1, 8).Draw(t, "runs") {
			start := now + rapid.IntRange(0, 5).Draw(t, "gap")*min(n, 1)
			now = start + rapid.IntRange(0, 5).Draw(t, "life")
			runs = append(runs, Run{PID: n + 1, Start: at(start), End: at(now), Exit: &reconcile.Exit{At: at(now), Cause: reconcile.CauseCrashed}})
			tally.Starts, tally.Ends, tally.Crashes = tally.Starts+1, tally.Ends+1, tally.Crashes+1
			tally.Up, tally.Until = tally.Up+at(now).Sub(at(start)), at(now)
		}
		if rapid.Bool().Draw(t, "lives") {
			last := &runs[len(runs)-1]
			last.Exit, last.End = nil, time.Time{}
			tally.Ends, tally.Crashes = tally.Ends-1, tally.Crashes-1
			tally.Up -= at(now).Sub(last.Start)
			tally.Living, tally.Until = last.Start, last.Start
		}
		end := at(now + rapid.IntRange(0, 5).Draw(t, "later"))
		if got, want := tally.totals(end), totalsOf(runs, time.Time{}, end); got != want {
			t.Fatalf("%+v is not %+v", got, want)
		}
		kept := runs[rapid.IntRange(0, len(runs)-1).Draw(t, "given up"):]
		want := at(3)
		if len(kept) < len(runs) {
			want = kept[0].Start
		}
		if got := keptSince(at(3), kept, []Tally{tally}); !got.Equal(want) {
			t.Fatalf("totals begin at %v, not %v", got.Unix(), want.Unix())
		}
	})
}
