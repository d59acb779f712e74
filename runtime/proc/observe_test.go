package proc

import (
	"encoding/json"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/launch"
	"github.com/procnanny/procnanny/spec"
)

// living0 is a real process, known to p as run 5 of web/0. end ends and reaps it.
func living0(t *testing.T, p *Proc, g *spec.Program) (l Look, end func()) {
	t.Helper()
	in, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	q, err := launch.Start(&launch.Request{
		Candidates: []string{"/bin/cat"}, Argv: []string{"cat"}, Stdin: "null", Mode: spec.OutputMode{Kind: "null"}, Tuning: g.Tuning,
	}, launch.Stdio{In: int(in.Fd()), Out: -1, Err: -1}, -1)
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	done := false
	end = func() {
		if done {
			return
		}
		done = true
		hold.Close()
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PIDFD, q.PidFD, &info, unix.WEXITED, nil); err != nil {
			t.Error(err)
		}
		unix.Close(q.PidFD)
	}
	t.Cleanup(end)
	l = Look{ID: reconcile.InstanceID{Program: "web"}, Run: 5, PID: q.PID, Program: g}
	p.Take([]keeper.Fact{{Kind: keeper.FactStarted, Run: 5, Program: "web", PID: q.PID, AtNS: bootNS(t)}})
	return l, end
}

func TestObserveSaysWhatTheKernelSays(t *testing.T) {
	p, _ := newFake(t)
	l, end := living0(t, p, program(func(g *spec.Program) { g.Nice, g.OOMScoreAdj = new(3), new(400) }))
	got := p.Observe([]Look{l})
	if len(got) != 1 || got[0].ID != l.ID || got[0].Run != 5 || len(got[0].Drift) != 0 {
		t.Fatalf("observed %+v", got)
	}
	if o := got[0].Observed; string(o["nice"]) != "3" || string(o["oom_score_adj"]) != "400" || !strings.Contains(string(o["limits"]), `"nofile"`) {
		t.Errorf("observed %s", o)
	}
	end()
	if got := p.Observe([]Look{l}); len(got) != 0 {
		t.Errorf("the dead were observed: %+v", got)
	}
}

// What the kernel says of processes that are alike is in memory once, and stays
// the same from one look to the next.
func TestAlikeIsInMemoryOnce(t *testing.T) {
	answer := func(nice string) map[string]json.RawMessage {
		return map[string]json.RawMessage{"nice": json.RawMessage(nice), "cpus": json.RawMessage(`"0"`)}
	}
	same := func(a, b map[string]json.RawMessage) bool {
		return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
	}
	first, second := sightings{}, sightings{}
	a, b, c := first.once(answer("3"), nil), first.once(answer("3"), nil), first.once(answer("4"), nil)
	if !same(a, b) || same(a, c) || string(c["nice"]) != "4" {
		t.Errorf("%s, %s and %s: only the first two are one", a, b, c)
	}
	d, e := second.once(answer("3"), first), second.once(answer("3"), first)
	if !same(d, a) || !same(e, a) || len(second) != 1 {
		t.Errorf("the next look has another %s", second)
	}
}

// A pid that is another's by now is not observed, nor tuned.
func TestObserveIsNotFooledByPids(t *testing.T) {
	for name, spoil := range map[string]func(p *Proc, l *Look){
		"another start time": func(p *Proc, l *Look) { p.runs[5].startTicks-- },
		"older than the run": func(p *Proc, l *Look) { p.runs[5].startTicks, p.runs[5].startedNS = 0, 1 },
		"younger":            func(p *Proc, l *Look) { p.runs[5].startTicks = 0; p.runs[5].startedNS += int64(time.Minute) },
		"unknown run":        func(p *Proc, l *Look) { l.Run = 6 },
		"no process":         func(p *Proc, l *Look) { l.PID = 1 << 22 },
	} {
		t.Run(name, func(t *testing.T) {
			p, f := newFake(t)
			l, _ := living0(t, p, program(func(g *spec.Program) { g.Nice = new(3) }))
			if got := p.Observe([]Look{l}); len(got) != 1 {
				t.Fatalf("observed %+v", got)
			}
			l.Program = program(func(g *spec.Program) { g.Nice = new(4) })
			before := len(f.orders)
			spoil(p, &l)
			if got := p.Observe([]Look{l}); len(got) != 0 {
				t.Errorf("observed %+v", got)
			}
			for _, o := range f.orders[before:] {
				if o.Kind == keeper.OrderTune {
					t.Errorf("tuned: %+v", o)
				}
			}
		})
	}
}

func tunes(f *fake) []keeper.Order {
	var out []keeper.Order
	for _, o := range f.orders {
		if o.Kind == keeper.OrderTune {
			out = append(out, o)
		}
	}
	return out
}

func TestDriftIsCorrectedOnceThenReported(t *testing.T) {
	p, f := newFake(t)
	g := program(func(g *spec.Program) {
		g.Nice, g.OOMScoreAdj = new(3), new(400)
		g.Limits = map[string]spec.Limit{"core": {Soft: 0, Hard: 10}}
	})
	l, _ := living0(t, p, g)
	if err := unix.Setpriority(unix.PRIO_PROCESS, l.PID, 7); err != nil {
		t.Fatal(err)
	}
	got := p.Observe([]Look{l})
	if len(got) != 1 || len(got[0].Drift) != 0 {
		t.Fatalf("what is being corrected was reported: %+v", got)
	}
	sent := tunes(f)
	if len(sent) != 1 || sent[0].Run != 5 || *sent[0].Tuning.Nice != 3 || sent[0].Tuning.OOMScoreAdj != nil || len(sent[0].Tuning.Limits) != 0 || sent[0].Digest != g.Tuning.Digest() {
		t.Fatalf("tuned: %+v", sent)
	}
	// While it is under way nothing more is ordered.
	if got := p.Observe([]Look{l}); got[0].Drift["nice"] != "nice is 7, should be 3" || len(tunes(f)) != 1 {
		t.Errorf("observed %+v, tuned %d times", got, len(tunes(f)))
	}
	facts := len(f.facts)
	p.Take([]keeper.Fact{{Kind: keeper.FactTuned, Run: 5, Program: "web", Digest: g.Tuning.Digest(), Refused: map[string]string{"nice": "because"}}})
	if len(f.facts) != facts {
		t.Errorf("the core heard of a correction: %+v", f.facts)
	}
	if got := p.Observe([]Look{l}); got[0].Drift["nice"] != "nice is 7, should be 3 (because)" || len(tunes(f)) != 1 {
		t.Errorf("observed %+v, tuned %d times", got, len(tunes(f)))
	}
	// Another key has its own turn.
	if err := unix.Prlimit(l.PID, unix.RLIMIT_CORE, &unix.Rlimit{Cur: 0, Max: 9}, nil); err != nil {
		t.Fatal(err)
	}
	p.Observe([]Look{l})
	if sent := tunes(f); len(sent) != 2 || sent[1].Tuning.Nice != nil || sent[1].Tuning.Limits["core"].Hard != 10 {
		t.Errorf("tuned: %+v", sent)
	}
	// The core's own tune is the core's, and opens everything again.
	p.Take([]keeper.Fact{{Kind: keeper.FactTuned, Run: 5, Program: "web"}})
	p.Do([]reconcile.Order{{Action: reconcile.Action{Kind: reconcile.ActionTune, ID: l.ID, Run: 5, Tuning: "new"}, Program: g}})
	p.Take([]keeper.Fact{{Kind: keeper.FactTuned, Run: 5, Program: "web", Digest: "new"}})
	if len(f.facts) != facts+1 || f.facts[facts].Tuning != "new" {
		t.Errorf("facts are %+v", f.facts[facts:])
	}
	p.Observe([]Look{l})
	if len(tunes(f)) != 4 {
		t.Errorf("tuned: %+v", tunes(f))
	}
}

func TestDriftPolicies(t *testing.T) {
	for policy, want := range map[string]string{"report": "nice is 7, should be 3", "ignore": ""} {
		p, f := newFake(t)
		l, _ := living0(t, p, program(func(g *spec.Program) { g.Nice, g.Drift = new(3), policy }))
		if err := unix.Setpriority(unix.PRIO_PROCESS, l.PID, 7); err != nil {
			t.Fatal(err)
		}
		got := p.Observe([]Look{l})
		if len(got) != 1 || got[0].Drift["nice"] != want || len(tunes(f)) != 0 {
			t.Errorf("%s: observed %+v, tuned %d times", policy, got, len(tunes(f)))
		}
	}
}

func TestIdentityIsReportedOnly(t *testing.T) {
	p, f := newFake(t)
	l, _ := living0(t, p, program(nil))
	l.Program = program(func(g *spec.Program) { g.Identity = spec.Identity{UID: 4242, GID: 4343, Switch: true} })
	got := p.Observe([]Look{l})
	if len(got) != 1 || !strings.HasSuffix(got[0].Drift["uid"], ", should be 4242") || !strings.HasSuffix(got[0].Drift["gid"], ", should be 4343") || len(tunes(f)) != 0 {
		t.Errorf("observed %+v, tuned %d times", got, len(tunes(f)))
	}
}

func TestOutputPolicyIsToldOnce(t *testing.T) {
	p, f := newFake(t)
	g := program(nil)
	p.Do([]reconcile.Order{order(reconcile.ActionStart, 0, 5, g)})
	l := Look{ID: reconcile.InstanceID{Program: "web"}, Run: 5, Program: g}
	p.Desired([]Look{l})
	if len(f.orders) != 1 {
		t.Errorf("told what the start already said: %+v", f.orders[1:])
	}
	l.Program = nil
	if p.Desired([]Look{l}); len(f.orders) != 1 {
		t.Errorf("told a policy that nobody has desired: %+v", f.orders[1:])
	}
	l.Program = program(func(g *spec.Program) { g.Policy.Output.Rotate.Keep, g.Policy.Output.OnFull = 3, "drop" })
	p.Desired([]Look{l})
	p.Desired([]Look{l})
	if len(f.orders) != 2 || f.orders[1].Kind != keeper.OrderOutput || f.orders[1].Output.Keep != 3 || !f.orders[1].Output.Drop {
		t.Errorf("orders are %+v", f.orders)
	}
}

func TestNothingIsRememberedOfTheDead(t *testing.T) {
	p, _ := newFake(t)
	g := program(nil)
	for n := reconcile.RunID(1); n <= 20; n++ {
		p.Do([]reconcile.Order{order(reconcile.ActionStart, 0, n, g)})
		kind := []keeper.FactKind{keeper.FactEmptied, keeper.FactStartFailed}[n%2]
		p.Take([]keeper.Fact{{Kind: kind, Run: uint64(n), Program: "web"}})
		p.Do([]reconcile.Order{order(reconcile.ActionTune, 0, n, g)}) // too late
	}
	p.Do([]reconcile.Order{order(reconcile.ActionForget, 0, 20, nil)})
	if len(p.runs) != 0 || len(p.cache) != 0 {
		t.Errorf("remembered: %v, %v", p.runs, p.cache)
	}
}

func TestASendThatFailsIsLogged(t *testing.T) {
	p, f := newFake(t)
	f.err = io.ErrClosedPipe
	p.Do([]reconcile.Order{order(reconcile.ActionSignal, 0, 1, nil)}) // does not panic or block
	if f.sends != 1 {
		t.Errorf("sent %d times", f.sends)
	}
}

// A key that is taken out goes back to what a new process would have, also
// when the run was adopted by a control that never saw its start.
func TestWhatIsTakenOutGoesBack(t *testing.T) {
	had := program(func(g *spec.Program) { g.Nice, g.OOMScoreAdj = new(5), new(400) })
	has := program(func(g *spec.Program) { g.OOMScoreAdj = new(500) })
	own, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	check := func(f *fake) {
		t.Helper()
		sent := tunes(f)
		if len(sent) != 1 || sent[0].Tuning.Nice == nil || *sent[0].Tuning.Nice != 20-own || *sent[0].Tuning.OOMScoreAdj != 500 || sent[0].Digest != "tuning" {
			t.Errorf("tuned: %+v", sent)
		}
	}
	p, f := newFake(t)
	p.Do([]reconcile.Order{order(reconcile.ActionStart, 0, 5, had)})
	p.Do([]reconcile.Order{order(reconcile.ActionTune, 0, 5, has)})
	check(f)

	p, f = newFake(t)
	l, _ := living0(t, p, had)
	p.Adopt(keeper.Hello{Runs: []keeper.Run{{Run: 5, Program: "web", PID: l.PID, StartedNS: bootNS(t), TuningDigest: had.Tuning.Digest()}}}, reconcile.World{})
	unwanted := l
	unwanted.Program = nil
	if got := p.Observe([]Look{unwanted}); len(got) != 1 || len(got[0].Drift) != 0 { // the first look may come before anything is desired
		t.Fatalf("observed %+v", got)
	}
	p.Desired([]Look{l})
	p.Do([]reconcile.Order{order(reconcile.ActionTune, 0, 5, has)})
	check(f)

	p, f = newFake(t) // and what was refused to go before we came
	l.Program = program(func(*spec.Program) {})
	i := &reconcile.Instance{ID: l.ID, Run: 5, State: reconcile.StateRunning, PID: l.PID, Pending: map[string]string{"nice": "needs restart"}}
	pending := reconcile.World{Programs: map[string]*reconcile.Program{"web": {Name: "web", Instances: []*reconcile.Instance{i}}}}
	p.Adopt(keeper.Hello{Runs: []keeper.Run{{Run: 5, Program: "web", PID: l.PID, StartedNS: bootNS(t), TuningDigest: l.Program.Tuning.Digest()}}}, pending)
	p.Desired([]Look{l})
	p.Do([]reconcile.Order{order(reconcile.ActionTune, 0, 5, has)})
	check(f)
}

// What was taken out and refused to go is asked for again with the next tune, whose
// answer is about all that is pending; what went is the program's own business.
func TestWhatIsTakenOutIsAskedForUntilItGoes(t *testing.T) {
	had := program(func(g *spec.Program) {
		g.Nice, g.Limits = new(5), map[string]spec.Limit{"nofile": {Soft: 100, Hard: 100}, "core": {}}
	})
	p, f := newFake(t)
	p.Do([]reconcile.Order{order(reconcile.ActionStart, 0, 5, had)})
	tune := func(edit func(g *spec.Program)) spec.Tuning {
		p.Do([]reconcile.Order{order(reconcile.ActionTune, 0, 5, program(edit))})
		sent := tunes(f)
		return *sent[len(sent)-1].Tuning
	}
	answer := func(refused map[string]string) {
		p.Take([]keeper.Fact{{Kind: keeper.FactTuned, Program: "web", Run: 5, Refused: refused}})
	}
	check := func(what string, got spec.Tuning, nice, nofile, core bool) {
		t.Helper()
		_, a := got.Limits["nofile"]
		_, b := got.Limits["core"]
		if (got.Nice != nil) != nice || a != nofile || b != core {
			t.Errorf("%s: tuned to %+v", what, got)
		}
	}
	no := func(*spec.Program) {}
	check("all is taken out", tune(no), true, true, true)
	check("before its answer", tune(no), true, true, true)
	answer(nil)
	answer(map[string]string{"nice": "needs restart", "nofile": "needs restart"})
	check("the next", tune(func(g *spec.Program) { g.Limits = map[string]spec.Limit{"nproc": {}} }), true, true, false)
	answer(map[string]string{"nice": "needs restart"})
	check("the one after it", tune(no), true, false, false)
	answer(nil)
	check("the last", tune(no), false, false, false)
}

// Who has left its cgroup is reported, if it could; who is there is not.
func TestStraysAreReported(t *testing.T) {
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil || !strings.Contains("\n"+string(raw), "\n0::/") {
		t.Skip("there is no cgroup v2")
	}
	p, _ := newFake(t)
	l, _ := living0(t, p, program(func(*spec.Program) {})) // it is where we are
	drift := func() string { return p.Observe([]Look{l})[0].Drift["cgroup"] }
	if got := drift(); got != "" {
		t.Errorf("without cgroups: %q", got)
	}
	p.Adopt(keeper.Hello{Contain: "cgroup"}, reconcile.World{})
	if got := drift(); !strings.HasPrefix(got, "it has left its cgroup and is in /") {
		t.Errorf("with cgroups: %q", got)
	}
	l.Program = program(func(g *spec.Program) { g.Identity = spec.Identity{UID: 65534, GID: 65534, Switch: true} })
	if got := drift(); got != "" {
		t.Errorf("of somebody who cannot leave: %q", got)
	}
}
