package sim

import (
	"maps"
	"slices"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// Totals are what became of one program.
type Totals struct {
	Program   string
	Instances int // that were wanted at the end
	Starts    int
	Crashes   int // ends that nobody ordered and that were no success, and starts that failed
	Exits     int // ends that nobody ordered and that were a success
	Stops     int // ends that were ordered
	Killed    int // of those, by the signal of stop.escalate
	Flaps     int // how often a flapping began
	// Wanted and Running are the times of all instances together in which they
	// were wanted up, and were running of these.
	Wanted, Running time.Duration
	// Down is how long not one was running while some were wanted, and Longest the
	// longest time without a pause of that.
	Down, Longest time.Duration
	// End is how many instances are in each state at the end, and GaveUp and Done
	// how many of them rest.
	End          map[string]int
	GaveUp, Done int
	Flapping     bool
	Held         string
}

// Available is the share of the wanted time in which instances were running; 1
// where none was wanted.
func (t *Totals) Available() float64 {
	if t.Wanted == 0 {
		return 1
	}
	return float64(t.Running) / float64(t.Wanted)
}

// tally adds up what happens to each program.
type tally struct {
	m        *Machine
	programs map[string]*account
}

// account is a program's totals, and how it stands since the last look.
type account struct {
	Totals
	want            *spec.Program
	each            map[int]standing
	at              time.Time
	running, wanted int
	downSince       time.Time // zero: it is not
}

type standing struct{ running, rests bool }

func newTally(m *Machine) *tally { return &tally{m: m, programs: map[string]*account{}} }

func (t *tally) account(name string) *account {
	a := t.programs[name]
	if a == nil {
		a = &account{Totals: Totals{Program: name}, each: map[int]standing{}, at: t.m.now}
		t.programs[name] = a
	}
	return a
}

// desire: from now on other things are wanted.
func (t *tally) desire(s spec.Spec) {
	t.settle()
	for name := range s.Programs {
		t.account(name).want = new(s.Programs[name])
	}
	for name, a := range t.programs {
		if _, ok := s.Programs[name]; !ok {
			a.want = nil
		}
		a.look(t.m.now)
	}
}

// settle adds the time up that has passed.
func (t *tally) settle() {
	for _, a := range t.programs {
		a.pass(t.m.now)
	}
}

// pass adds up what was, until now.
func (a *account) pass(now time.Time) {
	d := now.Sub(a.at)
	a.at = now
	a.Wanted += time.Duration(a.wanted) * d
	a.Running += time.Duration(a.running) * d
	if d > 0 && a.wanted > 0 && a.running == 0 {
		a.Down += d
		a.Longest = max(a.Longest, now.Sub(a.downSince))
	}
}

// look counts anew how many are wanted, and run.
func (a *account) look(now time.Time) {
	a.wanted, a.running = 0, 0
	if a.want != nil {
		for n := range a.want.Instances {
			a.count(n, 1)
		}
	}
	a.judge(now)
}

// count adds an instance to what is counted, or takes it away.
func (a *account) count(n, by int) {
	s := a.each[n]
	if a.want == nil || n >= a.want.Instances || a.want.Admin.IsDown(n) || s.rests {
		return
	}
	a.wanted += by
	if s.running {
		a.running += by
	}
}

// judge notes since when not one is running.
func (a *account) judge(now time.Time) {
	switch down := a.wanted > 0 && a.running == 0; {
	case !down:
		a.downSince = time.Time{}
	case a.downSince.IsZero():
		a.downSince = now
	}
}

// batch takes what a turn changed.
func (t *tally) batch(b reconcile.Batch) {
	for _, i := range b.Changed {
		t.set(i.ID, standing{running: i.State == reconcile.StateRunning, rests: i.Finished == "done"})
	}
	for _, id := range b.Gone {
		t.set(id, standing{})
	}
	for _, a := range t.programs {
		a.judge(t.m.now)
	}
}

func (t *tally) set(id reconcile.InstanceID, s standing) {
	a := t.account(id.Program)
	a.pass(t.m.now)
	a.count(id.Index, -1)
	a.each[id.Index] = s
	a.count(id.Index, 1)
}

// event counts what the core tells.
func (t *tally) event(ev *reconcile.Event) {
	if ev.ID.Program == "" {
		return
	}
	a := t.account(ev.ID.Program)
	switch ev.Kind {
	case reconcile.EventState:
		if ev.State == reconcile.StateStarting {
			a.Starts++
		}
	case reconcile.EventFlapping:
		a.Flaps++
	case reconcile.EventRunEnded:
		a.ended(ev.Exit)
	default:
	}
}

func (a *account) ended(x *reconcile.Exit) {
	switch x.Cause {
	case reconcile.CauseCrashed, reconcile.CauseOOM, reconcile.CauseNoStart, reconcile.CauseLost:
		a.Crashes++
	case reconcile.CauseExit:
		a.Exits++
	default:
		a.Stops++
		if x.Signal == spec.SIGKILL {
			a.Killed++
		}
	}
}

// totals are those of every program that ever was, by name.
func (t *tally) totals(w *reconcile.World) []Totals {
	t.settle()
	var out []Totals
	for _, name := range slices.Sorted(maps.Keys(t.programs)) {
		a := t.programs[name]
		a.End = map[string]int{}
		if a.want != nil {
			a.Instances = a.want.Instances
		}
		if w != nil && w.Programs[name] != nil {
			a.finish(w.Programs[name])
		}
		out = append(out, a.Totals)
	}
	return out
}

// finish says how it stands at the end.
func (a *account) finish(p *reconcile.Program) {
	a.Held = p.Held
	for _, i := range p.Instances {
		a.End[i.State.String()]++
		a.Flapping = a.Flapping || i.Flapping
		switch i.Finished {
		case "":
		case "done":
			a.Done++
		default:
			a.GaveUp++
		}
	}
}
