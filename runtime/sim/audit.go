package sim

import (
	"fmt"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// audit holds what happens against what was promised. What it compares with is
// not the world of the core but what really happened: the kernel's processes,
// what was written down, and the clock.
type audit struct {
	m        *Machine
	thorough bool
	err      error
	// lives are the processes whose end is not written down yet, by run.
	lives map[reconcile.RunID]*process
	// gone are runs whose end nobody could see.
	gone map[reconcile.RunID]bool
	// books are what was written down of each instance.
	books map[reconcile.InstanceID]*book
	cover *Coverage
	// forgot is set once what was written down was lost.
	forgot bool
	// specs are the desired programs of before the turn.
	specs map[string]*spec.Program
}

// book is what was written down of an instance.
type book struct {
	run    reconcile.RunID // whose end was written down last
	end    time.Time
	starts int
	until  time.Time // the next start that was told last
	// ends and lastEnd are how many ends flapping counts, and the last of them.
	ends    int
	lastEnd time.Time
}

func newAudit(m *Machine, thorough bool) audit {
	return audit{
		m: m, thorough: thorough, lives: map[reconcile.RunID]*process{}, gone: map[reconcile.RunID]bool{},
		books: map[reconcile.InstanceID]*book{}, specs: map[string]*spec.Program{},
	}
}

// fail notes that a promise was broken; the first one counts.
func (a *audit) fail(format string, args ...any) {
	if a.err == nil {
		a.err = fmt.Errorf("at %s: %s", a.m.now.Sub(Epoch), fmt.Sprintf(format, args...))
	}
}

func (a *audit) book(id reconcile.InstanceID) *book {
	b := a.books[id]
	if b == nil {
		b = &book{}
		a.books[id] = b
	}
	return b
}

// starting: an order to start has reached the keeper.
func (a *audit) starting(id reconcile.InstanceID, run reconcile.RunID) {
	if p := a.m.kernel.newest[id]; p != nil && p.alive() {
		a.fail("%s is to start as run %d while run %d lives: two copies", id, run, p.run)
	}
	if a.lives[run] != nil || a.gone[run] || run <= a.book(id).run {
		a.fail("%s is to start as run %d, which was one before", id, run)
	}
	a.notTooEarly(id, run)
}

// notTooEarly holds a restart after a crash against the time that was told.
func (a *audit) notTooEarly(id reconcile.InstanceID, run reconcile.RunID) {
	i, _ := a.instance(id)
	if i == nil || i.Run != run || i.StartCause != reconcile.CauseCrash {
		return
	}
	if at := a.book(id).until; a.m.now.Before(at) {
		a.fail("%s starts at %s; it was to wait until %s", id, a.m.now.Sub(Epoch), at.Sub(Epoch))
	}
}

// Delay is the least and the most that policy lets an instance wait before it is
// started again, by the words of the documentation.
func Delay(r *spec.Restart, attempt int) (least, most time.Duration) {
	base := float64(r.Delay)
	for n := 1; n < attempt && base < float64(r.MaxDelay); n++ {
		base *= r.Factor
	}
	base = min(base, float64(r.MaxDelay))
	return time.Duration(base), time.Duration(base * (1 + r.Jitter))
}

// instance looks one up in the world of the control that lives.
func (a *audit) instance(id reconcile.InstanceID) (*reconcile.Instance, *reconcile.Program) {
	if a.m.control == nil {
		return nil, nil
	}
	p := a.m.control.hand.World().Programs[id.Program]
	if p == nil {
		return nil, nil
	}
	for _, i := range p.Instances {
		if i.ID == id {
			return i, p
		}
	}
	return nil, nil
}

// started: a process lives.
func (a *audit) started(p *process) { a.lives[p.run] = p }

// signalled: a signal for a run reaches a process.
func (a *audit) signalled(run reconcile.RunID, p *process) {
	if p.run != run {
		a.fail("a signal for run %d reaches run %d of %s", run, p.run, p.id)
	}
}

// forgotten: nobody will ever know how a run ended.
func (a *audit) forgotten(run reconcile.RunID) {
	a.gone[run] = true
	if p := a.lives[run]; p != nil {
		p.unseen = true
	}
}

// rebooted: whoever lived ended, and the journal knows that.
func (a *audit) rebooted() {
	a.lives, a.gone = map[reconcile.RunID]*process{}, map[reconcile.RunID]bool{}
}

// amnesia: what was written down is lost. Only what lives can be held against
// what comes.
func (a *audit) amnesia() {
	a.books, a.forgot = map[reconcile.InstanceID]*book{}, true
	for run, p := range a.lives {
		if !p.main {
			delete(a.lives, run)
		}
	}
}

// stopped: an orderly shutdown is over.
func (a *audit) stopped() {
	for _, p := range a.m.kernel.living() {
		a.fail("everything is stopped, but run %d of %s lives", p.run, p.id)
	}
	for _, b := range a.books {
		b.until = time.Time{} // who starts the daemon again starts the programs again
	}
}

// recovered: a control starts with a world.
func (a *audit) recovered(w reconcile.World) {
	if err := reconcile.Check(w); err != nil {
		a.fail("what was written down cannot be: %v", err)
	}
	for _, p := range w.Programs {
		for _, i := range p.Instances {
			if b := a.book(i.ID); i.Starts < b.starts {
				a.fail("%s has %d starts, and had %d", i.ID, i.Starts, b.starts)
			}
		}
	}
}

// recorded: a turn was written down.
func (a *audit) recorded(b reconcile.Batch) {
	for n := range b.Events {
		ev := &b.Events[n]
		switch ev.Kind {
		case reconcile.EventRunEnded:
			a.ended(ev)
			if i, _ := a.instance(ev.ID); i != nil && a.book(ev.ID).counts(i) {
				a.judged(i)
			}
		case reconcile.EventState:
			if a.cover != nil && ev.State == reconcile.StateBackoff {
				a.cover.fact(ev.From, reconcile.FactDelayed)
			}
		default:
		}
	}
	for _, i := range b.Changed {
		book := a.book(i.ID)
		if i.Starts < book.starts {
			a.fail("%s has %d starts, and had %d", i.ID, i.Starts, book.starts)
		}
		book.starts = i.Starts
		a.bounded(i, book)
	}
	for _, id := range b.Gone {
		a.book(id).starts = 0
	}
}

// ended holds an end that is written down against the one that was.
func (a *audit) ended(ev *reconcile.Event) {
	x, book, p := ev.Exit, a.book(ev.ID), a.lives[ev.Exit.Run]
	delete(a.lives, x.Run)
	if x.Run <= book.run {
		a.fail("the end of run %d of %s is told again", x.Run, ev.ID)
	}
	book.run, book.until = x.Run, time.Time{}
	switch {
	case a.outOfOrder(x, book) && !a.forgot: // one that is lost ended by now, if nobody knows better
		a.fail("run %d of %s was from %s to %s; the one before ended at %s, now is %s", x.Run, ev.ID, x.Start, x.At, book.end, a.m.now)
	case !x.Start.IsZero() && x.Duration != x.At.Sub(x.Start):
		a.fail("run %d of %s took %s from %s to %s", x.Run, ev.ID, x.Duration, x.Start, x.At)
	case p == nil && x.Error == "" && !x.Unknown && !a.forgot:
		a.fail("run %d of %s never was, but ended: %+v", x.Run, ev.ID, *x)
	case p != nil:
		a.agree(p, x)
	}
	book.end = x.At
}

// outOfOrder reports whether a life overlaps the one before it, or the future.
func (a *audit) outOfOrder(x *reconcile.Exit, b *book) bool {
	return x.At.After(a.m.now) || x.Start.After(x.At) || x.At.Before(b.end) || !x.Start.IsZero() && x.Start.Before(b.end)
}

// agree compares how a process ended with what is written down.
func (a *audit) agree(p *process, x *reconcile.Exit) {
	switch {
	case p.main:
		a.fail("run %d of %s is said to have ended, and lives", p.run, p.id)
	case p.unseen:
		if !x.Unknown && x.Error == "" {
			a.fail("nobody saw the end of run %d of %s, and it is known: %+v", p.run, p.id, *x)
		}
	case x.Unknown || x.Error != "" || x.Code != p.ending.Code || x.Signal != p.ending.Signal || x.Core != p.ending.Core:
		a.fail("run %d of %s ended by %+v; written down is %+v", p.run, p.id, p.ending, *x)
	case !x.At.Equal(p.seen) || !x.Start.Equal(p.started):
		a.fail("run %d of %s was from %s to %s; written down is %s to %s", p.run, p.id, p.started, p.seen, x.Start, x.At)
	}
}

// bounded holds a delay that is new against policy: that of before the turn, or
// that of after it.
func (a *audit) bounded(i *reconcile.Instance, b *book) {
	if i.State != reconcile.StateBackoff || i.Until.Equal(b.until) || i.LastExit == nil {
		return
	}
	b.until = i.Until
	if !i.Until.After(a.m.now) {
		return // a person's start
	}
	wait := i.Until.Sub(i.LastExit.At)
	a.byPolicy(i.ID, func(pol *spec.Policy) string {
		least, most := Delay(&pol.Restart, i.Attempt)
		if wait >= least && wait <= most+1 {
			return ""
		}
		return fmt.Sprintf("%s waits %s after attempt %d; policy says %s to %s", i.ID, wait, i.Attempt, least, most)
	})
}

// unplanned are the causes of ends that nobody ordered.
var unplanned = map[reconcile.Cause]bool{
	reconcile.CauseExit: true, reconcile.CauseCrashed: true, reconcile.CauseOOM: true, reconcile.CauseNoStart: true, reconcile.CauseLost: true,
}

// counts reports whether an end was one more of those that flapping counts.
func (b *book) counts(i *reconcile.Instance) bool {
	n := len(i.Ends)
	more := n > 0 && (n != b.ends || !i.Ends[n-1].Equal(b.lastEnd))
	if b.ends = n; n > 0 {
		b.lastEnd = i.Ends[n-1]
	}
	return more && i.LastExit != nil && i.Ends[n-1].Equal(i.LastExit.At) && unplanned[i.LastExit.Cause]
}

// judged holds the verdict of an unplanned end against policy.
func (a *audit) judged(i *reconcile.Instance) {
	n := len(i.Ends)
	a.byPolicy(i.ID, func(pol *spec.Policy) string {
		flap := pol.Restart.Flap
		if i.Flapping || n < flap.Count || i.Ends[n-1].Sub(i.Ends[n-flap.Count]) > flap.Within.D() {
			return ""
		}
		return fmt.Sprintf("%s ended %d times within %s and does not flap", i.ID, flap.Count, flap.Within)
	})
}

// byPolicy fails when neither the policy of before the turn nor that of after it
// allows something.
func (a *audit) byPolicy(id reconcile.InstanceID, wrong func(*spec.Policy) string) {
	_, p := a.instance(id)
	if p == nil || p.Spec == nil {
		return
	}
	why := wrong(&p.Spec.Policy)
	if old := a.specs[id.Program]; why != "" && old != nil && old != p.Spec {
		why = wrong(&old.Policy)
	}
	if why != "" {
		a.fail("%s", why)
	}
}

// turned: a turn is over.
func (a *audit) turned(c *control) {
	w := c.hand.World()
	if err := reconcile.Check(w); err != nil {
		a.fail("%v", err)
	}
	if !c.read || a.err != nil {
		return
	}
	for name, p := range w.Programs {
		a.specs[name] = p.Spec
		for _, i := range p.Instances {
			if i.State == reconcile.StateBackoff && i.Until.Before(a.m.now) && a.up(p, i) && !w.ShuttingDown {
				a.fail("%s should have started at %s", i.ID, i.Until.Sub(Epoch))
			}
		}
	}
	if a.thorough {
		a.nothingLeft(w)
	}
}

// up reports whether an instance is wanted up.
func (a *audit) up(p *reconcile.Program, i *reconcile.Instance) bool {
	return p.Spec != nil && p.Target != "" && i.ID.Index < p.Spec.Instances && !p.Spec.Admin.IsDown(i.ID.Index) && i.Finished == ""
}

// nothingLeft sees to it that a look at everything finds nothing to do that the
// turn, which looked only at what was touched, left undone. What is due at this
// moment has a turn of its own.
func (a *audit) nothingLeft(w reconcile.World) {
	plan := reconcile.Diff(a.m.desired.Spec, w, a.m.now)
	due := func(name string) bool {
		at := reconcile.Wake(w.Programs[name])
		return !at.IsZero() && !at.After(a.m.now)
	}
	for _, c := range plan.Changes {
		if !c.Later && c.Verb != reconcile.VerbWait && !due(c.ID.Program) {
			a.fail("a look at everything finds more to do: %+v", c)
		}
	}
	for _, o := range plan.Actions {
		if !due(o.ID.Program) {
			a.fail("a look at everything finds more to order: %+v", o)
		}
	}
}
