package reconcile

import (
	"fmt"
	"strconv"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// turn is what the application of facts works on, one after the other.
type turn struct {
	w      *World
	p      *Program
	i      *Instance
	now    time.Time
	by     *spec.Requester // who wants what is committed
	fact   Fact            // the one at work
	events []Event
	// late are events that come after the change of state they belong to.
	late []Event
	// exit is set while a fact that ends a run is applied.
	exit *Exit
	// next is what follows at once, through the table too.
	next FactKind
}

// Room is what Apply and Commit work in, for whoever has much to apply: it is used
// again. The zero value is ready.
type Room struct {
	t turn
	w World
}

// Apply says what a fact means.
func Apply(w World, f Fact, now time.Time) (World, []Event) { return new(Room).Apply(w, f, now) }

// Apply is the function of that name. The events hold until r is used again.
func (r *Room) Apply(w World, f Fact, now time.Time) (World, []Event) {
	r.w = w
	r.t = turn{w: &r.w, now: now, events: r.t.events[:0]}
	r.t.apply(f)
	return r.w, r.t.events
}

func (t *turn) apply(fact Fact) {
	t.fact = fact
	f := &t.fact
	if f.At.IsZero() || f.At.After(t.now) { // it was dated, and then the clock set back
		f.At = t.now
	}
	if f.Kind == FactPreflight {
		t.preflight(f)
		return
	}
	if f.Kind == FactUnset || int(f.Kind) >= factCount {
		t.ignore(f, "there is no such fact")
		return
	}
	f.Kind = f.precise()
	t.p, t.i = t.w.instance(f.ID)
	if why := t.foreign(f); why != "" {
		t.ignore(f, why)
		return
	}
	t.move(f)
	for t.next != FactUnset {
		*f = Fact{Kind: t.next, ID: f.ID, Run: t.i.Run, At: f.At}
		t.next = FactUnset
		t.move(f)
	}
}

// precise is the row of the table that f belongs to.
func (f *Fact) precise() FactKind {
	switch {
	case f.Kind == FactExited && f.Left > 0:
		return FactMainExited
	case f.Kind == FactAdopted && f.Stopping:
		return FactAdoptedStopping
	}
	return f.Kind
}

// ours are the facts that our own verbs make: they bring their run with them.
var ours = [factCount]bool{FactStartOrdered: true, FactStopOrdered: true, FactSettled: true}

// The keeper's word on what lives or lived.
var (
	lives = [factCount]bool{FactAdopted: true, FactAdoptedStopping: true}
	ended = [factCount]bool{FactExited: true, FactMainExited: true}
)

// foreign says why a fact is about nothing we know. The keeper's word on what
// lives or lived is taken even then: what is not in the world cannot be
// stopped, and a second copy could start beside it.
func (t *turn) foreign(f *Fact) string {
	switch {
	case f.ID.Index < 0 || f.ID.Program == "" || f.Run == 0 && !ours[f.Kind]:
		return "it names no run of an instance"
	case t.i == nil && (ours[f.Kind] || lives[f.Kind] || ended[f.Kind]):
		t.takeIn(f, f.Kind)
	case t.i == nil:
		return "there is no such instance"
	case f.Run == t.i.Run || ours[f.Kind]:
	case lives[f.Kind]:
		t.takeOver(f)
	case ended[f.Kind] && f.Run > t.i.Run:
		t.takeIn(f, f.Kind)
	default:
		return fmt.Sprintf("it is of run %d; the last one is %d", f.Run, t.i.Run)
	}
	return ""
}

// takeIn makes room in the world for a run that it does not know.
func (t *turn) takeIn(f *Fact, kind FactKind) {
	t.p = t.w.program(f.ID.Program)
	if t.i = t.p.Find(f.ID.Index); t.i == nil {
		t.i = &Instance{ID: f.ID, State: StateNew, Since: f.At}
		t.p.insert(t.i)
	}
	if ours[kind] {
		return
	}
	t.takeOver(f)
	if ended[kind] {
		lived := Fact{Kind: FactAdopted, ID: f.ID, Run: f.Run, At: f.At, PID: f.PID, Launch: f.Launch, Tuning: f.Tuning, Generation: f.Generation}
		if f.Exit != nil && !f.Exit.Start.IsZero() {
			lived.At = f.Exit.Start
		}
		t.move(&lived)
		t.next = FactUnset
	}
}

// takeOver makes f's run the current one. The keeper lets only one run of an
// instance live, so another that we took to be alive is over.
func (t *turn) takeOver(f *Fact) {
	if t.i.Alive() && !t.i.MainGone {
		t.move(&Fact{Kind: FactLost, ID: f.ID, Run: t.i.Run, At: f.At})
		t.next = FactUnset
	}
	i := t.i
	i.Run, i.PID, i.StartedAt, i.Pending, i.Tune = f.Run, 0, time.Time{}, nil, TuneSettled
	i.Launch, i.Tuning, i.Generation = "", "", 0
	i.StartCause, i.By, i.Unjudged = "", nil, false
	i.Starts++
	t.w.NextRun = max(t.w.NextRun, f.Run+1)
}

// move lets the table decide, lets the fact have its effect, and tells.
func (t *turn) move(f *Fact) {
	i := t.i
	from, to := i.State, moves[i.State][f.Kind]
	if to == StateImpossible {
		t.ignore(f, "it cannot come to pass here")
		return
	}
	if effect := effects[f.Kind]; effect != nil {
		if why := effect(t, f); why != "" {
			t.ignore(f, why)
			return
		}
	}
	i.State = to
	if to != from {
		i.Since = f.At
		t.events = append(t.events, t.event(Event{Kind: EventState, From: from, Exit: t.exit, Cause: t.cause(to), At: f.At, Detail: t.detail(to, f.At)}))
	}
	for _, e := range t.late {
		e.At = f.At
		t.events = append(t.events, t.event(e))
	}
	t.late, t.exit = nil, nil
}

// event fills in what every event of an instance says.
func (t *turn) event(e Event) Event {
	i := t.i
	if e.ID == (InstanceID{}) {
		e.ID = i.ID
	}
	e.State, e.Run, e.PID, e.Generation, e.Attempt = i.State, i.Run, i.PID, i.Generation, i.Attempt
	return e
}

// tell adds an event after the change of state that is under way.
func (t *turn) tell(e Event) { t.late = append(t.late, e) }

// hold adds an event about a program as a whole.
func (t *turn) hold(kind EventKind, program, detail string) {
	t.events = append(t.events, Event{Kind: kind, ID: InstanceID{program, -1}, At: t.now, Detail: detail, Generation: t.w.Generation})
}

// cause is why an instance came to a state.
func (t *turn) cause(to State) Cause {
	i := t.i
	switch {
	case to == StateStarting || to == StateRunning:
		return i.StartCause
	case to == StateStopping && t.exit == nil:
		return i.EndCause
	case i.LastExit != nil && to != StateNew:
		return i.LastExit.Cause
	}
	return ""
}

// detail says in words what the fields of a state event do not.
func (t *turn) detail(to State, at time.Time) string {
	i := t.i
	switch {
	case to == StateBackoff:
		return "attempt " + strconv.Itoa(i.Attempt) + ", next start in " + max(i.Until.Sub(at), 0).Round(time.Millisecond).String()
	case to == StateExited && i.Finished != "":
		return i.Finished
	case to == StateExited && i.Waits != "":
		return "waits for " + i.Waits
	case to == StateStopping && i.Draining:
		return fmt.Sprintf("stop.before is asked first, for %s at most", i.Until.Sub(at).Round(time.Millisecond))
	}
	return ""
}

// ignore records a fact that moves nothing.
func (t *turn) ignore(f *Fact, why string) {
	e := Event{Kind: EventIgnored, ID: f.ID, Run: f.Run, PID: f.PID, At: f.At, Generation: t.w.Generation}
	e.Detail = f.Kind.String() + ": " + why
	if t.i != nil {
		e.State, e.From = t.i.State, t.i.State
	}
	t.events = append(t.events, e)
	t.late, t.exit = nil, nil
}

// preflight takes the answer about a launch that a roll waits for.
func (t *turn) preflight(f *Fact) {
	p := t.w.Programs[f.ID.Program]
	if p == nil || p.Preflight != PreflightAsked || f.Launch != p.Target {
		t.ignore(f, "nobody waits for it")
		return
	}
	if f.Reason == "" {
		p.Preflight, p.RetryAt = PreflightGood, time.Time{}
		if p.heldBy == holderPreflight {
			t.preflightGood(p)
		}
		return
	}
	p.Preflight, p.RetryAt = PreflightBad, t.now.Add(retryAfter(p.policy()))
	if reason := "preflight: " + f.Reason; reason != p.Held && (p.Held == "" || p.heldBy == holderPreflight) {
		p.Held, p.heldBy = reason, holderPreflight
		t.hold(EventHeld, p.Name, reason)
	}
}

// preflightGood lets a roll go on, unless something else holds it too.
func (t *turn) preflightGood(p *Program) {
	if why := p.failed(p.Target); why != "" {
		p.Held, p.heldBy = why, holderFailed
		t.hold(EventHeld, p.Name, why)
		return
	}
	p.Held, p.heldBy = "", holderNone
	t.hold(EventResumed, p.Name, "the preflight is good now")
}

// retryAfter is when a bad preflight is asked again: as often as a start that
// always fails would be tried.
func retryAfter(pol *spec.Policy) time.Duration {
	return max(pol.Restart.MaxDelay.D(), time.Second)
}
