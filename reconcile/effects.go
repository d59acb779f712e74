package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// effects is what a fact does beside moving the state, by kind. It runs before
// the state moves. A reason that is not empty means: ignore the fact.
var effects [factCount]func(*turn, *Fact) string

func init() { // not a literal: the effects refer to move, which reads this
	effects = [...]func(*turn, *Fact) string{
		FactStartOrdered:    startOrdered,
		FactStopOrdered:     stopOrdered,
		FactSettled:         settled,
		FactStarted:         started,
		FactStartFailed:     startFailed,
		FactReady:           ready,
		FactExited:          exited,
		FactMainExited:      mainExited,
		FactEmptied:         emptied,
		FactDeadline:        deadline,
		FactAdopted:         adopted,
		FactAdoptedStopping: adoptedStopping,
		FactLost:            lost,
		FactTuned:           tuned,
		FactDelayed:         delayed,
		FactDrained:         drained,
	}
}

func startOrdered(t *turn, f *Fact) string {
	i, c := t.i, f.Change
	if c == nil || c.Run == 0 {
		return "it has no change"
	}
	if c.StartCause != CauseCrash {
		i.Attempt = 0
	}
	if c.StartCause == CauseConfig {
		t.calm("its launch changed")
	}
	t.asked(c.StartCause)
	if c.Launch != i.Launch {
		i.Held = ""
	}
	i.Run, i.PID, i.StartedAt, i.Until = c.Run, 0, time.Time{}, time.Time{}
	i.Launch, i.Tuning, i.Generation = c.Launch, c.Tuning, t.w.Generation
	i.StartCause, i.Finished, i.Waits, i.Pending, i.Tune = c.StartCause, "", "", nil, TuneSettled
	i.Cycle, i.AtOnce, i.Unjudged = false, false, false
	i.Rolling = i.Rolling || c.Rolling
	i.Drain = nil
	i.Starts++
	t.w.NextRun = max(t.w.NextRun, c.Run+1)
	return ""
}

// asked notes who asked for a start or a stop, by its cause. Who gave a command
// is noted already; what follows from a wish was asked for by whose wish it is.
func (t *turn) asked(cause Cause) {
	switch cause {
	case CauseCommand, CauseRestart, CauseStop:
	case CauseConfig, CauseScale, CauseReplaced, CauseScaledDown, CauseRemoved:
		t.i.By = t.by
	case CauseShutdown:
		t.i.By = t.w.shutBy
	default:
		t.i.By = nil
	}
}

func stopOrdered(t *turn, f *Fact) string {
	i, c := t.i, f.Change
	if c == nil {
		return "it has no change"
	}
	i.Owed, i.Until = ActionUnset, c.Until
	if i.State != StateStopping {
		i.EndCause, i.Rolling, i.Drain = c.EndCause, c.Rolling, nil
		if c.EndCause == CauseReplaced || c.EndCause == CauseRestart {
			i.Attempt = 0 // the new process is a fresh one, and until it runs this one is away
		}
		t.asked(c.EndCause)
		if c.EndCause != CauseRestart && c.EndCause != CauseReplaced && c.EndCause != CauseShutdown {
			t.calm(string(c.EndCause))
		}
	}
	i.Draining = c.Action == ActionDrain
	if c.Action == ActionKill {
		i.Escalated = true
	}
	return ""
}

// drained: what was to be done before the stop is over, well or not. Now the
// process is asked to end.
func drained(t *turn, f *Fact) string {
	if !t.i.Draining {
		return "" // it ended meanwhile, or the deadline passed
	}
	d := Drain{}
	if f.Drain != nil {
		d = *f.Drain
	}
	t.drained(d, f.At)
	return ""
}

func (t *turn) drained(d Drain, at time.Time) {
	i := t.i
	d.Took = max(at.Sub(i.Since), 0)
	i.Draining, i.Drain = false, &d
	i.Until, i.Owed = time.Time{}, ActionSignal
	t.tell(Event{Kind: EventDrained, Cause: i.EndCause, Drain: &d, Detail: d.Answer})
}

func settled(t *turn, f *Fact) string {
	i := t.i
	if c := f.Change; c != nil && c.Waits != "" {
		i.Waits, i.StartCause, i.Finished, i.Unjudged, i.Until = c.Waits, c.StartCause, "", false, time.Time{}
		return ""
	}
	if i.State == StateNew {
		i.StartCause = CauseCommand
	}
	i.Until = time.Time{}
	if f.Change != nil && f.Change.EndCause == CauseShutdown {
		return "" // what was judged stays judged: the daemon ends, not the wish
	}
	i.Attempt, i.Finished, i.Waits, i.Unjudged, i.StartCause = 0, "", "", false, CauseCommand
	i.Rolling, i.Held = false, ""
	t.calm("stopped")
	return ""
}

func started(t *turn, f *Fact) string {
	i := t.i
	i.PID, i.StartedAt = f.PID, f.At
	if i.State == StateStarting {
		t.probation()
	}
	return ""
}

// probation sets when a living process will count as running.
func (t *turn) probation() {
	least := t.p.policy().Start.MinUptime.D()
	t.i.Until = t.i.StartedAt.Add(least)
	if least <= 0 {
		t.next = FactReady
	}
}

func ready(t *turn, _ *Fact) string {
	i := t.i
	if i.State == StateStarting && i.PID == 0 {
		return "nobody knows yet that exec succeeded"
	}
	if i.State == StateStarting {
		i.Until, i.Rolling = time.Time{}, false // Held stays: a person may want to look
	}
	return ""
}

// deadline does what the state's deadline was for.
func deadline(t *turn, f *Fact) string {
	i := t.i
	now := f.At
	switch {
	case i.State == StateRunning && due(i.stableAt(t.p.policy()), now):
		t.calm("running for " + t.p.policy().Restart.Flap.Within.String())
	case !due(i.until(t.p.policy()), now):
		return "it has not come yet"
	case i.State == StateStarting:
		return ready(t, f)
	case i.Draining:
		t.drained(Drain{Answer: "no answer within " + i.Until.Sub(i.Since).Round(time.Millisecond).String()}, now)
	case i.State == StateStopping:
		i.Until, i.Owed = time.Time{}, ActionKill
	}
	return ""
}

// startFailed composes the error as people read it: the step, then why.
func startFailed(t *turn, f *Fact) string {
	if t.i.MainGone {
		return "it ran, and its end is known"
	}
	why := f.Reason
	switch {
	case why == "":
		why = fmt.Sprintf("%s: errno %d", f.Step, f.Errno)
	case f.Step != "" && !strings.HasPrefix(why, f.Step):
		why = f.Step + ": " + why
	}
	t.end(Exit{Code: -1, Error: why, At: f.At})
	t.vacate()
	return ""
}

func exited(t *turn, f *Fact) string {
	if t.i.MainGone {
		return emptied(t, f) // said again, and nobody is left by now
	}
	t.end(exitOf(f))
	t.vacate()
	return ""
}

// mainExited: the rest of the containment is owed the stop signal too, within
// the time that an ordered stop still has. It may be said again, to a new control
// whose last order was lost with the old one: orders are given again, KILL too.
func mainExited(t *turn, f *Fact) string {
	i := t.i
	if !i.MainGone {
		until := i.Until
		if i.State != StateStopping || i.Draining || i.Owed == ActionSignal {
			until = time.Time{} // nobody has been asked to end yet
		}
		t.end(exitOf(f))
		i.MainGone, i.Until, i.Draining = true, until, false
	}
	switch {
	case i.Escalated:
		i.Owed = ActionKill
	case t.p.policy().Stop.Timeout <= 0:
		i.Owed, i.Until = ActionKill, time.Time{}
	default:
		i.Owed = ActionSweep
	}
	return ""
}

func exitOf(f *Fact) Exit {
	if f.Exit == nil {
		return Exit{Code: -1, Unknown: true, At: f.At}
	}
	x := *f.Exit
	x.At = f.At
	return x
}

func emptied(t *turn, _ *Fact) string {
	switch i := t.i; {
	case i.State != StateStopping:
	case !i.MainGone:
		return "its main process has not ended"
	default:
		t.vacate()
	}
	return ""
}

func lost(t *turn, f *Fact) string {
	if !t.i.MainGone {
		x := exitOf(f)
		if x.Error = f.Reason; f.Exit == nil && f.Reason != "" {
			x.Unknown = false // it never began
		}
		t.end(x)
	}
	t.vacate()
	return ""
}

// vacate: nobody is left. What policy wants again may have to wait.
func (t *turn) vacate() {
	i := t.i
	if _, ordered := startAfter[i.LastExit.Cause]; ordered && i.MainGone {
		t.exit = i.LastExit // no change of state has told it: it was stopping before
	}
	i.MainGone, i.Escalated, i.Owed, i.Until, i.Draining = false, false, ActionUnset, time.Time{}, false
	if !t.p.judgeable() {
		return // the first look at it knows policy, and sets the delay
	}
	if i.StartCause == CauseCrash && i.Attempt > 0 && i.Finished == "" && !i.Unjudged && nextStart(t.p.policy(), i).After(t.now) {
		t.next = FactDelayed
	}
}

func delayed(t *turn, _ *Fact) string {
	if t.i.LastExit == nil || t.i.Finished != "" {
		return "nothing waits for its next start"
	}
	t.i.Until = nextStart(t.p.policy(), t.i)
	return ""
}

func adopted(t *turn, f *Fact) string {
	i := t.i
	t.alive(f)
	i.EndCause, i.Revoked, i.Escalated, i.MainGone, i.Owed = "", false, false, false, ActionUnset
	if i.State != StateRunning {
		t.probation()
	}
	return ""
}

// alive takes over what the keeper knows of a living run.
func (t *turn) alive(f *Fact) {
	i := t.i
	if f.PID != 0 {
		i.PID = f.PID
	}
	if i.StartedAt.IsZero() {
		i.StartedAt = f.At
	}
	if f.Launch != "" {
		i.Launch = f.Launch
	}
	if f.Tuning != "" {
		i.Tuning = f.Tuning
	}
	if f.Generation != 0 {
		i.Generation = f.Generation
	}
	if i.Tune == TuneAsked {
		i.Tune = TuneLost
	}
	i.Finished, i.Waits, i.Unjudged, i.Draining = "", "", false, false
}

func adoptedStopping(t *turn, f *Fact) string {
	i := t.i
	anew := i.State != StateStopping || i.MainGone // gone, we thought
	t.alive(f)
	i.MainGone = false
	if i.EndCause == "" {
		i.EndCause = CauseStop
	}
	switch {
	case anew && !i.Escalated:
		i.Owed, i.Until = ActionUnset, t.now.Add(t.p.policy().Stop.Timeout.D())
	case i.Escalated: // that order may have been lost with us
		i.Owed = ActionKill
	case i.Owed != ActionUnset || i.Until.IsZero(): // and so may this one
		i.Owed, i.Until = ActionKill, time.Time{}
	}
	return ""
}

// tuned: what the kernel refused waits for the next process.
func tuned(t *turn, f *Fact) string {
	i := t.i
	switch {
	case !i.Alive() || i.MainGone:
		return "" // too late
	case f.Tuning != i.Tuning:
		return "another tuning was ordered since"
	}
	i.Tune = TuneSettled
	if maps.Equal(i.Pending, f.Refused) {
		return ""
	}
	i.Pending = nil
	if len(f.Refused) > 0 {
		i.Pending = maps.Clone(f.Refused)
		t.tell(Event{Kind: EventPending, Detail: refusals(f.Refused)})
	}
	return ""
}

func refusals(refused map[string]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(refused)) {
		parts = append(parts, key+" "+refused[key])
	}
	return strings.Join(parts, "; ")
}
