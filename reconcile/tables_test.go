package reconcile

import (
	"strings"
	"testing"

	"github.com/procnanny/procnanny/spec"
)

// Every pair is decided: an unset cell is somebody's forgotten case.
func TestTablesAreTotal(t *testing.T) {
	if len(states) != stateCount-1 || len(goals) != goalCount-1 || len(facts) != factCount-1 {
		t.Fatalf("%d states, %d goals, %d facts are listed; there are %d, %d, %d", len(states), len(goals), len(facts), stateCount-1, goalCount-1, factCount-1)
	}
	for _, s := range states {
		for _, g := range goals {
			if v := verbs[s][g]; v == VerbUnset || int(v) >= len(verbNames) {
				t.Errorf("%s x %s has no verb", s, g)
			}
		}
		for _, k := range facts {
			if to := moves[s][k]; to == StateUnset || to > StateImpossible {
				t.Errorf("%s x %s has no state", s, k)
			}
		}
	}
}

// What is unset stays unset: nothing is decided for a value that is none.
func TestTablesDecideNothingForTheUnset(t *testing.T) {
	for _, g := range goals {
		if verbs[StateUnset][g] != VerbUnset {
			t.Errorf("an unset state has a verb toward %s", g)
		}
	}
	for s := range stateCount {
		if moves[s][FactUnset] != StateUnset || verbs[s][GoalUnset] != VerbUnset {
			t.Errorf("%s is moved by an unset fact or goal", State(s))
		}
	}
}

// Each verb is legal where it is ordered: the fact it becomes moves the state.
func TestVerbsTakeEffect(t *testing.T) {
	for _, s := range states {
		for _, g := range goals {
			kind := orderedBy[verbs[s][g]]
			if kind != FactUnset && moves[s][kind] == StateImpossible {
				t.Errorf("%s x %s says %s, but then %s cannot come to pass", s, g, verbs[s][g], kind)
			}
		}
		for _, v := range verbs[s][1:] {
			if doing[v] == nil {
				t.Errorf("nobody carries out %s", v)
			}
		}
	}
}

// reached says where a goal is at its end: a state of rest and its verb.
var reached = map[Goal]func(State) bool{
	GoalUp:    func(s State) bool { return s == StateRunning },
	GoalCycle: func(s State) bool { return s == StateStarting }, // of the new run
	GoalDown:  func(s State) bool { return s == StateExited },
	GoalRest:  func(s State) bool { return s == StateExited },
	GoalGone:  func(s State) bool { return verbs[s][GoalGone] == VerbForget },
}

// outcomes are the facts that end a state in which nothing is ordered, in a
// world that is neither kind nor cruel: each of them may come.
var outcomes = map[State][]FactKind{
	StateStarting: {FactReady, FactDeadline, FactStartFailed, FactExited, FactMainExited, FactLost},
	StateStopping: {FactEmptied, FactExited, FactLost},
}

// The theorem: from every state, following the tables, every goal is reached,
// whichever of its possible outcomes a wait has. (A process that never comes to
// run is the one exception that no table can cure: there GoalUp is tried again.)
func TestAnyStateToAnyGoal(t *testing.T) {
	for _, s := range states {
		for _, g := range goals {
			if !follows(s, g, map[State]bool{}) {
				t.Errorf("from %s the goal %s is not reached", s, g)
			}
		}
	}
}

// follows walks the tables; seen are the states on the way, so that a walk in
// circles ends.
func follows(s State, g Goal, seen map[State]bool) bool {
	if reached[g](s) && !(g == GoalCycle && len(seen) == 0) {
		return true
	}
	if seen[s] {
		return g == GoalUp // it fails to start, again and again: it is tried again
	}
	seen[s] = true
	defer delete(seen, s)
	if kind := orderedBy[verbs[s][g]]; kind != FactUnset {
		return follows(moves[s][kind], g, seen)
	}
	ok := len(outcomes[s]) > 0
	for _, k := range outcomes[s] {
		ok = ok && follows(moves[s][k], g, seen)
	}
	return ok
}

// placed is a world with one instance that came to a state by true facts.
func placed(t *testing.T, s State) *stage {
	t.Helper()
	st := newStage()
	st.quiet = true
	steps := map[State][]string{
		StateNew:      {},
		StateStarting: {"desired web min_uptime=5s", "started web/0"},
		StateRunning:  {"desired web min_uptime=0s", "started web/0"},
		StateStopping: {"desired web min_uptime=0s", "started web/0", "down web"},
		StateExited:   {"desired web min_uptime=0s when=never", "started web/0", "exit web/0"},
		StateBackoff:  {"desired web min_uptime=0s", "started web/0", "exit web/0 code=1"},
	}
	for _, line := range steps[s] {
		if err := st.do(line); err != nil {
			t.Fatal(err)
		}
	}
	if s == StateNew {
		p := spec.Defaults()
		st.w.Programs["web"] = &Program{
			Name: "web", Spec: &p, Target: p.Launch.Digest(), tuning: p.Tuning.Digest(),
			Instances: []*Instance{{ID: InstanceID{"web", 0}, State: StateNew, Since: epoch}},
		}
		st.desired["web"] = &p
	}
	if got := st.w.Programs["web"].Instances[0].State; got != s {
		t.Fatalf("it is %s, not %s", got, s)
	}
	return st
}

// Every fact in every state does what the table says, or is recorded; the
// world stays one that can be.
func TestEveryFactInEveryState(t *testing.T) {
	for _, s := range states {
		for _, k := range facts {
			if k == FactPreflight || ours[k] {
				continue
			}
			st := placed(t, s)
			i := st.w.Programs["web"].Instances[0]
			run := max(i.Run, 1)
			f := Fact{Kind: k, ID: i.ID, Run: run, At: st.now, PID: 4711, Left: 0, Step: "changing to /nowhere", Reason: "no such file or directory", Exit: &Exit{Code: 1}}
			if k == FactMainExited {
				f.Left = 1
			}
			w, events := Apply(st.w, f, st.now)
			if err := Check(w); err != nil {
				t.Errorf("%s x %s: %v", s, k, err)
			}
			if moves[s][k] == StateImpossible && s != StateNew {
				if i.State != s || len(events) != 1 || events[0].Kind != EventIgnored {
					t.Errorf("%s x %s is impossible, but gave %s and %v", s, k, i.State, events)
				}
			}
		}
	}
}

// Every fact of another run is recorded and moves nothing, but for the
// keeper's word on what lives or lived.
func TestFactsOfAnotherRun(t *testing.T) {
	believed := map[FactKind]bool{FactAdopted: true, FactAdoptedStopping: true}
	for _, s := range states[1:] {
		for _, k := range facts {
			if k == FactPreflight || ours[k] || believed[k] {
				continue
			}
			st := placed(t, s)
			i := st.w.Programs["web"].Instances[0]
			i.Run, st.w.NextRun = 5, 6
			before := *i
			_, events := Apply(st.w, Fact{Kind: k, ID: i.ID, Run: 4, At: st.now, PID: 4711}, st.now)
			if len(events) != 1 || events[0].Kind != EventIgnored || i.State != before.State || i.PID != before.PID {
				t.Errorf("%s x %s of another run gave %s and %v", s, k, i.State, events)
			}
		}
	}
}

// Every command is legal in every state, and says what it does.
func TestEveryCommandInEveryState(t *testing.T) {
	for _, s := range states {
		for kind := CommandRestart; kind <= CommandShutdown; kind++ {
			st := placed(t, s)
			ids := []InstanceID{{"web", 0}, {"web", 7}, {"api", 0}}
			w, _, _, outcomes := Execute(st.w, Command{Kind: kind, Targets: ids, Signal: 1}, st.now)
			if err := Check(w); err != nil {
				t.Errorf("%s in %s: %v", kind, s, err)
			}
			if kind < CommandForce && len(outcomes) != len(ids) {
				t.Errorf("%s in %s: %d outcomes for %d targets", kind, s, len(outcomes), len(ids))
			}
		}
	}
	if _, events, actions, outcomes := Execute(NewWorld(), Command{}, epoch); events != nil || actions != nil || outcomes != nil {
		t.Error("an unset command does something")
	}
}

func TestPrintsComeFromTheTables(t *testing.T) {
	for name, text := range map[string]string{"text": States(), "markdown": StatesMarkdown(), "dot": StatesDot(), "json": StatesJSON()} {
		for _, s := range states {
			if !strings.Contains(text, s.String()) {
				t.Errorf("%s does not name %s", name, s)
			}
		}
		for _, k := range []FactKind{FactStartOrdered, FactMainExited, FactDelayed, FactLost} {
			if !strings.Contains(text, k.String()) {
				t.Errorf("%s does not name %s", name, k)
			}
		}
		old := moves[StateExited][FactDelayed]
		moves[StateExited][FactDelayed] = StateNew
		changed := map[string]string{"text": States(), "markdown": StatesMarkdown(), "dot": StatesDot(), "json": StatesJSON()}[name]
		moves[StateExited][FactDelayed] = old
		if changed == text {
			t.Errorf("%s does not come from the table: another table prints the same", name)
		}
	}
}

func TestNamesReadBack(t *testing.T) {
	for _, s := range states {
		var back State
		if text, _ := s.MarshalText(); back.UnmarshalText(text) != nil || back != s {
			t.Errorf("%s reads back as %s", s, back)
		}
	}
	var v Verb
	var k ActionKind
	if v.UnmarshalText([]byte("stop")) != nil || v != VerbStop || k.UnmarshalText([]byte("sweep")) != nil || k != ActionSweep {
		t.Errorf("verbs and actions do not read back: %s, %s", v, k)
	}
	if err := v.UnmarshalText([]byte("jump")); err == nil || err.Error() != `cannot read verb "jump": no such name` {
		t.Errorf("a name that is none: %v", err)
	}
	if got := State(77).String() + " " + CommandForce.String() + " " + PreflightBad.String(); got != "state(77) force bad" {
		t.Error(got)
	}
}
