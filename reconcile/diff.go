package reconcile

import (
	"maps"
	"slices"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// Diff says what must be done next so that w becomes s. It changes nothing.
func Diff(s spec.Spec, w World, now time.Time) Plan {
	names := make(map[string]bool, len(s.Programs)+len(w.Programs))
	for name := range s.Programs {
		names[name] = true
	}
	for name := range w.Programs {
		names[name] = true
	}
	plan, run := Plan{}, w.NextRun
	for _, name := range slices.Sorted(maps.Keys(names)) {
		var desired *spec.Program
		if p, ok := s.Programs[name]; ok {
			desired = &p
		}
		run = diffProgram(&plan, name, desired, &w, run, now)
	}
	return plan
}

// DiffProgram is Diff of one program; desired is nil when s does not have it.
// As long as no configuration was accepted (Generation 0), a program that is
// not desired is one of which nothing is known yet: it is left alone.
// While a program is unchanged, callers pass the same pointer: digests are
// taken anew only for another one.
func DiffProgram(name string, desired *spec.Program, w World, now time.Time) Plan {
	var plan Plan
	diffProgram(&plan, name, desired, &w, w.NextRun, now)
	return plan
}

// differ is one look at one program.
type differ struct {
	plan   *Plan
	name   string
	want   *spec.Program // nil: gone from desired
	policy *spec.Policy  // of want, or the last one known
	w      *World
	p      *Program // empty when the world has none; never written to
	empty  Program
	now    time.Time
	run    RunID // of the next start
	to     programChange
	roll   roll
	words  words
	blank  Instance // the one that add looks at
	absent string   // see lacks
	asked  bool     // absent is known
}

func diffProgram(plan *Plan, name string, desired *spec.Program, w *World, run RunID, now time.Time) RunID {
	p := w.Programs[name]
	if desired == nil && (p == nil || w.Generation == 0 && !w.ShuttingDown) {
		return run
	}
	d := differ{plan: plan, name: name, want: desired, w: w, p: p, now: now, run: run}
	if p == nil {
		d.empty.Name = name
		d.p = &d.empty
	}
	d.policy = d.p.policy()
	if desired != nil {
		d.policy = &desired.Policy
	}
	d.to = d.aim()
	d.survey()
	d.walk()
	d.finish()
	return d.run
}

// walk looks at every instance that is there or shall be, in order of index.
func (d *differ) walk() {
	have, want := d.p.Instances, d.wanted()
	if missing := want - len(have); missing > 0 {
		d.plan.Changes = slices.Grow(d.plan.Changes, missing)
		d.plan.Actions = slices.Grow(d.plan.Actions, missing)
	} else if leaving := d.leaving(want); leaving > 0 {
		d.plan.Changes = slices.Grow(d.plan.Changes, leaving)
		d.plan.Actions = slices.Grow(d.plan.Actions, leaving)
	}
	index := 0
	for _, i := range have {
		for ; index < want && index < i.ID.Index; index++ {
			d.add(index)
		}
		index = max(index, i.ID.Index+1)
		d.look(i)
	}
	for ; index < want; index++ {
		d.add(index)
	}
}

// leaving is how many living instances nobody has asked to end yet, of those that
// shall not be.
func (d *differ) leaving(want int) (n int) {
	have := d.p.Instances
	for k := len(have) - 1; k >= 0 && have[k].ID.Index >= want; k-- {
		if s := have[k].State; s == StateStarting || s == StateRunning {
			n++
		}
	}
	return n
}

// wanted is how many instances shall be; 0 while all is being shut down, when
// nothing is added any more.
func (d *differ) wanted() int {
	if d.want == nil || d.w.ShuttingDown {
		return 0
	}
	return d.want.Instances
}

// add looks at an instance that is not there yet.
func (d *differ) add(index int) {
	d.blank = Instance{ID: InstanceID{d.name, index}, State: StateNew}
	d.look(&d.blank)
}

// goal is what an instance shall come to.
func (d *differ) goal(i *Instance) Goal {
	switch {
	case d.w.ShuttingDown && i.Alive() && d.w.neededBy(d.name):
		return GoalUp
	case d.w.ShuttingDown:
		return GoalDown
	case d.want == nil || i.ID.Index >= d.want.Instances:
		return GoalGone
	case d.want.Admin.IsDown(i.ID.Index):
		return GoalDown
	case i.Finished != "" && !d.w.Booting && !d.changed(i):
		return GoalRest
	case d.roll.turn(d, i):
		return GoalCycle
	}
	return GoalUp
}

// changed reports whether an instance's current or last run was launched in
// another way than desired now.
func (d *differ) changed(i *Instance) bool {
	return d.want != nil && i.Launch != "" && i.Launch != d.to.target
}

// doing is how each verb becomes a change and an action.
var doing = [...]func(*differ, *Instance, Goal){
	VerbNone:   (*differ).keep,
	VerbStart:  (*differ).start,
	VerbStop:   (*differ).stop,
	VerbWait:   (*differ).wait,
	VerbSettle: (*differ).settle,
	VerbForget: (*differ).forget,
}

func (d *differ) look(i *Instance) {
	d.plan.Wake = earlier(d.plan.Wake, i.next(d.policy))
	if i.State == StateStopping && i.Owed != ActionUnset {
		d.push(i)
		return
	}
	goal := d.goal(i)
	doing[verbs[i.State][goal]](d, i, goal)
}

func (d *differ) change(i *Instance, c Change) {
	c.ID = i.ID
	d.plan.Changes = append(d.plan.Changes, c)
	if !c.Later {
		d.plan.Wake = earlier(d.plan.Wake, c.Until)
	}
}

func (d *differ) act(kind ActionKind, i *Instance, a Action) {
	a.Kind, a.ID, a.At = kind, i.ID, d.now
	if a.Run == 0 {
		a.Run = i.Run
	}
	d.plan.Actions = append(d.plan.Actions, a)
}

// keep: it is where it shall be. A living process may need tuning, and what a
// person stopped starts afresh when it is wanted again.
func (d *differ) keep(i *Instance, goal Goal) {
	switch {
	case goal == GoalUp:
		d.retune(i)
	case goal == GoalDown && !d.w.ShuttingDown && (i.Finished != "" || i.Waits != "" || i.Attempt > 0 || i.Flapping || i.Rolling || i.Unjudged):
		d.change(i, Change{Verb: VerbSettle, What: "settle", Reason: "stopped: the next start is a fresh one"})
	}
}

// retune brings a new tuning to a process that stays.
func (d *differ) retune(i *Instance) {
	if d.roll.owes(d, i) {
		d.later(i) // the tuning comes with the new process
		return
	}
	if i.Tuning == d.to.tuning && i.Tune != TuneLost || i.Tuning == "" {
		return
	}
	e := &edit{reason: "what the kernel said of it is lost"}
	if i.Tuning != d.to.tuning {
		e = d.words.tuning(d, i.Tuning)
	}
	d.change(i, Change{Verb: VerbNone, What: "live", Reason: e.reason, Keys: e.keys, Tuning: d.to.tuning})
	d.act(ActionTune, i, Action{Tuning: d.to.tuning})
}

func (d *differ) start(i *Instance, _ Goal) {
	anew := d.w.Booting || d.changed(i) // whatever came before
	switch {
	case i.State == StateBackoff && i.Until.After(d.now) && !anew:
		return
	case i.Unjudged && !anew:
		d.change(i, Change{Verb: VerbWait, What: "wait", Reason: "policy judges how it ended"})
		return
	case !anew && d.undelayed(i):
		d.change(i, Change{Verb: VerbWait, What: "wait", Reason: "policy says how long it waits"})
		return
	}
	cause := d.startCause(i)
	if lack := d.lacks(); lack != "" {
		d.putOff(i, lack, cause)
		return
	}
	c := Change{Verb: VerbStart, What: "start", Run: d.run, StartCause: cause, Launch: d.to.target, Tuning: d.to.tuning}
	c.Reason, c.Rolling = d.startWords(i, cause), d.roll.queued > 0
	d.run++
	d.change(i, c)
	d.act(ActionStart, i, Action{Run: c.Run, Launch: c.Launch, Tuning: c.Tuning})
}

// undelayed reports whether an end was judged before a new control came, which did
// not know the policy yet when the last process was gone: its delay is still owed.
func (d *differ) undelayed(i *Instance) bool {
	if i.State != StateExited || i.StartCause != CauseCrash || i.Attempt == 0 || i.LastExit == nil {
		return false
	}
	return nextStart(d.policy, i).After(d.now)
}

// startCause is why an instance starts now.
func (d *differ) startCause(i *Instance) Cause {
	switch {
	case d.w.Booting:
		return CauseBoot
	case i.State == StateNew && d.p.Spec == nil && len(d.p.Instances) == 0:
		return CauseConfig
	case i.State == StateNew:
		return CauseScale
	case d.changed(i) && (i.StartCause == CauseCrash || i.Finished != ""):
		return CauseConfig
	case i.StartCause == "":
		return CauseConfig
	}
	return i.StartCause
}

func (d *differ) stop(i *Instance, goal Goal) {
	cause := d.endCause(i, goal)
	c := Change{Verb: VerbStop, What: "stop", EndCause: cause, Action: ActionSignal, Rolling: goal == GoalCycle && !i.AtOnce}
	c.Reason, c.Keys = d.stopWords(i, cause)
	if goal == GoalCycle {
		c.What = replaceWord(cause)
		d.roll.take(i)
	}
	signal := d.policy.Stop.Signal
	c.Until = d.now.Add(d.policy.Stop.Timeout.D())
	if d.policy.Stop.Timeout <= 0 {
		c.Action = ActionKill
		signal, c.Until = d.escalation(i)
	}
	a := Action{Signal: signal}
	if before := d.policy.Stop.Before; before != nil && i.PID != 0 { // it may have been found by others
		c.Action, c.Until = ActionDrain, d.now.Add(before.Timeout().D())
		a = Action{Before: before, Cause: cause}
	}
	d.change(i, c)
	d.act(c.Action, i, a)
}

// endCause is why a stop is ordered.
func (d *differ) endCause(i *Instance, goal Goal) Cause {
	switch {
	case d.w.ShuttingDown:
		return CauseShutdown
	case goal == GoalGone && d.want == nil:
		return CauseRemoved
	case goal == GoalGone:
		return CauseScaledDown
	case goal == GoalCycle && d.changed(i):
		return CauseReplaced
	case goal == GoalCycle:
		return CauseRestart
	}
	return CauseStop
}

func replaceWord(cause Cause) string {
	if cause == CauseRestart {
		return "restart"
	}
	return "replace"
}

// push takes the next step of a stop under way.
func (d *differ) push(i *Instance) {
	c := Change{Verb: VerbStop, What: i.Owed.String(), Action: i.Owed}
	signal, until := d.escalation(i)
	c.Until = until
	switch {
	case i.Owed == ActionSignal && d.policy.Stop.Timeout > 0:
		signal, c.Until = d.policy.Stop.Signal, d.now.Add(d.policy.Stop.Timeout.D())
		c.Reason = "what stop.before says is done"
	case i.Owed == ActionSignal:
		c.Action, c.What, c.Reason = ActionKill, ActionKill.String(), "stop.timeout is 0"
	case i.Owed == ActionSweep:
		signal, c.Until = d.policy.Stop.Signal, i.Until
		if c.Until.IsZero() {
			c.Until = d.now.Add(d.policy.Stop.Timeout.D())
		}
		c.Reason = "its main process ended, others are left"
	default:
		c.Reason = "the time to stop is over"
	}
	d.change(i, c)
	d.act(c.Action, i, Action{Signal: signal})
}

// escalation is what comes when the time to stop is over, and until when that
// may take. What stop.escalate sends may be caught or ignored: KILL follows, or
// the stop, and with it a roll or the daemon's own end, might never be over.
func (d *differ) escalation(i *Instance) (spec.Signal, time.Time) {
	s := d.policy.Stop
	switch {
	case s.Escalate == spec.SIGKILL, i.Escalated && i.Until.IsZero():
		return spec.SIGKILL, time.Time{}
	case i.Escalated:
		return s.Escalate, i.Until // it is sent again, to who is left
	case s.Timeout <= 0:
		return s.Escalate, d.now.Add(spec.Defaults().Stop.Timeout.D())
	}
	return s.Escalate, d.now.Add(s.Timeout.D())
}

// wait: it is on its way, and a fact will say when it is there.
func (d *differ) wait(i *Instance, goal Goal) {
	up := goal == GoalUp || goal == GoalCycle
	switch {
	case i.State == StateStopping && up:
		d.change(i, Change{Verb: VerbStart, What: "start", Reason: "once it has ended", Later: true})
	case i.State == StateStarting && up:
		d.retune(i)
	}
}

func (d *differ) settle(i *Instance, _ Goal) {
	c := Change{Verb: VerbSettle, What: "settle", Reason: "stopped"}
	if d.w.ShuttingDown {
		c.Reason, c.EndCause = "shutdown", CauseShutdown
	}
	d.change(i, c)
}

func (d *differ) forget(i *Instance, _ Goal) {
	reason, _ := d.stopWords(i, d.endCause(i, GoalGone))
	d.change(i, Change{Verb: VerbForget, What: "forget", Reason: reason})
	d.act(ActionForget, i, Action{})
}
