package reconcile

import (
	"reflect"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// askAgain is when a preflight that nobody answered is asked again.
const askAgain = 10 * time.Second

// programChange is what Commit must remember of a program after a look at it.
type programChange struct {
	name      string
	want      *spec.Program
	target    spec.Digest
	tuning    spec.Digest
	held      string
	heldBy    holder
	preflight PreflightState
	retryAt   time.Time
	forced    spec.Digest
	// remembered is true when held comes from a recovered world: it was told
	// before.
	remembered bool
	// why is why a hold is over.
	why string
}

// was is the programChange that changes nothing.
func (p *Program) was() programChange {
	return programChange{name: p.Name, want: p.Spec, target: p.Target, tuning: p.tuning, held: p.Held, heldBy: p.heldBy, preflight: p.Preflight, retryAt: p.RetryAt, forced: p.Forced}
}

// free lets the roll go on.
func (c *programChange) free(why string) {
	if c.held != "" {
		c.held, c.heldBy, c.why = "", holderNone, why
	}
}

// aim works out what the program shall be now.
func (d *differ) aim() programChange {
	to := d.p.was()
	switch {
	case d.want == nil:
		to.target, to.preflight, to.retryAt, to.forced = "", PreflightUnknown, time.Time{}, ""
		to.free("removed")
		return to
	case d.want == d.p.Spec && to.target != "":
		return to
	}
	to.want, to.target, to.tuning = d.want, d.want.Launch.Digest(), d.want.Tuning.Digest()
	if to.target != d.p.Target {
		to.preflight, to.retryAt, to.forced = PreflightUnknown, time.Time{}, ""
	}
	if d.p.Spec == nil {
		d.recall(&to)
	} else if edited(d.p.Spec, d.want) {
		to.free("edited")
		if to.preflight != PreflightGood {
			to.preflight, to.retryAt = PreflightUnknown, time.Time{}
		}
	}
	return to
}

// edited reports whether somebody worked on the program itself. How many of it
// and which of them shall run says nothing about whether it runs well.
func edited(old, now *spec.Program) bool {
	a, b := *old, *now
	a.Instances, a.Admin = b.Instances, b.Admin
	return !reflect.DeepEqual(a, b)
}

// recall works out who holds the roll of a recovered world, of which only the
// words are known, if they are. A question may have been lost with us.
func (d *differ) recall(to *programChange) {
	why := d.p.failed(to.target)
	switch {
	case why != "":
		to.held, to.heldBy, to.remembered = why, holderFailed, true
	case to.target != d.p.Target:
		to.free("edited")
	case to.held != "" && to.preflight != PreflightGood:
		to.heldBy = holderPreflight
	case to.held != "":
		to.heldBy = holderGaveUp
	}
	if to.preflight == PreflightAsked {
		to.preflight, to.retryAt = PreflightUnknown, time.Time{}
	}
}

// failed is why a replacement by target did not get to run, if one did not.
func (p *Program) failed(target spec.Digest) string {
	for _, i := range p.Instances {
		if i.Held != "" && i.Launch == target {
			return i.Held
		}
	}
	return ""
}

// roll is the state of a replacement, counted anew each time.
type roll struct {
	owing  int // living instances that are owed a new process
	queued int // those of them that wait for their turn
	first  int // the lowest index of them
	moving int // instances that the roll has stopped and that do not run yet
	budget int // how many running ones may go away now
	dead   int // how many shall be up and gave up
	gaveUp *Instance
}

// survey counts what the roll depends on.
func (d *differ) survey() {
	if d.wanted() == 0 {
		d.to.preflight, d.to.retryAt, d.to.forced = PreflightUnknown, time.Time{}, ""
		d.to.free("nothing is left to replace")
		return
	}
	up, away := d.missing(), d.missing()
	for _, i := range d.p.Instances {
		if i.ID.Index >= d.want.Instances || d.want.Admin.IsDown(i.ID.Index) {
			continue
		}
		up++
		if d.away(i) {
			away++
		}
		d.roll.count(d, i)
	}
	most := d.policy.Update.MaxUnavailable.Of(up)
	d.roll.budget = most - away
	d.askPreflight()
	d.stall(most)
	if d.to.preflight == PreflightGood {
		d.to.retryAt = time.Time{}
	}
	if d.roll.owing > 0 {
		return
	}
	d.to.preflight, d.to.retryAt = PreflightUnknown, time.Time{} // the next roll asks anew
	if d.to.heldBy == holderPreflight || d.roll.moving == 0 {
		d.to.free("nothing is left to replace")
	}
	if d.roll.moving == 0 {
		d.to.forced = ""
	}
}

// count notes what one instance that shall be up means for the roll.
func (r *roll) count(d *differ, i *Instance) {
	if i.Rolling && !(d.to.forced != "" && i.Finished != "") {
		r.moving++
	}
	if i.Finished == finishedGaveUp && d.away(i) && !d.changed(i) {
		r.dead++
		if r.gaveUp == nil {
			r.gaveUp = i
		}
	}
	if !r.owes(d, i) {
		return
	}
	if r.owing == 0 {
		r.first = i.ID.Index
	}
	r.owing++
	if !i.AtOnce {
		r.queued++
	}
}

// stall says so when instances that gave up use up all that may be away: the
// roll would wait for ever.
func (d *differ) stall(most int) {
	stalled := d.roll.queued > 0 && d.roll.dead >= most
	switch {
	case d.to.heldBy == holderGaveUp && !stalled:
		d.to.free("nothing that gave up is in the way")
	case d.to.heldBy == holderNone && stalled && !d.w.Booting:
		d.to.held, d.to.heldBy = d.roll.gaveUp.ID.String()+" gave up", holderGaveUp
	}
}

// missing is how many wanted instances are not there yet and shall be up.
func (d *differ) missing() int {
	n := 0
	have := d.p.Instances
	if len(have) >= d.want.Instances && have[d.want.Instances-1].ID.Index == d.want.Instances-1 {
		return 0 // the usual case: sorted, unique, complete
	}
	for index := range d.want.Instances {
		if len(have) > 0 && have[0].ID.Index == index {
			have = have[1:]
		} else if !d.want.Admin.IsDown(index) {
			n++
		}
	}
	return n
}

// away reports whether an instance that shall be up is unavailable. What ended
// well and rests is not; and what a person's force has passed by is not waited
// for.
func (d *differ) away(i *Instance) bool {
	if i.State == StateRunning || i.Finished == finishedDone {
		return false
	}
	return d.to.forced == "" || i.Attempt == 0 && i.Finished == ""
}

// owes reports whether an instance's living process shall give way to a new one.
func (r *roll) owes(d *differ, i *Instance) bool {
	return (i.State == StateRunning || i.State == StateStarting) && (i.Cycle || d.changed(i))
}

// turn reports whether an instance is to be replaced now.
func (r *roll) turn(d *differ, i *Instance) bool {
	return d.to.preflight == PreflightGood && r.owes(d, i) && r.free(d, i) && d.lacks() == ""
}

// free reports whether nothing but the preflight keeps an instance that is owed
// a new process from its turn.
func (r *roll) free(d *differ, i *Instance) bool {
	switch {
	case i.AtOnce:
		return true
	case d.to.held != "":
		return false
	}
	return i.State == StateStarting || r.budget > 0
}

// take notes that an instance goes away.
func (r *roll) take(i *Instance) {
	if i.State == StateRunning {
		r.budget--
	}
}

// askPreflight asks whether the new process would start, before an old one is
// stopped for it.
func (d *differ) askPreflight() {
	if d.roll.owing == 0 || d.to.preflight == PreflightGood || d.to.preflight != PreflightUnknown && !due(d.to.retryAt, d.now) {
		return
	}
	d.to.preflight, d.to.retryAt = PreflightAsked, d.now.Add(askAgain)
	d.act(ActionPreflight, &Instance{ID: InstanceID{d.name, d.roll.first}}, Action{Launch: d.to.target})
}

// later foretells a replacement: of the first ones as soon as the preflight is
// good, of the others when their turn comes.
func (d *differ) later(i *Instance) {
	cause := d.endCause(i, GoalCycle)
	c := Change{Verb: VerbStop, What: replaceWord(cause), EndCause: cause, Later: true}
	if d.to.preflight != PreflightGood && d.roll.free(d, i) {
		c.Verb, c.Later = VerbWait, false
		d.roll.take(i)
	}
	c.Reason, c.Keys = d.stopWords(i, cause)
	lack := d.lacks()
	if lack != "" {
		c.Reason += "; waits for " + lack
	}
	switch {
	case c.Later && d.to.held != "" && !i.AtOnce:
		c.Reason += "; held: " + d.to.held
	case c.Later && lack == "":
		c.Reason += "; in its turn"
	}
	d.change(i, c)
}

// finish hands the program's own change to Commit, if there is one.
func (d *differ) finish() {
	d.plan.Wake = earlier(d.plan.Wake, d.to.retryAt)
	gone := d.want == nil && len(d.p.Instances) == 0
	if d.to != d.p.was() || d.w.Programs[d.name] == nil || gone || d.p.Spec == nil && d.want != nil {
		d.plan.programs = append(d.plan.programs, d.to)
	}
}
