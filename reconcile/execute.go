package reconcile

import "time"

// doCommand is what each command does.
var doCommand = map[CommandKind]func(*turn, *Command) ([]Action, []Outcome){
	CommandRestart:  restart,
	CommandStart:    start,
	CommandSignal:   poke,
	CommandForce:    force,
	CommandShutdown: shutdown,
}

// Execute says what a person's command means. Every command is legal in every
// state; an Outcome says for each target what will be.
func Execute(w World, c Command, now time.Time) (World, []Event, []Action, []Outcome) {
	t := turn{w: &w, now: now}
	do := doCommand[c.Kind]
	if do == nil {
		return w, nil, nil, nil
	}
	actions, outcomes := do(&t, &c)
	return w, t.events, actions, outcomes
}

// each asks do about every target.
func (t *turn) each(c *Command, do func(id InstanceID) string) []Outcome {
	outcomes := make([]Outcome, 0, len(c.Targets))
	for _, id := range c.Targets {
		t.p, t.i = t.w.instance(id)
		outcomes = append(outcomes, Outcome{ID: id, Reason: do(id)})
	}
	return outcomes
}

func restart(t *turn, c *Command) ([]Action, []Outcome) {
	whole := t.whole(c.Targets)
	return nil, t.each(c, func(id InstanceID) string {
		if why := t.unwanted(id); why != "" {
			return why
		}
		t.restartOne(c, !whole[id.Program])
		return t.blocked()
	})
}

// whole tells which programs are meant as a whole: all of two or more
// instances that shall be up. Those are restarted by a roll.
func (t *turn) whole(targets []InstanceID) map[string]bool {
	aimed := map[string]int{}
	seen := map[InstanceID]bool{}
	for _, id := range targets {
		if !seen[id] && t.unwantedAt(id) == "" {
			aimed[id.Program]++
		}
		seen[id] = true
	}
	out := map[string]bool{}
	for name, n := range aimed {
		up := 0
		for _, i := range t.w.Programs[name].Instances {
			if t.unwantedAt(i.ID) == "" {
				up++
			}
		}
		out[name] = up > 1 && n == up
	}
	return out
}

func (t *turn) unwantedAt(id InstanceID) string {
	t.p, t.i = t.w.instance(id)
	return t.unwanted(id)
}

// unwanted says why an instance is not restarted: what shall not be up is not
// for a restart to bring up.
func (t *turn) unwanted(id InstanceID) string {
	switch p := t.p; {
	case t.i == nil:
		return "there is no such instance"
	case t.w.ShuttingDown:
		return "the daemon is shutting down"
	case p.Spec == nil:
		return ""
	case p.Target == "" || id.Index >= p.Spec.Instances:
		return "it is being removed"
	case p.Spec.Admin.IsDown(id.Index):
		return "it is down"
	}
	return ""
}

// restartOne owes a living instance a new process, and lets any other start
// now. One that is stopping anyway starts once, after that.
func (t *turn) restartOne(c *Command, atOnce bool) {
	i := t.i
	i.By = &c.By
	if i.State != StateStarting && i.State != StateRunning {
		t.fresh()
		return
	}
	if t.stale() {
		t.p.Preflight, t.p.RetryAt = PreflightUnknown, time.Time{}
	}
	i.AtOnce = i.AtOnce && i.Cycle || atOnce
	i.Cycle = true
}

// stale reports whether the preflight has to be asked for anew: what was good for
// an earlier roll, or for this one before it was held, may not be now.
func (t *turn) stale() bool {
	if t.p.Held != "" && t.p.Preflight == PreflightGood {
		return true
	}
	return t.p.Preflight != PreflightAsked && !t.rolling()
}

// rolling reports whether a roll of the program is under way.
func (t *turn) rolling() bool {
	for _, i := range t.p.Instances {
		if i.Cycle || i.Rolling {
			return true
		}
	}
	return t.p.Held != ""
}

// blocked says why a restart that was taken will not come about now.
func (t *turn) blocked() string {
	if i := t.i; t.p.Held != "" && i.Cycle && (!i.AtOnce || t.p.Preflight == PreflightBad) {
		return "held: " + t.p.Held
	}
	return ""
}

// fresh lets what rests or waits start now, as if it had never failed.
func (t *turn) fresh() {
	i := t.i
	i.Attempt, i.Finished, i.Unjudged, i.Revoked = 0, "", false, false
	if i.LastExit != nil || i.State != StateNew {
		i.StartCause = CauseCommand
	}
	if i.State == StateBackoff {
		i.Until = t.now
	}
}

func start(t *turn, c *Command) ([]Action, []Outcome) {
	return nil, t.each(c, func(InstanceID) string {
		switch i := t.i; {
		case t.w.ShuttingDown:
			return "the daemon is shutting down"
		case i == nil || i.State == StateStarting || i.State == StateRunning:
			return "" // it starts when desired says so, or it runs
		}
		t.i.By = &c.By
		t.fresh()
		return ""
	})
}

func poke(t *turn, c *Command) ([]Action, []Outcome) {
	var actions []Action
	outcomes := t.each(c, func(id InstanceID) string {
		switch i := t.i; {
		case i == nil:
			return "there is no such instance"
		case !i.Alive() || i.MainGone:
			return "it does not run"
		}
		actions = append(actions, Action{Kind: ActionPoke, ID: id, Run: t.i.Run, Signal: c.Signal, At: t.now})
		return ""
	})
	return actions, outcomes
}

func force(t *turn, c *Command) ([]Action, []Outcome) {
	for name, p := range t.w.Programs {
		if p.Held == "" || c.Program != "" && c.Program != name {
			continue
		}
		p.Held, p.heldBy = "", holderNone
		p.Forced, p.Preflight, p.RetryAt = p.Target, PreflightGood, time.Time{}
		t.release(p)
		t.hold(EventResumed, name, "forced")
	}
	sortEvents(t.events)
	return nil, nil
}

func shutdown(t *turn, c *Command) ([]Action, []Outcome) {
	t.w.ShuttingDown = true
	if c.By.How != "" {
		t.w.shutBy = &c.By
	}
	return nil, nil
}
