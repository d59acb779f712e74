package reconcile

import "fmt"

var stateNames = [...]string{
	StateUnset: "unset", StateNew: "new", StateStarting: "starting", StateRunning: "running", StateStopping: "stopping",
	StateExited: "exited", StateBackoff: "backoff", StateImpossible: "impossible",
}

var goalNames = [...]string{
	GoalUnset: "unset", GoalUp: "up", GoalCycle: "cycle", GoalDown: "down", GoalRest: "rest", GoalGone: "gone",
}

var verbNames = [...]string{
	VerbUnset: "unset", VerbNone: "none", VerbStart: "start", VerbStop: "stop", VerbWait: "wait", VerbSettle: "settle", VerbForget: "forget",
}

var factNames = [...]string{
	FactUnset: "unset", FactStartOrdered: "start ordered", FactStopOrdered: "stop ordered", FactSettled: "settled",
	FactStarted: "started", FactStartFailed: "start failed", FactReady: "ready", FactExited: "exited", FactEmptied: "emptied",
	FactDeadline: "deadline", FactAdopted: "adopted", FactLost: "lost", FactTuned: "tuned", FactPreflight: "preflight",
	FactMainExited: "main exited", FactAdoptedStopping: "adopted stopping", FactDelayed: "delayed",
	FactDrained: "drained",
}

var actionNames = [...]string{
	ActionUnset: "", ActionStart: "start", ActionSignal: "signal", ActionKill: "kill", ActionSweep: "sweep",
	ActionTune: "tune", ActionPreflight: "preflight", ActionForget: "forget", ActionPoke: "poke",
	ActionDrain: "drain",
}

var commandNames = [...]string{
	CommandUnset: "unset", CommandRestart: "restart", CommandStart: "start", CommandSignal: "signal", CommandForce: "force",
	CommandShutdown: "shutdown",
}

var preflightNames = [...]string{
	PreflightUnknown: "unknown", PreflightAsked: "asked", PreflightGood: "good", PreflightBad: "bad",
}

// name is names[n], or kind(n) for a value that has none.
func name[T ~uint8](names []string, kind string, n T) string {
	if int(n) < len(names) {
		return names[n]
	}
	return fmt.Sprintf("%s(%d)", kind, uint8(n))
}

// parse finds the value that is called text.
func parse[T ~uint8](names []string, kind string, text []byte, to *T) error {
	for n, s := range names {
		if s == string(text) {
			*to = T(n)
			return nil
		}
	}
	return fmt.Errorf("cannot read %s %q: no such name", kind, text)
}

func (s State) String() string          { return name(stateNames[:], "state", s) }
func (g Goal) String() string           { return name(goalNames[:], "goal", g) }
func (v Verb) String() string           { return name(verbNames[:], "verb", v) }
func (k FactKind) String() string       { return name(factNames[:], "fact", k) }
func (k ActionKind) String() string     { return name(actionNames[:], "action", k) }
func (k CommandKind) String() string    { return name(commandNames[:], "command", k) }
func (p PreflightState) String() string { return name(preflightNames[:], "preflight", p) }

// MarshalText writes the name: what is stored must outlive a renumbering.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *State) UnmarshalText(text []byte) error { return parse(stateNames[:], "state", text, s) }

// MarshalText writes the name.
func (v Verb) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (v *Verb) UnmarshalText(text []byte) error { return parse(verbNames[:], "verb", text, v) }

// MarshalText writes the name.
func (k ActionKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (k *ActionKind) UnmarshalText(text []byte) error {
	return parse(actionNames[:], "action", text, k)
}

// MarshalText writes the name.
func (p PreflightState) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (p *PreflightState) UnmarshalText(text []byte) error {
	return parse(preflightNames[:], "preflight", text, p)
}
