package reconcile

import (
	"slices"
	"time"
)

// orderedBy is the fact that a verb becomes when it takes effect.
var orderedBy = [...]FactKind{VerbForget: FactUnset, VerbStart: FactStartOrdered, VerbStop: FactStopOrdered, VerbSettle: FactSettled}

// Commit lets the changes of a plan take effect in w: each becomes its ordered
// fact. The caller then carries out p.Actions.
func Commit(w World, p Plan, now time.Time) (World, []Event) { return new(Room).Commit(w, p, now) }

// Commit is the function of that name. The events are the caller's.
func (r *Room) Commit(w World, p Plan, now time.Time) (World, []Event) {
	r.w = w
	r.t = turn{w: &r.w, now: now, by: p.By, events: make([]Event, 0, p.ordered())}
	r.t.commit(&p)
	events := r.t.events
	r.t.events = nil
	return r.w, events
}

func (t *turn) commit(p *Plan) {
	w := t.w
	for n := range p.programs {
		t.remember(&p.programs[n])
	}
	gone := map[string]map[int]bool{}
	for n := range p.Changes {
		c := &p.Changes[n]
		switch {
		case c.Later:
		case c.Verb == VerbForget:
			t.leave(c, gone)
		default:
			t.carry(c)
		}
	}
	for name, indexes := range gone {
		w.Programs[name].forget(indexes)
		w.drop(name)
	}
	for _, c := range p.programs {
		w.drop(c.name)
	}
}

// ordered is how many changes of p take effect; most become one event.
func (p *Plan) ordered() (n int) {
	for k := range p.Changes {
		if !p.Changes[k].Later {
			n++
		}
	}
	return n
}

// drop takes a program out of the world that is neither desired nor there.
func (w *World) drop(name string) {
	if p := w.Programs[name]; p != nil && p.Target == "" && len(p.Instances) == 0 {
		w.await(name, p.Spec, nil)
		delete(w.Programs, name)
	}
}

// carry lets one change take effect.
func (t *turn) carry(c *Change) {
	t.p, t.i = t.w.instance(c.ID)
	kind := orderedBy[c.Verb]
	switch {
	case kind != FactUnset:
		t.apply(Fact{Kind: kind, ID: c.ID, Run: c.Run, At: t.now, Change: c})
	case t.i == nil:
	case c.Verb == VerbWait:
		t.judgeLate()
	default: // live: asked for, and FactTuned says what came of it
		t.i.Tuning, t.i.Tune = c.Tuning, TuneAsked
	}
}

// judgeLate judges an end that came before the policy was known, and sets the
// delay that an end from before then waits for.
func (t *turn) judgeLate() {
	i := t.i
	if i.LastExit == nil {
		return
	}
	if i.Unjudged {
		t.judgeNow()
	}
	if i.State == StateExited && i.Finished == "" {
		// Backoff even when the delay is over: its deadline makes the turn that
		// starts it.
		t.move(&Fact{Kind: FactDelayed, ID: i.ID, Run: i.Run, At: t.now})
		i.Until = maxTime(i.Until, t.now)
	}
}

func (t *turn) judgeNow() {
	i := t.i
	i.Unjudged = false
	if i.Launch != "" && i.Launch != t.p.Target {
		i.StartCause = CauseConfig
	} else {
		i.StartCause = ""
		t.judge()
	}
	t.events, t.late = append(t.events, t.lateEvents()...), nil
	if i.Finished != "" || t.p.Forced != "" {
		t.p.RetryAt = t.now // others may have waited for it: look again at once
	}
}

func (t *turn) lateEvents() []Event {
	out := t.late
	for n := range out {
		out[n].At = t.now
		out[n] = t.event(out[n])
	}
	return out
}

func maxTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// leave notes that an instance goes out of the world.
func (t *turn) leave(c *Change, gone map[string]map[int]bool) {
	t.p, t.i = t.w.instance(c.ID)
	if t.i == nil {
		return
	}
	t.calm("forgotten")
	t.events, t.late = append(t.events, t.lateEvents()...), nil
	if gone[c.ID.Program] == nil {
		gone[c.ID.Program] = map[int]bool{}
	}
	gone[c.ID.Program][c.ID.Index] = true
}

// forget takes instances out, all in one pass.
func (p *Program) forget(indexes map[int]bool) {
	p.Instances = slices.DeleteFunc(p.Instances, func(i *Instance) bool { return indexes[i.ID.Index] })
}

// remember brings a program's own change into the world.
func (t *turn) remember(c *programChange) {
	p := t.w.program(c.name)
	anew := c.want != p.Spec
	if anew && p.Spec != nil && c.want != nil {
		p.past = pushVersion(p.past, version{p.Spec, p.Target, p.tuning})
	}
	if anew || p.recalled != nil {
		t.w.await(p.Name, p.known(), c.want)
	}
	p.revoke(c)
	held := p.Held
	p.Spec, p.recalled, p.Target, p.tuning = c.want, nil, c.target, c.tuning
	p.Held, p.heldBy, p.Forced = c.held, c.heldBy, c.forced
	p.Preflight, p.RetryAt = c.preflight, c.retryAt
	if anew && c.want != nil {
		for _, i := range p.Instances {
			i.Until = i.until(p.policy())
		}
	}
	if c.held == "" && (held != "" || c.remembered) {
		t.release(p)
	}
	switch {
	case held == c.held || c.remembered: // nothing new
	case c.held == "":
		t.hold(EventResumed, p.Name, c.why)
	default:
		t.hold(EventHeld, p.Name, c.held)
	}
}

// revoke notes, when c removes the program, that a person's stop is no more why
// an instance is down: if it is there again before its process has ended, the
// files are why it starts.
func (p *Program) revoke(c *programChange) {
	if c.target != "" || p.Target == "" {
		return
	}
	for _, i := range p.Instances {
		switch {
		case i.State != StateStopping:
		case i.EndCause == CauseStop:
			i.Revoked = true
		case i.MainGone && i.LastExit != nil && i.LastExit.Cause == CauseStop:
			i.StartCause = CauseConfig
		}
	}
}

// release lets go of the instances that held a roll.
func (t *turn) release(p *Program) {
	for _, i := range p.Instances {
		i.Held = ""
	}
}

// pushVersion puts v in front, unless only what no process sees differs.
func pushVersion(past []version, v version) []version {
	same := func(x version) bool { return x.launch == v.launch && x.tuning == v.tuning }
	past = slices.DeleteFunc(past, same)
	past = append([]version{v}, past...)
	return past[:min(len(past), pastLen)]
}
