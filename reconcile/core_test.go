package reconcile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/spec"
)

func TestDelayGrowsToItsLimit(t *testing.T) {
	r := spec.Defaults().Restart
	r.Jitter = 0
	id := InstanceID{"web", 0}
	for attempt, want := range map[int]time.Duration{
		0: 500 * time.Millisecond, 1: 500 * time.Millisecond, 2: time.Second, 3: 2 * time.Second, 6: 16 * time.Second,
		7: 30 * time.Second, 8: 30 * time.Second, 5000: 30 * time.Second, // where 2^5000 is infinite
	} {
		if got := delay(&r, id, attempt); got != want {
			t.Errorf("attempt %d waits %s, not %s", attempt, got, want)
		}
	}
	r.Delay = 0
	if got := delay(&r, id, 5000); got != 0 {
		t.Errorf("no delay becomes %s", got)
	}
	if got := delay(&r, id, 3); got != 0 {
		t.Errorf("no delay becomes %s", got)
	}
}

func TestJitterIsASpreadThatRepeats(t *testing.T) {
	r := spec.Defaults().Restart
	r.Jitter = 0.5
	low, high := time.Hour, time.Duration(0)
	seen := map[time.Duration]bool{}
	for n := range 200 {
		id := InstanceID{"web", n}
		d := delay(&r, id, 1)
		if d != delay(&r, id, 1) {
			t.Fatalf("%s waits differently each time", id)
		}
		seen[d], low, high = true, min(low, d), max(high, d)
	}
	if low < 500*time.Millisecond || high >= 750*time.Millisecond {
		t.Errorf("delays are from %s to %s; 500ms and up to half of it on top", low, high)
	}
	if len(seen) < 190 || low > 520*time.Millisecond || high < 730*time.Millisecond {
		t.Errorf("200 instances have %d delays from %s to %s: that is no spread", len(seen), low, high)
	}
}

func TestComesBack(t *testing.T) {
	exits := func(codes []int, signals ...spec.Signal) spec.When {
		return spec.When{Mode: "exits", Exits: spec.ExitSet{Codes: codes, Signals: signals}}
	}
	ok, bad, killed := Exit{}, Exit{Code: 1}, Exit{Code: -1, Signal: spec.SIGKILL}
	unknown, noStart := Exit{Code: -1, Unknown: true}, Exit{Code: -1, Error: "x"}
	for _, c := range []struct {
		when spec.When
		exit Exit
		want bool
	}{
		{spec.When{Mode: "always"}, ok, true},
		{spec.When{Mode: "always"}, unknown, true},
		{spec.When{Mode: "failure"}, ok, false},
		{spec.When{Mode: "failure"}, bad, true},
		{spec.When{Mode: "failure"}, killed, true},
		{spec.When{Mode: "failure"}, unknown, true}, // not known to be a success
		{spec.When{Mode: "never"}, bad, false},
		{spec.When{Mode: "never"}, noStart, false},
		{exits([]int{1}), bad, true},
		{exits([]int{2}), bad, false},
		{exits([]int{-1}), killed, false}, // a signal is no code
		{exits(nil, spec.SIGKILL), killed, true},
		{exits([]int{-1}), unknown, false},
		{exits([]int{2}), noStart, true},
	} {
		pol := spec.Defaults().Policy
		pol.Restart.When = c.when
		if got := comesBack(&pol, &c.exit); got != c.want {
			t.Errorf("when %v, exit %+v: %v", c.when, c.exit, got)
		}
	}
}

// A world in which no configuration was accepted yet leaves alone what it does
// not know to be undesired.
func TestNothingIsStoppedBeforeAConfiguration(t *testing.T) {
	w := NewWorld()
	w, _ = Apply(w, Fact{Kind: FactAdopted, ID: InstanceID{"web", 0}, Run: 3, PID: 9, At: epoch}, epoch)
	if plan := DiffProgram("web", nil, w, epoch); !plan.Empty() {
		t.Errorf("nothing is known, and yet: %+v", plan)
	}
	w.ShuttingDown = true
	if plan := DiffProgram("web", nil, w, epoch); len(plan.Actions) != 1 || plan.Actions[0].Kind != ActionSignal {
		t.Errorf("a shutdown stops even that, but: %+v", plan)
	}
	w.ShuttingDown, w.Generation = false, 1
	if plan := DiffProgram("web", nil, w, epoch); len(plan.Actions) != 1 || plan.Changes[0].EndCause != CauseRemoved {
		t.Errorf("a configuration without it stops it, but: %+v", plan)
	}
}

// What is heard before the configuration is there goes by the policy that held last.
func TestWhatIsHeardFirstGoesByTheLastPolicy(t *testing.T) {
	pol := spec.Defaults().Policy
	pol.SuccessExit = spec.ExitSet{Codes: []int{3}}
	pol.Stop.Timeout = spec.Duration(time.Hour)
	hear := func(f Fact) *Instance {
		w := NewWorld()
		w.Programs["web"] = &Program{Name: "web"}
		w = Recall(w, spec.Spec{Programs: map[string]spec.Program{"web": {Policy: pol}}})
		f.ID, f.Run, f.PID, f.At = InstanceID{"web", 0}, 3, 9, epoch
		w, _ = Apply(w, f, epoch)
		return w.Programs["web"].Instances[0]
	}
	if i := hear(Fact{Kind: FactAdopted, Stopping: true}); i.State != StateStopping || !i.Until.Equal(epoch.Add(time.Hour)) {
		t.Errorf("it is %v until %v", i.State, i.Until)
	}
	for code, want := range map[int]Cause{3: CauseExit, 0: CauseCrashed} {
		i := hear(Fact{Kind: FactExited, Exit: &Exit{Code: code, Start: epoch}})
		if i.LastExit == nil || i.LastExit.Cause != want || i.Unjudged {
			t.Errorf("exit code %d: %+v", code, i.LastExit)
		}
	}
}

// The same look gives the same bytes, and what Diff says of all programs is
// what DiffProgram says of each.
func TestPlansAreTheSameBytes(t *testing.T) {
	s := newStage()
	s.quiet = true
	all := spec.Spec{Programs: map[string]spec.Program{}}
	for n := range 20 {
		name := fmt.Sprintf("p%d", n)
		if err := s.do(fmt.Sprintf("desired %s x%d", name, n%4)); err != nil {
			t.Fatal(err)
		}
		p := *s.desired[name]
		nice := n
		p.Nice, p.Instances = &nice, 3
		if n%5 > 0 {
			all.Programs[name] = p
		}
	}
	first, err := json.Marshal(Diff(all, s.w, s.now))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if again, _ := json.Marshal(Diff(all, s.w, s.now)); !bytes.Equal(first, again) {
			t.Fatalf("the same plan differs:\n%s\n%s", first, again)
		}
	}
	plan, w, n := Diff(all, s.w, s.now), s.w, 0
	for _, name := range s.names() {
		var want *spec.Program
		if p, ok := all.Programs[name]; ok {
			want = &p
		}
		one := DiffProgram(name, want, w, s.now)
		for _, c := range one.Changes {
			if !reflect.DeepEqual(c, plan.Changes[n]) {
				t.Errorf("%s: %+v is not %+v", name, c, plan.Changes[n])
			}
			n++
		}
		w, _ = Commit(w, one, s.now)
	}
	if n != len(plan.Changes) || n == 0 {
		t.Errorf("Diff has %d changes, the programs have %d", len(plan.Changes), n)
	}
}

// What the store keeps of an instance reads back as it was.
func TestInstancesReadBack(t *testing.T) {
	s := newStage()
	for _, line := range []string{"desired web x3", "started web", "exit web/0 code=1 left=2", "exit web/1 signal=KILL", "restart web/2"} {
		if err := s.do(line); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range s.w.Programs["web"].Instances {
		raw, err := json.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		var back Instance
		if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(*i, back) {
			t.Errorf("%v:\n%+v\n%+v", err, *i, back)
		}
	}
}

// Wake covers every deadline: min_uptime, stop, backoff, stability, preflight.
func TestWakeCoversEveryDeadline(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  time.Duration
	}{
		{[]string{"desired web min_uptime=3s", "started web/0"}, 3 * time.Second},
		{[]string{"desired web timeout=4s min_uptime=0s", "started web/0", "down web"}, 4 * time.Second},
		{[]string{"desired web delay=5s", "started web/0", "exit web/0 code=1"}, 5 * time.Second},
		{[]string{"desired web delay=0s flap_count=1 flap_within=7s min_uptime=0s", "started web/0", "exit web/0 code=1", "started web/0"}, 7 * time.Second},
		{[]string{"desired web min_uptime=0s", "started web/0", "edit web args=[\"b\"]"}, askAgain},
		{[]string{"desired web min_uptime=0s max_delay=9s", "started web/0", "edit web args=[\"b\"]", "preflight web gone"}, 9 * time.Second},
		{[]string{"desired web min_uptime=0s", "started web/0"}, 0},
	} {
		s := newStage()
		for _, line := range c.lines {
			if err := s.do(line); err != nil {
				t.Fatal(err)
			}
		}
		at := Wake(s.w.Programs["web"])
		if c.want == 0 && !at.IsZero() || c.want != 0 && !at.Equal(epoch.Add(c.want)) {
			t.Errorf("%s: wakes at %s, not after %s", c.lines[len(c.lines)-1], at.Sub(epoch), c.want)
		}
		if c.want != 0 && len(Due(s.w.Programs["web"], at.Add(-time.Nanosecond))) > 0 {
			t.Errorf("%s: it is due before its time", c.lines[len(c.lines)-1])
		}
	}
	if !Wake(nil).IsZero() || Due(nil, epoch) != nil {
		t.Error("a program that is gone wakes")
	}
}

// Every rule of Check can fail.
func TestCheckFindsWhatCannotBe(t *testing.T) {
	good := func() (World, *Instance) {
		s := newStage()
		s.quiet = true
		for _, line := range []string{"desired web x2 min_uptime=0s", "started web"} {
			if err := s.do(line); err != nil {
				t.Fatal(err)
			}
		}
		return s.w, s.w.Programs["web"].Instances[0]
	}
	for says, breakIt := range map[string]func(w World, i *Instance){
		"both have run 2":             func(_ World, i *Instance) { i.Run = 2 },
		"but the next one is":         func(_ World, i *Instance) { i.Run = 99 },
		"is kept under the name":      func(w World, _ *Instance) { w.Programs["web"].Name = "api" },
		"a roll without a target":     func(w World, _ *Instance) { w.Programs["web"].Target, w.Programs["web"].Held = "", "x" },
		"after index 1":               func(_ World, i *Instance) { i.ID.Index = 1 },
		"one of the table":            func(_ World, i *Instance) { i.State = StateImpossible },
		"what lives has a run":        func(_ World, i *Instance) { i.Run = 0 },
		"a new one has no run":        func(_ World, i *Instance) { i.State = StateNew },
		"a running one has a pid":     func(_ World, i *Instance) { i.PID = 0 },
		"have no deadline":            func(_ World, i *Instance) { i.Until = epoch },
		"from its exec on":            func(_ World, i *Instance) { i.State = StateStarting },
		"a backoff has a deadline":    func(_ World, i *Instance) { i.State = StateBackoff },
		"or KILL was ordered":         func(_ World, i *Instance) { i.State, i.EndCause = StateStopping, CauseStop },
		"only a stop has steps":       func(_ World, i *Instance) { i.Owed = ActionKill },
		"or its main process is gone": func(_ World, i *Instance) { i.State, i.Until = StateStopping, epoch },
		"what is finished has ended":  func(_ World, i *Instance) { i.Finished = finishedDone },
		"owed a restart lives":        func(_ World, i *Instance) { i.State, i.Cycle = StateExited, true },
		"at once is how":              func(_ World, i *Instance) { i.AtOnce = true },
		"has arrived":                 func(_ World, i *Instance) { i.Rolling = true },
		"flapping has seen ends":      func(_ World, i *Instance) { i.Flapping = true },
		"waits to be judged":          func(_ World, i *Instance) { i.Unjudged = true },
		"nothing counts below zero":   func(_ World, i *Instance) { i.Attempt = -1 },
		"about a living process": func(_ World, i *Instance) {
			i.State, i.Pending = StateExited, map[string]string{"nofile": "no"}
		},
	} {
		w, i := good()
		if err := Check(w); err != nil {
			t.Fatal(err)
		}
		breakIt(w, i)
		if err := Check(w); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// A plan names what differs by key, and never a value of env.
func TestCompareNamesKeys(t *testing.T) {
	a := spec.Defaults()
	a.Command, a.Env = "/bin/a", map[string]string{"TOKEN": "secret-1"}
	a.Limits = map[string]spec.Limit{"nofile": {Soft: 1024, Hard: 1024}, "core": {}}
	b := a
	b.Env, b.Mode = map[string]string{"TOKEN": "secret-2"}, spec.OutputMode{Kind: "null"}
	b.Command = "/bin/" + strings.Repeat("long", 20)
	b.Identity.UID = 7
	b.Limits = map[string]spec.Limit{"nofile": {Soft: 1024, Hard: 2048}}
	b.CPUs = "0-3"
	if e := compare(&a, &b, spec.CostProcess); e.reason != `command changed, env changed, output.mode "merged" -> "null", identity changed` {
		t.Errorf("%s %v", e.reason, e.keys)
	}
	e := compare(&a, &b, spec.CostLive)
	if e.reason != `limits.core 0 -> unset, limits.nofile changed, cpus unset -> "0-3"` || !reflect.DeepEqual(e.keys, []string{"limits.core", "limits.nofile", "cpus"}) {
		t.Errorf("%s %v", e.reason, e.keys)
	}
	if e := compare(nil, &b, spec.CostLive); e.keys != nil || e.reason == "" {
		t.Errorf("what is not remembered: %+v", e)
	}
}

// What a process has is named against what is desired now, also when edits
// came in between.
func TestPastVersionsAreRemembered(t *testing.T) {
	s := newStage()
	for _, line := range []string{
		"auto starts", "desired web args=[\"a\"]", "advance 1s", "edit web args=[\"b\"]", "edit web args=[\"b\"] dir=\"/srv\"", "take", "plan",
	} {
		if line == "take" {
			s.take()
			continue
		}
		if err := s.do(line); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.take(); len(got) != 1 || got[0] != `replace web/0: args changed, dir unset -> "/srv" [args dir]` {
		t.Errorf("%q", got)
	}
	for n := range 10 {
		if err := s.do(fmt.Sprintf("edit web args=[\"%d\"]", n)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.w.Programs["web"].past); n > pastLen {
		t.Errorf("%d versions are remembered; the bound is %d", n, pastLen)
	}
}
