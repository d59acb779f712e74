package reconcile

import "fmt"

// Check reports the first way in which w cannot be.
func Check(w World) error {
	runs := map[RunID]InstanceID{}
	for name, p := range w.Programs {
		if err := checkProgram(name, p); err != nil {
			return err
		}
		for _, i := range p.Instances {
			other, taken := runs[i.Run]
			switch {
			case i.Run != 0 && taken:
				return fmt.Errorf("%s and %s both have run %d", other, i.ID, i.Run)
			case i.Run >= w.NextRun:
				return fmt.Errorf("%s has run %d, but the next one is %d", i.ID, i.Run, w.NextRun)
			}
			runs[i.Run] = i.ID
			for _, rule := range rules {
				if !rule.holds(i) {
					return fmt.Errorf("%s (%s): %s", i.ID, i.State, rule.says)
				}
			}
		}
	}
	return nil
}

func checkProgram(name string, p *Program) error {
	if p.Name != name {
		return fmt.Errorf("program %q is kept under the name %q", p.Name, name)
	}
	if p.Target == "" && (p.Held != "" || p.Forced != "" || p.Preflight != PreflightUnknown) {
		return fmt.Errorf("%s has a roll without a target", name)
	}
	last := -1
	for _, i := range p.Instances {
		if i.ID.Program != name || i.ID.Index <= last {
			return fmt.Errorf("%s is in %s after index %d", i.ID, name, last)
		}
		last = i.ID.Index
	}
	return nil
}

// rule is something that is true of every instance at any time.
type rule struct {
	says  string
	holds func(i *Instance) bool
}

// implies is false only when a is true and b is not.
func implies(a, b bool) bool { return !a || b }

var rules = []rule{
	{"its state is one of the table", func(i *Instance) bool { return i.State > StateUnset && i.State < StateImpossible }},
	{"what lives has a run", func(i *Instance) bool { return implies(i.Alive(), i.Run != 0) }},
	{"a new one has no run", func(i *Instance) bool { return implies(i.State == StateNew, i.Run == 0) }},
	{"a running one has a pid", func(i *Instance) bool { return implies(i.State == StateRunning, i.PID != 0) }},
	{"new, running and exited have no deadline", func(i *Instance) bool {
		return implies(i.State == StateNew || i.State == StateRunning || i.State == StateExited, i.Until.IsZero())
	}},
	{"a starting one has a deadline from its exec on", func(i *Instance) bool {
		return implies(i.State == StateStarting, i.Until.IsZero() == i.StartedAt.IsZero())
	}},
	{"a backoff has a deadline", func(i *Instance) bool { return implies(i.State == StateBackoff, !i.Until.IsZero()) }},
	{"a stop has a deadline or a next step, or KILL was ordered", func(i *Instance) bool {
		return implies(i.State == StateStopping, !i.Until.IsZero() || i.Owed != ActionUnset || i.Escalated)
	}},
	{"only a stop has steps", func(i *Instance) bool {
		return implies(i.State != StateStopping, i.Owed == ActionUnset && !i.Escalated && !i.MainGone && i.EndCause == "")
	}},
	{"what is drained is asked to end later", func(i *Instance) bool {
		return implies(i.Draining, i.State == StateStopping && !i.MainGone && !i.Escalated && i.Owed == ActionUnset && i.Drain == nil)
	}},
	{"a stop has a cause, or its main process is gone", func(i *Instance) bool {
		return implies(i.State == StateStopping, i.MainGone != (i.EndCause != ""))
	}},
	{"what is finished has ended", func(i *Instance) bool {
		return implies(i.Finished != "", i.State == StateExited || i.MainGone)
	}},
	{"what waits for others does not live and does not rest", func(i *Instance) bool {
		return implies(i.Waits != "", i.State == StateExited && i.Finished == "")
	}},
	{"what is owed a restart lives", func(i *Instance) bool { return implies(i.Cycle, i.Alive() && !i.MainGone) }},
	{"at once is how a restart is owed", func(i *Instance) bool { return implies(i.AtOnce, i.Cycle) }},
	{"a running one has arrived", func(i *Instance) bool { return implies(i.State == StateRunning, !i.Rolling) }},
	{"flapping has seen ends", func(i *Instance) bool { return implies(i.Flapping, len(i.Ends) > 0) }},
	{"what waits to be judged has ended", func(i *Instance) bool { return implies(i.Unjudged, i.LastExit != nil && (!i.Alive() || i.MainGone)) }},
	{"nothing counts below zero", func(i *Instance) bool { return i.Attempt >= 0 && i.Starts >= 0 && i.PID >= 0 }},
	{"a stop that is revoked is under way", func(i *Instance) bool { return implies(i.Revoked, i.State == StateStopping && i.EndCause == CauseStop) }},
	{"a live change is about a living process", func(i *Instance) bool { return implies(i.Tune != TuneSettled, i.Alive() && !i.MainGone) }},
	{"pending is about a living process", func(i *Instance) bool { return implies(len(i.Pending) > 0, i.Alive() && !i.MainGone) }},
}
