package specfile_test

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/procnanny/procnanny/spec"
	"github.com/procnanny/procnanny/spec/specfile"
)

const site = `package site

import "example.com/site/lib"

programs: [string]: {
	instances?:   <=32
	uid?:         !=0
	nice?:        >=0
	no_new_privs: true
}
programs: web: {
	command: "web"
	user:    "games"
	nice:    4
	instances: 4 & <=10
	limits: nofile: 1024
	args: ["-p", "80"]
	env: {A: "1", B: "2"}
	ionice: 6
	restart: delay: "1s"
	if nice > 10 {
		instances: <=2
	}
}
programs: shop: lib.#Service & {
	command: "shop"
	output: mode: "separate"
}
programs: mail: lib.#Service & {command: "mail", nice: _nice}
_nice: 7
for n in ["a", "b"] {
	programs: "search \(n)": lib.#Service & {command: "search", nice: 3, args: [n]}
}
_total: programs.web.instances + programs.shop.instances
_total: <=12
`

const siteLib = `package lib

#Service: {
	user:  string | *"games"
	instances: int | *1
	stop: {signal: "INT", timeout: "3s"}
	limits: nofile: int | *4096
	...
}
`

func siteSource() spec.Source {
	return spec.Source{Files: map[string][]byte{
		"site.cue": []byte(site), "lib/lib.cue": []byte(siteLib),
		"cue.mod/module.cue": []byte("module: \"example.com/site\"\nlanguage: version: \"v0.12.0\"\n"),
	}}
}

func override(program, field, value string) spec.Override {
	return spec.Override{Program: program, Field: field, Value: json.RawMessage(value)}
}

// judge evaluates overrides on the site; each set is refused where refused has
// a text for its index, and accepted elsewhere.
func judge(t *testing.T, src spec.Source, list []spec.Override, refused map[int]string) spec.EvalResult {
	t.Helper()
	res := specfile.Evaluate(spec.EvalRequest{Source: src, Overrides: list}, testHost)
	if res.Spec == nil {
		t.Fatalf("the files are refused: %v", res.Problems)
	}
	for n, o := range list {
		why := res.Refused[o.Key()].Error()
		switch want := refused[n]; {
		case want == "" && why != "":
			t.Errorf("%s.%s = %s was refused: %s", o.Program, o.Field, o.Value, why)
		case want != "" && !strings.Contains(why, want):
			t.Errorf("%s.%s = %s: expected a refusal with %q, found %q", o.Program, o.Field, o.Value, want, why)
		}
	}
	return res
}

func TestOneOverride(t *testing.T) {
	cases := []struct{ program, field, value, refused string }{
		{"web", "instances", "8", ""},
		{"web", "instances", "11", "allow only <=10"},
		{"web", "instances", "64", "allow only <="},
		{"web", "instances", `"4"`, "expected an integer from 0 to 100000"},
		{"web", "instances", "1000000000", "expected an integer from 0 to 100000"},
		{"web", "instances", "null", ""},
		{"web", "nice", "5", ""},
		{"web", "nice", "null", "nice"},
		{"web", "nice", "-1", "allow only >=0"},
		{"web", "nice", "40", "expected an integer from -20 to 19"},
		{"web", "nice", "11", "<=2"}, // a rule that relates two fields
		{"web", "limits.nofile", "2048", ""},
		{"web", "limits.nofile", `{"soft": 1, "hard": 2}`, ""},
		{"web", "limits.nofile", `{"soft": 3, "hard": 2}`, "soft limit 3 is above the hard limit 2"},
		{"web", "limits.nofile.soft", "512", ""},
		{"web", "limits.nofile.soft", "4096", "soft limit 4096 is above the hard limit 1024"},
		{"web", "limits", `{"core": 0}`, ""},
		{"web", "limits.nofiles", "1", `did you mean "nofile"?`},
		{"web", "args", `["-p", "81", "x"]`, ""},
		{"web", "args", `[]`, ""},
		{"web", "args", `[1]`, "expected a string"},
		{"web", "args", "null", ""},
		{"web", "env", `{"C": "3"}`, ""},
		{"web", "env.A", `"x"`, ""},
		{"web", "env.A", `5`, "expected"},
		{"web", "ionice", "3", ""},
		{"web", "ionice.level", "3", ""},
		{"web", "ionice.class", `"idle"`, ""},
		{"web", "ionice.level", "9", "ionice"},
		{"web", "ionice", `{"class": "idle", "level": 1}`, ""},
		{"web", "restart.delay", `"3s"`, ""},
		{"web", "restart.delay", `"40s"`, ""},
		{"web", "restart", `{"delay": "40s"}`, ""},
		{"web", "restart.max_delay", `"100ms"`, "delay 1s is longer than max_delay 100ms"},
		{"web", "restart", `{"delay": "40s", "max_delay": "30s"}`, "delay 40s is longer than max_delay 30s"},
		{"web", "restart", `{"max_delay": "1m"}`, ""},
		{"web", "no_new_privs", "false", "no_new_privs"}, // a rule for everybody
		{"web", "user", `"nobody"`, ""},
		{"web", "user", `"mallory"`, "no such user: mallory"},
		{"web", "user", `"root"`, "uid"},
		{"web", "user", "null", "uid"}, // a daemon of root would run it as root
		{"web", "command", `"other"`, ""},
		{"web", "command", "null", `missing key "command"`},
		{"web", "comand", `"x"`, `did you mean "command"?`},
		{"web", "stop.signal", `"KABOOM"`, "expected a signal"},
		{"shop", "stop.signal", `"HUP"`, ""}, // from a template
		{"shop", "user", `"nobody"`, ""},
		{"shop", "output.mode", `{"file": "/var/log/x"}`, ""},
		{"shop", "output.mode", `{"file": "x"}`, "expected an absolute path"},
		{"shop", "instances", "8", ""},
		{"shop", "instances", "9", "<=12"}, // a rule about two programs
		{"shop", "limits.nofile", "9", ""},
		{"mail", "nice", "9", ""},     // from a reference
		{"search a", "nice", "5", ""}, // from a comprehension
		{"search b", "args", `["x"]`, ""},
		{"gone", "nice", "5", ""}, // ends by itself
		{"web", "admin", `"down"`, ""},
	}
	for _, c := range cases {
		judge(t, siteSource(), []spec.Override{override(c.program, c.field, c.value)}, map[int]string{0: c.refused})
	}
}

func TestCreatedProgramsObeyTheRules(t *testing.T) {
	cases := []struct{ value, refused string }{
		{`{"command": "x", "user": "games", "no_new_privs": true}`, ""},
		{`{"command": "x", "user": "games"}`, ""},
		{`{"command": "x"}`, "uid"}, // root's daemon
		{`{"command": "x", "uid": 0}`, "uid"},
		{`{"command": "x", "user": "games", "instances": 33}`, "<=32"},
		{`{"command": "x", "user": "games", "bogus": 33}`, `unknown key "bogus"`},
		{`{"user": "games"}`, `missing key "command"`},
	}
	for _, c := range cases {
		res := judge(t, siteSource(), []spec.Override{override("new one", spec.FieldProgram, c.value)}, map[int]string{0: c.refused})
		if c.refused == "" && res.Identities["new one"].UID != 5 {
			t.Errorf("%s runs as %+v", c.value, res.Identities["new one"])
		}
	}
	judge(t, siteSource(), []spec.Override{
		override("new", spec.FieldProgram, `{"command": "x", "user": "games"}`),
		override("new", "instances", "20"),
		override("new", "nice", "-5"),
		override("new", "limits.nofile", "5"),
		override("new", "bogus", "5"),
	}, map[int]string{2: ">=0", 4: `unknown key "bogus"`})
}

// An older override has the right of way, and the innocent are not blamed.
func TestSeveralOverrides(t *testing.T) {
	list := []spec.Override{
		override("web", "instances", "4"),
		override("shop", "instances", "8"),
		override("web", "instances", "5"), // 13 with the 8 of shop
		override("web", "nice", "19"),     // but then 4 instances are too many
		override("web", "limits.nofile", "5"),
		override("mail", "nice", "99"),
		override("search a", "nice", "5"),
		override("web", "user", `"nobody"`),
	}
	list[2].Index = new(int) // another key than the first
	res := judge(t, siteSource(), list, map[int]string{2: "<=12", 3: "<=2", 5: "expected an integer from -20 to 19"})
	if id := res.Identities["web"]; id.UID != 65534 {
		t.Errorf("web runs as %+v", id)
	}
	if len(res.Refused) != 3 {
		t.Errorf("refused: %v", res.Refused)
	}
}

// What overrides do to the syntax trees does not show in the verdict on the
// files.
func TestOverridesLeaveTheFilesAlone(t *testing.T) {
	plain := judge(t, siteSource(), nil, nil)
	res := judge(t, siteSource(), []spec.Override{
		override("web", "nice", "5"), override("shop", "stop.signal", `"HUP"`), override("web", "bogus", "1"),
	}, map[int]string{2: "unknown key"})
	if res.Spec.Digest() != plain.Spec.Digest() {
		t.Error("the overrides changed what the files say")
	}
}

// Whatever is set: those that are not refused go together, and give programs
// that a file could have said.
func TestAcceptedOverridesGoTogether(t *testing.T) {
	fields := []string{
		"instances", "nice", "limits", "limits.nofile", "limits.nofile.soft", "limits.core.hard", "ionice", "ionice.class", "ionice.level", "user", "uid",
		"args", "env", "env.A", "env.X", "output", "output.mode", "output.mode.file", "output.rotate.size", "restart", "restart.delay", "restart.flap.count",
		"stop.signal", "command", "bogus", "bogus.deep", "args.0", "no_new_privs", "", ".", "capabilities.ambient", "sched", "sched.policy", "cpus",
	}
	values := []string{
		"0", "1", "7", "12", "-3", "1.5", "null", "true", `""`, `"games"`, `"x"`, `"/x"`, `"idle"`, `"separate"`, `"2s"`, `"HUP"`, `"rr"`, `"0-1"`,
		`[]`, `["chown"]`, `{}`, `{"soft": 1, "hard": 2}`, `{"A": "1"}`, `{"nofile": 3}`, `{"class": "idle", "level": 1}`, `{"file": "/x"}`, `{"delay": "1s"}`,
		`{"policy": "rr", "priority": 3}`, `{"size": 5}`, `{"mode": "null"}`, `not JSON`, "",
	}
	programs := []string{"web", "shop", "mail", "search a", "new", "gone"}
	rapid.Check(t, func(t *rapid.T) {
		var list []spec.Override
		for range rapid.IntRange(1, 6).Draw(t, "n") {
			list = spec.Put(list, override(rapid.SampledFrom(programs).Draw(t, "program"), rapid.SampledFrom(fields).Draw(t, "field"), rapid.SampledFrom(values).Draw(t, "value")))
		}
		if rapid.Bool().Draw(t, "created") {
			list = spec.Put(list, override("new", spec.FieldProgram, `{"command": "x", "user": "nobody", "limits": {"nofile": 4}, "ionice": 3}`))
		}
		req := spec.EvalRequest{Source: siteSource(), Overrides: list}
		res := specfile.Evaluate(req, testHost)
		if res.Spec == nil {
			t.Fatalf("the overrides spoil the files: %v", res.Problems)
		}
		var keep []spec.Override
		for _, o := range list {
			if len(res.Refused[o.Key()]) == 0 {
				keep = append(keep, o)
			}
		}
		req.Overrides = keep
		if again := specfile.Evaluate(req, testHost); len(again.Refused) > 0 {
			t.Fatalf("accepted at first, refused then: %v", again.Refused)
		}
		with := res.Spec.With(keep)
		for name, p := range with.Programs {
			p.Admin, p.Identity = spec.Admin{}, spec.Identity{}
			with.Programs[name] = p
		}
		text := spec.CUE(with)
		src := spec.Source{Files: map[string][]byte{"export.cue": []byte(text)}}
		if res := specfile.Evaluate(spec.EvalRequest{Source: src}, testHost); res.Spec == nil {
			t.Fatalf("%v were accepted, but what they give is not good: %v\n%s", keep, res.Problems, text)
		}
	})
}
