package reconcile

import (
	"fmt"
	"strconv"
)

// startAfter is why an instance starts again after a stop that was ordered for
// a cause, if it is wanted again at all.
var startAfter = map[Cause]Cause{
	CauseStop:       CauseCommand,
	CauseReplaced:   CauseConfig,
	CauseRestart:    CauseCommand,
	CauseScaledDown: CauseScale,
	CauseRemoved:    CauseConfig,
	CauseShutdown:   CauseBoot,
}

// end closes the current run: its exit is completed, and what follows from it
// is decided. Only an end that nobody ordered is judged by policy.
func (t *turn) end(x Exit) {
	i := t.i
	t.hearStart(&x)
	ordered, restart := i.EndCause, i.Cycle
	never := i.StartedAt.IsZero() && (x.Unknown || t.fact.Kind == FactLost) // the order to start it was lost
	x.Run, x.PID, x.Start, x.Generation = i.Run, i.PID, i.StartedAt, i.Generation
	if !i.StartedAt.IsZero() {
		x.Duration = max(x.At.Sub(i.StartedAt), 0)
	}
	x.Cause, x.Drain, i.Drain = t.endCause(&x), i.Drain, nil
	i.LastExit, t.exit = &x, &x
	i.EndCause, i.Cycle, i.AtOnce, i.Pending, i.Tune = "", false, false, nil, TuneSettled
	t.tell(Event{Kind: EventRunEnded, Exit: &x, Cause: x.Cause})
	switch {
	case ordered != "":
		i.StartCause = i.startsAfter(ordered)
	case restart: // owed anyway: this is it
		i.StartCause = CauseCommand
	case never:
	case x.Unknown && t.w.Booting:
		i.StartCause = CauseBoot
	case !t.p.judgeable():
		i.StartCause, i.Unjudged = CauseCrash, true
	case i.Launch != "" && t.p.Target != "" && i.Launch != t.p.Target:
		i.StartCause = CauseConfig // the new launch deserves its own judgement
	default:
		t.judge()
	}
	i.Revoked = false
	if ordered == "" && !never {
		t.haltRoll(&x)
	}
}

// startsAfter is why it starts again after a stop that was ordered for a cause.
func (i *Instance) startsAfter(ordered Cause) Cause {
	if i.Revoked {
		return CauseConfig
	}
	return startAfter[ordered]
}

// hearStart takes what an end says about the start, where it is the first that is
// heard of it.
func (t *turn) hearStart(x *Exit) {
	if t.i.StartedAt.IsZero() && !x.Start.IsZero() {
		t.i.StartedAt, t.i.PID = x.Start, t.fact.PID
	}
}

// endCause is the cause that a run's record keeps.
func (t *turn) endCause(x *Exit) Cause {
	switch {
	case x.Error != "" && !x.Unknown:
		return CauseNoStart
	case t.i.EndCause != "":
		return t.i.EndCause
	case x.Unknown:
		return CauseLost
	case x.OutOfMemory:
		return CauseOOM
	case succeeded(t.p.policy(), x):
		return CauseExit
	}
	return CauseCrashed
}

// haltRoll holds the program's roll when the end is that of a new process that
// did not get to run.
func (t *turn) haltRoll(x *Exit) {
	i, p := t.i, t.p
	if !i.Rolling || i.State != StateStarting || p.Target == "" || i.Launch != p.Target || p.Forced == p.Target {
		return
	}
	if i.Finished != "" && succeeded(p.policy(), x) {
		i.Rolling = false // a job that is done already
		return
	}
	i.Held = fmt.Sprintf("%s did not get to run: %s", i.ID, x.Words())
	if p.Held == "" {
		p.Held, p.heldBy = i.Held, holderFailed
		t.tell(Event{Kind: EventHeld, ID: InstanceID{p.Name, -1}, Cause: x.Cause, Detail: i.Held})
	}
}

// Words says how a run ended.
func (x *Exit) Words() string {
	switch {
	case x.Error != "":
		return x.Error
	case x.Unknown:
		return "nobody knows how it ended"
	case x.Signal != 0 && x.Core:
		return "signal " + x.Signal.String() + " (core dumped)"
	case x.Signal != 0:
		return "signal " + x.Signal.String()
	}
	return "exit code " + strconv.Itoa(x.Code)
}
