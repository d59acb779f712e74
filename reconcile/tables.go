package reconcile

// States, goals, verbs and facts in reading order; the zero value is none.
var (
	states = []State{StateNew, StateStarting, StateRunning, StateStopping, StateExited, StateBackoff}
	goals  = []Goal{GoalUp, GoalCycle, GoalDown, GoalRest, GoalGone}
	facts  = []FactKind{
		FactStartOrdered, FactStopOrdered, FactSettled, FactStarted, FactStartFailed, FactReady, FactExited,
		FactMainExited, FactEmptied, FactDelayed, FactDeadline, FactAdopted, FactAdoptedStopping, FactLost, FactTuned, FactPreflight,
		FactDrained,
	}
)

// Sizes of the tables, the unset zero included.
const (
	stateCount = int(StateImpossible)
	goalCount  = int(GoalGone) + 1
	factCount  = int(FactDrained) + 1
)

// verbs is the first table: the one next thing to do for an instance in a
// state, so that it comes nearer to its goal. A start out of backoff is ordered
// once the delay is over; a stop under way is brought to its end whatever the
// goal has become meanwhile, because no start may overlap it.
var verbs = [stateCount][goalCount]Verb{
	StateNew: {
		GoalUp:    VerbStart,
		GoalCycle: VerbStart,
		GoalDown:  VerbSettle,
		GoalRest:  VerbSettle,
		GoalGone:  VerbForget,
	},
	StateStarting: {
		GoalUp:    VerbWait,
		GoalCycle: VerbStop,
		GoalDown:  VerbStop,
		GoalRest:  VerbStop,
		GoalGone:  VerbStop,
	},
	StateRunning: {
		GoalUp:    VerbNone,
		GoalCycle: VerbStop,
		GoalDown:  VerbStop,
		GoalRest:  VerbStop,
		GoalGone:  VerbStop,
	},
	StateStopping: {
		GoalUp:    VerbWait,
		GoalCycle: VerbWait,
		GoalDown:  VerbWait,
		GoalRest:  VerbWait,
		GoalGone:  VerbWait,
	},
	StateExited: {
		GoalUp:    VerbStart,
		GoalCycle: VerbStart,
		GoalDown:  VerbNone,
		GoalRest:  VerbNone,
		GoalGone:  VerbForget,
	},
	StateBackoff: {
		GoalUp:    VerbStart,
		GoalCycle: VerbStart,
		GoalDown:  VerbSettle,
		GoalRest:  VerbSettle,
		GoalGone:  VerbForget,
	},
}

// moves is the second table: what a fact about an instance's current run makes
// of its state.
var moves = [stateCount][factCount]State{
	StateNew: {
		FactStartOrdered:    StateStarting,
		FactStopOrdered:     StateImpossible, // nothing to stop
		FactSettled:         StateExited,
		FactStarted:         StateImpossible, // it has no run yet
		FactStartFailed:     StateImpossible,
		FactReady:           StateImpossible,
		FactExited:          StateImpossible,
		FactMainExited:      StateImpossible,
		FactEmptied:         StateImpossible,
		FactDelayed:         StateImpossible,
		FactDeadline:        StateImpossible, // it has none
		FactAdopted:         StateStarting,
		FactAdoptedStopping: StateStopping,
		FactLost:            StateImpossible,
		FactTuned:           StateImpossible,
		FactPreflight:       StateNew, // about the program
		FactDrained:         StateImpossible,
	},
	StateStarting: {
		FactStartOrdered:    StateImpossible, // at most one copy
		FactStopOrdered:     StateStopping,
		FactSettled:         StateImpossible, // somebody runs
		FactStarted:         StateStarting,
		FactStartFailed:     StateExited,
		FactReady:           StateRunning,
		FactExited:          StateExited,
		FactMainExited:      StateStopping,
		FactEmptied:         StateImpossible, // its main process lives
		FactDelayed:         StateImpossible,
		FactDeadline:        StateRunning, // min_uptime is over
		FactAdopted:         StateStarting,
		FactAdoptedStopping: StateStopping,
		FactLost:            StateExited,
		FactTuned:           StateStarting,
		FactPreflight:       StateStarting,
		FactDrained:         StateStarting, // too late: a new control stops it anew
	},
	StateRunning: {
		FactStartOrdered:    StateImpossible, // at most one copy
		FactStopOrdered:     StateStopping,
		FactSettled:         StateImpossible, // somebody runs
		FactStarted:         StateImpossible, // known before
		FactStartFailed:     StateImpossible,
		FactReady:           StateRunning,
		FactExited:          StateExited,
		FactMainExited:      StateStopping,
		FactEmptied:         StateImpossible, // its main process lives
		FactDelayed:         StateImpossible,
		FactDeadline:        StateRunning, // it flaps no longer
		FactAdopted:         StateRunning,
		FactAdoptedStopping: StateStopping,
		FactLost:            StateExited,
		FactTuned:           StateRunning,
		FactPreflight:       StateRunning,
		FactDrained:         StateRunning, // too late
	},
	StateStopping: {
		FactStartOrdered:    StateImpossible, // at most one copy
		FactStopOrdered:     StateStopping,   // the next step: sweep or kill
		FactSettled:         StateImpossible, // somebody runs
		FactStarted:         StateStopping,   // stopped while starting
		FactStartFailed:     StateExited,
		FactReady:           StateStopping, // too late
		FactExited:          StateExited,
		FactMainExited:      StateStopping,
		FactEmptied:         StateExited,
		FactDelayed:         StateImpossible,
		FactDeadline:        StateStopping, // escalate
		FactAdopted:         StateStarting, // the stop order was lost with us
		FactAdoptedStopping: StateStopping,
		FactLost:            StateExited,
		FactTuned:           StateStopping,
		FactPreflight:       StateStopping,
		FactDrained:         StateStopping, // now it is asked to end
	},
	StateExited: {
		FactStartOrdered:    StateStarting,
		FactStopOrdered:     StateImpossible, // nothing to stop
		FactSettled:         StateExited,
		FactStarted:         StateImpossible, // that run is over
		FactStartFailed:     StateImpossible,
		FactReady:           StateExited, // too late
		FactExited:          StateImpossible,
		FactMainExited:      StateImpossible,
		FactEmptied:         StateExited, // known before
		FactDelayed:         StateBackoff,
		FactDeadline:        StateImpossible, // it has none
		FactAdopted:         StateStarting,   // it lives after all
		FactAdoptedStopping: StateStopping,
		FactLost:            StateImpossible,
		FactTuned:           StateExited, // too late
		FactPreflight:       StateExited,
		FactDrained:         StateExited, // too late
	},
	StateBackoff: {
		FactStartOrdered:    StateStarting,
		FactStopOrdered:     StateImpossible, // nothing to stop
		FactSettled:         StateExited,
		FactStarted:         StateImpossible, // that run is over
		FactStartFailed:     StateImpossible,
		FactReady:           StateBackoff, // too late
		FactExited:          StateImpossible,
		FactMainExited:      StateImpossible,
		FactEmptied:         StateBackoff, // known before
		FactDelayed:         StateImpossible,
		FactDeadline:        StateBackoff,  // Diff starts it: only Diff knows whether it is still wanted
		FactAdopted:         StateStarting, // it lives after all
		FactAdoptedStopping: StateStopping,
		FactLost:            StateImpossible,
		FactTuned:           StateBackoff, // too late
		FactPreflight:       StateBackoff,
		FactDrained:         StateBackoff, // too late
	},
}
