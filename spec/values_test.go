package spec_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/procnanny/procnanny/spec"
)

// roundTrip asserts that a value comes back from its JSON form.
func roundTrip[T any](t *rapid.T, v T) {
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("cannot marshal %#v: %v", v, err)
	}
	var back T
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatalf("cannot unmarshal %s: %v", raw, err)
	}
	if !reflect.DeepEqual(v, back) {
		t.Fatalf("%#v became %s became %#v", v, raw, back)
	}
}

func TestValuesComeBackFromJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := spec.Size(rapid.Uint64().Draw(t, "size"))
		roundTrip(t, spec.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "duration")))
		roundTrip(t, size)
		roundTrip(t, spec.Limit{Soft: size, Hard: spec.Size(rapid.Uint64().Draw(t, "hard"))})
		roundTrip(t, spec.Limit{Soft: size, Hard: size})
		roundTrip(t, spec.Octal(rapid.Uint32Range(0, 0o777).Draw(t, "octal")))
		roundTrip(t, spec.NameOrID{Name: rapid.StringMatching(`[a-z0-9]{1,8}`).Draw(t, "name")})
		roundTrip(t, spec.NameOrID{ID: rapid.Uint32().Draw(t, "id")})
		roundTrip(t, spec.InheritEnv{All: rapid.Bool().Draw(t, "all")})
		roundTrip(t, spec.InheritEnv{Names: []string{rapid.String().Draw(t, "glob")}})
		roundTrip(t, spec.OutputMode{Kind: rapid.SampledFrom([]string{"merged", "separate", "null", "inherit"}).Draw(t, "mode")})
		roundTrip(t, spec.OutputMode{Kind: "file", File: rapid.StringN(1, -1, -1).Draw(t, "file")})
		roundTrip(t, spec.IONice{Class: rapid.SampledFrom([]string{"none", "realtime", "best-effort", "idle"}).Draw(t, "class"), Level: rapid.IntRange(0, 7).Draw(t, "level")})
		roundTrip(t, spec.GiveUp(rapid.IntRange(0, 1000).Draw(t, "give_up")))
		roundTrip(t, spec.CountOrPercent{N: rapid.IntRange(1, 100).Draw(t, "n"), Percent: rapid.Bool().Draw(t, "percent")})
		roundTrip(t, spec.Signal(rapid.IntRange(1, 64).Draw(t, "signal")))
		set := spec.ExitSet{
			Codes:   rapid.SliceOfN(rapid.IntRange(0, 255), 1, 5).Draw(t, "codes"),
			Signals: []spec.Signal{spec.Signal(rapid.IntRange(1, 64).Draw(t, "exit"))},
		}
		slices.Sort(set.Codes)
		roundTrip(t, set)
		roundTrip(t, spec.When{Mode: "exits", Exits: set})
		roundTrip(t, spec.When{Mode: rapid.SampledFrom([]string{"always", "failure", "never"}).Draw(t, "when")})
	})
}

// The short forms that people write.
func TestShortForms(t *testing.T) {
	cases := []struct {
		into any
		text string
		want any
	}{
		{new(spec.Octal), `"027"`, spec.Octal(0o27)},
		{new(spec.Octal), `"0o27"`, spec.Octal(0o27)},
		{new(spec.Octal), `23`, spec.Octal(0o27)},
		{new(spec.Size), `"max"`, spec.Size(spec.Unlimited)},
		{new(spec.Size), `18446744073709551615`, spec.Size(spec.Unlimited)},
		{new(spec.Limit), `"unlimited"`, spec.Limit{Soft: spec.Unlimited, Hard: spec.Unlimited}},
		{new(spec.Limit), `{"soft": 1, "hard": "unlimited"}`, spec.Limit{Soft: 1, Hard: spec.Unlimited}},
		{new(spec.IONice), `6`, spec.IONice{Class: "best-effort", Level: 6}},
		{new(spec.ExitSet), `3`, spec.ExitSet{Codes: []int{3}}},
		{new(spec.ExitSet), `"TERM"`, spec.ExitSet{Signals: []spec.Signal{15}}},
		{new(spec.ExitSet), `[3, "sigint", 0]`, spec.ExitSet{Codes: []int{0, 3}, Signals: []spec.Signal{2}}},
		{new(spec.When), `[1]`, spec.When{Mode: "exits", Exits: spec.ExitSet{Codes: []int{1}}}},
		{new(spec.Signal), `9`, spec.Signal(9)},
		{new(spec.GiveUp), `"never"`, spec.GiveUp(0)},
	}
	for _, c := range cases {
		if err := json.Unmarshal([]byte(c.text), c.into); err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got := reflect.ValueOf(c.into).Elem().Interface(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s is %#v, expected %#v", c.text, got, c.want)
		}
	}
}

func TestWrongValues(t *testing.T) {
	cases := []struct {
		into any
		text string
	}{
		{new(spec.Duration), `10`},
		{new(spec.Duration), `"-1s"`},
		{new(spec.Duration), `"soon"`},
		{new(spec.Size), `-1`},
		{new(spec.Size), `1.5`},
		{new(spec.Size), `"many"`},
		{new(spec.Octal), `"8"`},
		{new(spec.Octal), `512`},
		{new(spec.Octal), `"1777"`},
		{new(spec.CountOrPercent), `"x%"`},
		{new(spec.Signal), `"KABOOM"`},
		{new(spec.ExitSet), `["KABOOM"]`},
		{new(spec.ExitSet), `[true]`},
		{new(spec.GiveUp), `"sometimes"`},
		{new(spec.Limit), `[1]`},
	}
	for _, c := range cases {
		if err := json.Unmarshal([]byte(c.text), c.into); err == nil {
			t.Errorf("%s was taken as %#v", c.text, reflect.ValueOf(c.into).Elem().Interface())
		}
	}
}

func TestCountOrPercent(t *testing.T) {
	cases := []struct {
		c           spec.CountOrPercent
		total, want int
	}{
		{spec.CountOrPercent{N: 25, Percent: true}, 100, 25},
		{spec.CountOrPercent{N: 25, Percent: true}, 7, 1},
		{spec.CountOrPercent{N: 25, Percent: true}, 1, 1},
		{spec.CountOrPercent{N: 25, Percent: true}, 0, 1},
		{spec.CountOrPercent{N: 100, Percent: true}, 3, 3},
		{spec.CountOrPercent{N: 3}, 100, 3},
	}
	for _, c := range cases {
		if got := c.c.Of(c.total); got != c.want {
			t.Errorf("%v of %d is %d, expected %d", c.c, c.total, got, c.want)
		}
	}
}

func TestExitSetHas(t *testing.T) {
	s := spec.ExitSet{Codes: []int{0, 3}, Signals: []spec.Signal{15}}
	if !s.Has(3, 0) || s.Has(4, 0) || !s.Has(0, 15) || s.Has(0, 9) || s.Has(3, 9) {
		t.Error("an exit by signal counts by its signal alone, another by its code")
	}
}

// A file that says nothing means every default; keys cost what their struct
// says; all keys are there.
func TestKeysAndCosts(t *testing.T) {
	var p spec.Program
	if err := json.Unmarshal([]byte(`{}`), &p); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(p, spec.Defaults()) {
		t.Errorf("{} is %+v", p)
	}
	costs := map[string]spec.Cost{}
	for _, k := range spec.KeyCosts() {
		if costs[k.Key] != "" {
			t.Errorf("%s stands twice", k.Key)
		}
		costs[k.Key] = k.Cost
	}
	want := map[string]spec.Cost{
		"command": spec.CostProcess, "env": spec.CostProcess, "stdin": spec.CostProcess, "nice": spec.CostLive, "limits": spec.CostLive,
		"cgroup": spec.CostLive, "instances": spec.CostInstance, "restart": spec.CostNothing, "output": spec.CostNothing, "drift": spec.CostNothing,
	}
	for key, cost := range want {
		if costs[key] != cost {
			t.Errorf("%s costs %q, expected %q", key, costs[key], cost)
		}
	}
	if len(spec.Keys()) != len(costs) || slices.Contains(spec.Keys(), "identity") {
		t.Errorf("keys: %v", spec.Keys())
	}
}

// A digest is kept over restarts and compared: it must not change with the
// version of Go, the order of a map or the way of writing a value.
func TestDigestsAreStable(t *testing.T) {
	read := func(text string) spec.Program {
		var p spec.Program
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	a := read(`{"command": "x", "env": {"A": "1", "B": "2"}, "limits": {"nofile": 5, "core": {"soft": 0, "hard": 0}}, "nice": 3}`)
	b := read(`{"limits": {"core": 0, "nofile": {"soft": 5, "hard": 5}}, "nice": 3, "env": {"B": "2", "A": "1"}, "command": "x"}`)
	if a.Launch.Digest() != b.Launch.Digest() || a.Tuning.Digest() != b.Tuning.Digest() {
		t.Error("the same in another order has another digest")
	}
	if got := a.Launch.Digest(); got != "ae3bb638b52d42b1" {
		t.Errorf("the launch digest is %s: every program would be replaced at an upgrade", got)
	}
	if got := a.Tuning.Digest(); got != "38fdc129fecac15a" {
		t.Errorf("the tuning digest is %s", got)
	}
	changes := map[string]func(p *spec.Program){
		"mode":     func(p *spec.Program) { p.Mode.Kind = "null" },
		"identity": func(p *spec.Program) { p.Identity.UID = 7 },
		"args":     func(p *spec.Program) { p.Args = []string{"a"} },
	}
	for name, change := range changes {
		c := a
		change(&c)
		if c.Launch.Digest() == a.Launch.Digest() {
			t.Errorf("%s does not count", name)
		}
	}
	c := a
	c.Instances, c.Admin.Down = 7, true
	if c.Launch.Digest() != a.Launch.Digest() {
		t.Error("policy counts as launch")
	}
}

func TestProblemText(t *testing.T) {
	p := spec.Problem{
		File: "a.cue", Line: 3, Column: 9, Path: "programs.web.nice", Message: "invalid value 40", SourceLine: "\t\tnice: 40",
		Also: []string{"b.cue:1:2"}, Hint: "did you mean 4?",
	}
	want := "a.cue:3:9: programs.web.nice: invalid value 40 (did you mean 4?) (see also b.cue:1:2)\n    \t\tnice: 40\n    \t\t      ^"
	if p.Text() != want {
		t.Errorf("expected\n%s\nfound\n%s", want, p.Text())
	}
	p.Column = 99
	if !strings.HasSuffix(p.Text(), "^") {
		t.Error("a column behind the line breaks the text")
	}
	ps := spec.Problems{{Message: "w", Warning: true}, {File: "b", Message: "x"}, {File: "a", Line: 2, Message: "y"}, {File: "a", Line: 1, Message: "z"}}
	ps.Sort()
	if got := ps.Errors().Error(); got != "a:1: z\na:2: y\nb: x" {
		t.Errorf("sorted: %q", got)
	}
}

// A default gives way to what is said, whoever says it.
func TestTheOtherDelayGivesWay(t *testing.T) {
	for said, want := range map[string]string{
		`{}`:                                  "500ms to 30s",
		`{"delay": "1m"}`:                     "1m0s to 1m0s",
		`{"max_delay": "100ms"}`:              "100ms to 100ms",
		`{"delay": "1m", "max_delay": "30s"}`: "1m0s to 30s", // a contradiction, to be told
	} {
		var p spec.Program
		if err := json.Unmarshal([]byte(`{"command": "x", "restart": `+said+`}`), &p); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%v to %v", p.Restart.Delay, p.Restart.MaxDelay); got != want {
			t.Errorf("%s: %s, want %s", said, got, want)
		}
	}
	for path, want := range map[string]string{"restart.delay": "1m0s to 1m0s", "restart.max_delay": "500ms to 1m0s"} {
		q, err := spec.Defaults().Set(path, json.RawMessage(`"1m"`))
		if got := fmt.Sprintf("%v to %v", q.Restart.Delay, q.Restart.MaxDelay); err != nil || got != want {
			t.Errorf("%s = 1m: %s, want %s, %v", path, got, want, err)
		}
	}
	q, err := spec.Defaults().Set("restart.max_delay", json.RawMessage(`"0s"`))
	if err != nil || q.Restart.Delay != 0 {
		t.Errorf("max_delay 0s leaves %v, %v", q.Restart.Delay, err)
	}
}
