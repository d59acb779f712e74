package control

import (
	"log/slog"
	"testing"
	"time"
)

// clocks are a machine's: what is looked at exactly is counted.
type clocks struct {
	set, slept time.Duration
	exact      int
	busy, far  bool
}

func (c *clocks) look() look {
	l := look{booted: time.Unix(1e9, 0).Add(c.set)}
	if !c.far {
		l.began = l.booted.Add(time.Hour + c.slept)
	}
	return l
}

func (c *clocks) wall() *wall {
	return &wall{
		log: slog.New(slog.DiscardHandler), at: c.look(), quick: func() time.Time { return c.look().began },
		exact: func() (look, bool) { c.exact++; return c.look(), !c.busy },
	}
}

// The kernel is asked only when the quick look sees something, and its word holds.
func TestTheWallClockIsSet(t *testing.T) {
	c := &clocks{}
	w := c.wall()
	for _, step := range []struct {
		what       string
		set, slept time.Duration
		busy, far  bool
		want       time.Duration
		exact      int
	}{
		{what: "nothing"},
		{what: "set on", set: time.Hour, want: time.Hour, exact: 1},
		{what: "nothing after it"},
		{what: "set back", set: -2 * time.Hour, want: -2 * time.Hour, exact: 1},
		{what: "a sleep", slept: time.Hour, exact: 1},
		{what: "nothing after the sleep"},
		{what: "noise", set: 9 * time.Millisecond},
		{what: "more of it", set: 9 * time.Millisecond, exact: 1},
		{what: "enough of it", set: 9 * time.Millisecond, want: 27 * time.Millisecond, exact: 1},
		{what: "nothing after the noise"},
		{what: "interrupted", set: time.Hour, busy: true, exact: 1},
		{what: "not any more", want: time.Hour, exact: 1},
		{what: "set far away", set: 200 * 365 * 24 * time.Hour, far: true, want: 200 * 365 * 24 * time.Hour, exact: 1},
		{what: "set there", set: time.Hour, far: true, want: time.Hour, exact: 1},
		{what: "set back from there", set: -200 * 365 * 24 * time.Hour, want: -200 * 365 * 24 * time.Hour, exact: 1},
		{what: "nothing after it all"},
	} {
		c.set, c.slept, c.exact, c.busy, c.far = c.set+step.set, c.slept+step.slept, 0, step.busy, step.far
		if got := w.set(); got != step.want || c.exact != step.exact {
			t.Errorf("%s: the clock was set by %v and looked at exactly %d times, not %v and %d", step.what, got, c.exact, step.want, step.exact)
		}
	}
}

// Both looks are of this machine's clocks, which nobody sets meanwhile.
func TestTheQuickLookIsAsTheExactOne(t *testing.T) {
	w := newWall(slog.New(slog.DiscardHandler))
	for deadline := time.Now().Add(30 * time.Second); ; {
		l, ok := w.exact()
		if ok && w.quick().Sub(l.began).Abs() < clockNoise/2 && l.booted.Sub(w.at.booted).Abs() < clockNoise {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the clocks went from %v to %v, and quick to %v", w.at, l, w.quick())
		}
	}
}
