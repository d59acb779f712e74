package sim

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/procnanny/procnanny/reconcile"
)

// Line is one line of a timeline: what happened when to whom, and why.
type Line struct {
	At      time.Duration // since the beginning
	Program string        // empty: what a person did, or the daemon as a whole
	Indexes []int         // empty: the program as a whole
	// States are those that it went through, two at least; none: no state
	// changed, and What says what happened.
	States []string
	What   string
	Why    string
	// Times is how often the same went on until Until, beyond what stands above; 0
	// is a plain line.
	Times int
	Until time.Duration

	key string
}

// The bounds of a timeline.
const (
	maxPeriod = 8      // lines of something that repeats
	maxLines  = 20_000 // of all of it; what comes then is only counted
)

// timeline gathers lines, and folds what repeats as it comes.
type timeline struct {
	tracks  map[reconcile.InstanceID]*track
	lines   int
	dropped int
}

func newTimeline() *timeline { return &timeline{tracks: map[reconcile.InstanceID]*track{}} }

func since(at time.Time) time.Duration { return at.Sub(Epoch) }

// person adds what a person did, or the daemon as a whole.
func (t *timeline) person(at time.Time, what string) {
	t.put(reconcile.InstanceID{Index: -1}, Line{At: since(at), What: what, key: what})
}

// turn adds what the core tells in one turn. An end and what follows from it at
// the same moment are one line.
func (t *timeline) turn(events []reconcile.Event) {
	lines := make([]Line, 0, len(events))
	ids := make([]reconcile.InstanceID, 0, len(events))
	last := map[reconcile.InstanceID]int{}
	for n := range events {
		ev := &events[n]
		if ev.Kind == reconcile.EventRunEnded || ev.Kind == reconcile.EventIgnored {
			continue
		}
		l := lineOf(ev)
		if at, ok := last[ev.ID]; ok && lines[at].join(&l) {
			continue
		}
		if l.States != nil {
			last[ev.ID] = len(lines)
		}
		lines, ids = append(lines, l), append(ids, ev.ID)
	}
	for n := range lines {
		t.put(ids[n], lines[n])
	}
}

func lineOf(ev *reconcile.Event) Line {
	l := Line{At: since(ev.At), Program: ev.ID.Program, What: string(ev.Kind), Why: ev.Detail}
	if ev.ID.Index >= 0 {
		l.Indexes = []int{ev.ID.Index}
	}
	if ev.Kind != reconcile.EventState {
		l.key = l.What + " " + l.Why
		return l
	}
	l.States, l.What = []string{ev.From.String(), ev.State.String()}, ""
	l.Why, l.key = why(ev)
	l.key = strings.Join(l.States, " ") + l.key
	return l
}

// join makes l go on with a line of the same moment.
func (l *Line) join(next *Line) bool {
	n := len(l.States)
	if n == 0 || next.States == nil || l.At != next.At || l.States[n-1] != next.States[0] || l.States[n-1] != exited {
		return false
	}
	l.States[n-1] = next.States[1]
	l.Why = strings.Join(filled(l.Why, next.Why), ", ")
	l.key += next.key
	return true
}

var exited = reconcile.StateExited.String()

func filled(parts ...string) []string {
	return slices.DeleteFunc(parts, func(s string) bool { return s == "" })
}

// why is the reason of a change of state in words, and without its numbers.
func why(ev *reconcile.Event) (words, key string) {
	switch ev.State {
	case reconcile.StateRunning:
		return "", ""
	case reconcile.StateBackoff:
		return ev.Detail, ""
	case reconcile.StateExited:
		switch {
		case ev.Exit != nil:
			key = ev.Exit.Words()
		case !reconcile.Rests(ev.Detail):
			key = ev.Detail // it waits for others
		}
		if reconcile.Rests(ev.Detail) {
			key = strings.Join(filled(key, ev.Detail), ", ")
		}
		return key, key
	default:
	}
	return strings.Join(filled(string(ev.Cause), ev.Detail), ", "), string(ev.Cause)
}

func (t *timeline) put(id reconcile.InstanceID, l Line) {
	k := t.tracks[id]
	if k == nil {
		k = &track{}
		t.tracks[id] = k
	}
	if t.lines >= maxLines && (k.fold == nil || k.fold.keys[len(k.fold.partial)] != l.key) {
		t.dropped++
		return
	}
	before := len(k.lines)
	k.put(l)
	t.lines += len(k.lines) - before
}

// list is the whole timeline, in the order of time; what happened to neighbours
// in the same way is one line.
func (t *timeline) list() []Line {
	var all []Line
	for _, id := range slices.SortedFunc(maps.Keys(t.tracks), compareIDs) {
		k := t.tracks[id]
		k.close()
		all = append(all, k.lines...)
	}
	slices.SortStableFunc(all, func(a, b Line) int { return cmp.Compare(a.At, b.At) })
	out := all[:0]
	for _, l := range all {
		if n := len(out) - 1; n >= 0 && out[n].alike(&l) {
			out[n].Indexes = append(out[n].Indexes, l.Indexes...)
			continue
		}
		out = append(out, l)
	}
	return out
}

func compareIDs(a, b reconcile.InstanceID) int {
	return cmp.Or(strings.Compare(a.Program, b.Program), cmp.Compare(a.Index, b.Index))
}

// alike reports whether the same happened to another instance.
func (l *Line) alike(o *Line) bool {
	return l.At == o.At && l.Program == o.Program && len(l.Indexes) > 0 && len(o.Indexes) > 0 && l.What == o.What && l.Why == o.Why &&
		l.Times == o.Times && l.Until == o.Until && slices.Equal(l.States, o.States)
}
