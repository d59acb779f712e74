package main

import (
	"encoding/json"
	"io"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/spec"
)

// views are command lines with the method that they show, the golden file of
// their text, and their exit code.
var views = []struct {
	line   string
	method string
	golden string
	code   int
}{
	{"status web", "status", "status-web.txt", 0},
	{"status */0 -o yaml", "status", "status.yaml", 0},
	{"status hello* -o json", "status", "status.json", 0},
	{"plan", "plan", "plan.txt", 2},
	{"plan -o json", "plan", "plan.json", 2},
	{"generations", "generations", "generations.txt", 0},
	{"diff", "diff", "diff.txt", 2},
	{"diff 11", "diff", "diff.txt", 2},
	{"overrides", "overrides", "overrides.txt", 0},
	{"history web/0", "history", "history.txt", 0},
	{"history web/0 --totals", "history", "totals.txt", 0},
	{"hooks", "hooks", "hooks.txt", 0},
	{"restart web", "restart", "restart.txt", 0},
	{"restart web -o json", "restart", "restart.json", 0},
	{"why web/2", "why", "why.txt", 0},
	{"methods", "methods", "methods.txt", 0},
	{"methods scale", "methods", "methods-scale.txt", 0},
	{"events", "events", "events.txt", 0},
	{"events --since 2 -o json", "events", "events.json", 0},
}

func TestViews(t *testing.T) {
	for _, v := range views {
		f := newFake(t)
		f.file(v.method)
		s := f.run(strings.Fields(v.line)...)
		if s.code != v.code {
			t.Errorf("%s: exit %d, want %d: %s", v.line, s.code, v.code, s.err.String())
		}
		if f.last().method != v.method {
			t.Errorf("%s asked for %s", v.line, f.last().method)
		}
		golden(t, v.golden, s.out.String())
	}
}

// Whatever a reply holds, a terminal and a pipe get only text.
func TestNothingDrivesTheTerminal(t *testing.T) {
	for _, v := range views {
		f := newFake(t)
		f.file(v.method)
		for _, width := range []int{0, 40, 80, 200} {
			s := f.onTerminal(width, strings.Fields(v.line)...)
			for _, text := range []string{s.out.String(), s.err.String()} {
				for _, sgr := range []style{bold, dim, red, green, yellow, cyan, "0"} {
					text = strings.ReplaceAll(text, "\x1b["+string(sgr)+"m", "")
				}
				if escape(text, "\n\t") != text {
					t.Errorf("%s at %d columns prints control characters:\n%q", v.line, width, text)
				}
			}
		}
	}
}

func TestNoColour(t *testing.T) {
	f := newFake(t)
	f.file("status")
	for _, variable := range []string{"NO_COLOR=1", "TERM=dumb"} {
		s := &session{}
		a := f.client(s, 100)
		key, val, _ := strings.Cut(variable, "=")
		inner := a.getenv
		a.getenv = func(k string) string {
			if k == key {
				return val
			}
			return inner(k)
		}
		if code := run(t.Context(), a, []string{"status"}); code != 0 || strings.Contains(s.out.String(), "\x1b") {
			t.Errorf("%s: %q", variable, s.out.String())
		}
	}
}

func TestProblemsOfAPlanGoToStderr(t *testing.T) {
	f := newFake(t)
	f.file("plan")
	s := f.run("plan")
	golden(t, "plan-stderr.txt", s.err.String())
	f.reply("plan", `{"digest": "", "generation": 3, "changes": [], "problems": [{"file": "a.cue", "line": 1, "column": 3, "path": "programs.x.nice", "message": "expected an integer", "source_line": "x: nice", "warning": false}]}`)
	if s := f.run("plan"); s.code != 1 || s.out.String() != "" || !strings.Contains(s.err.String(), "error: a.cue:1:3: programs.x.nice: expected an integer\n    x: nice\n      ^") {
		t.Errorf("%d %q %q", s.code, s.out.String(), s.err.String())
	}
}

func TestATableFitsItsTerminal(t *testing.T) {
	tab := table{head: []string{"NAME", "STATE", "LAST EXIT"}}
	tab.add(plainCells("a-long-name/0", "running", "")...)
	tab.add(plainCells("b/0", "", "signal HUP")...)
	for limit := 1; limit < 40; limit++ {
		var b strings.Builder
		if err := tab.write(&b, false, limit); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if line = strings.TrimSuffix(line, "\n"); columns(line) > limit || strings.HasSuffix(line, " ") {
				t.Errorf("%d columns: %q", limit, line)
			}
		}
	}
}

func TestExitCodes(t *testing.T) {
	refused := &rpc.Error{Code: rpc.CodeRefused, Message: "web.cue:3:7: programs.web.instances: <=32", Problems: spec.Problems{
		{File: "web.cue", Line: 3, Column: 7, Path: "programs.web.instances", Message: "<=32"},
	}}
	one := &rpc.Error{Code: rpc.CodeRefused, Message: "cannot set nice of web: web.cue:3:7: programs.web.nice: <=19", Problems: spec.Problems{
		{File: "web.cue", Line: 3, Column: 7, Path: "programs.web.nice", Message: "<=19", SourceLine: "nice: 5"},
	}}
	two := &rpc.Error{Code: rpc.CodeRefused, Message: one.Message, Problems: append(slices.Clone(one.Problems), refused.Problems...)}
	for _, c := range []struct {
		line, method, reply string
		refuse              error
		code                int
		stderr              string
	}{
		{"scale web 4", "scale", `{"program": "web", "instances": 4, "was": 2}`, nil, 0, ""},
		{"scale web 99", "scale", "", refused, 1, "procnanny: web.cue:3:7: programs.web.instances: <=32\n"},
		{"set web nice=77", "set", "", one, 1, "procnanny: cannot set nice of web: web.cue:3:7: programs.web.nice: <=19\n    nice: 5\n          ^\n"},
		{"set web nice=77 instances=64", "set", "", two, 1, "procnanny: cannot set nice of web: web.cue:3:7: programs.web.nice: <=19\n    nice: 5\n          ^\nprocnanny: web.cue:3:7: programs.web.instances: <=32\n"},
		{"stop web", "stop", "", rpc.Errorf(rpc.CodeNotFound, "there is no program 'web'"), 1, "procnanny: there is no program 'web'\n"},
		{"signal web HUP", "signal", `{"results": {"web": {"0": "it does not run"}}}`, nil, 1, ""},
		{"start web", "start", `{"results": {"web": {}}}`, nil, 0, "procnanny: there is no instance to start\n"},
		{"plan", "plan", `{"digest": "x", "generation": 3, "changes": [], "problems": []}`, nil, 0, ""},
		{"diff", "diff", `{"generation": 3, "differences": []}`, nil, 0, ""},
		{"fizzle", "", "", nil, 1, "procnanny: unknown command \"fizzle\" for \"procnanny\"\n"},
		{"call fizzle", "", "", nil, 1, "procnanny: No such method requested: see procnanny methods\n"},
		{"status nobody", "status", `{"programs": {}, "config": {"state": "ok"}}`, nil, 1, "procnanny: there is no program 'nobody'\n"},
		{"status no*", "status", `{"programs": {}, "config": {"state": "ok"}}`, nil, 1, "procnanny: nothing matches 'no*'\n"},
		{"why --all", "status", `{"programs": {}, "config": {"state": "ok"}}`, nil, 1, "procnanny: there is no program\n"},
		{"status -o xml", "", "", nil, 1, "procnanny: cannot use -o xml: expected text, json or yaml\n"},
		{"stop web --all", "", "", nil, 1, "procnanny: cannot use --all beside targets\n"},
		{"stop", "", "", nil, 1, "procnanny: expected a target such as web, web/2 or \"w*\", or --all\n"},
		{"stop web --until tomorrow", "", "", nil, 1, "procnanny: cannot use --until tomorrow: expected a duration such as 2h, or boot\n"},
		{"signal web FIZZLE", "", "", nil, 1, "procnanny: unknown signal \"FIZZLE\": the signal comes last, such as: web HUP\n"},
		{"scale web many", "", "", nil, 1, "procnanny: cannot scale to \"many\": how many instances are wanted is an integer from 0 to 100000\n"},
		{"scale web -1", "", "", nil, 1, "procnanny: cannot scale to \"-1\": how many instances are wanted is an integer from 0 to 100000\n"},
		{"set web nice -15", "", "", nil, 1, "procnanny: cannot set -15: a negative value is written KEY=-15\n"},
		{"logs web -20", "", "", nil, 1, "procnanny: cannot show -20: the last lines are -n 20\n"},
		{"rollback -1", "", "", nil, 1, "procnanny: expected the number of a generation, found \"-1\": see procnanny generations\n"},
		{"signal web", "", "", nil, 1, "procnanny: expected targets and a signal, such as: web HUP\n"},
		{"signal HUP web", "", "", nil, 1, "procnanny: unknown signal \"web\": the signal comes last, such as: web HUP\n"},
		{"history web", "history", `{"runs": []}`, nil, 0, ""},
		{"help nobody", "", "", nil, 1, "procnanny: unknown command \"nobody\" for \"procnanny\"\n"},
		{"help keygen nobody", "", "", nil, 1, "procnanny: unknown command \"nobody\" for \"procnanny keygen\"\n"},
		{"help keygen server", "", "", nil, 0, ""},
		{"stop web -2", "", "", nil, 1, "procnanny: unknown shorthand flag: '2' in -2 (procnanny stop --help lists the flags)\n"},
		{"rollback x", "", "", nil, 1, "procnanny: expected the number of a generation, found \"x\": see procnanny generations\n"},
		{"apply /nonexistent", "", "", nil, 1, "procnanny: cannot read plan /nonexistent: no such file or directory\n"},
		{"apply /dev/null", "", "", nil, 1, "procnanny: cannot read plan /dev/null: it is no plan that `procnanny plan --out` wrote\n"},
		{"events --limit -1", "", "", nil, 1, "procnanny: cannot show the last -1 events\n"},
		{"scale web", "", "", nil, 1, "procnanny: expected: procnanny scale PROGRAM N (procnanny scale --help says more)\n"},
		{"keygen client", "", "", nil, 1, "procnanny: expected: procnanny keygen client FILE (procnanny keygen client --help says more)\n"},
		{"version x", "", "", nil, 1, "procnanny: expected: procnanny version (procnanny version --help says more)\n"},
		{"events --since -1", "", "", nil, 1, "procnanny: --since expects an integer, 0 or more, found \"-1\" (procnanny events --help lists the flags)\n"},
		{"status --timeout x", "", "", nil, 1, "procnanny: --timeout expects a duration such as 10s, found \"x\" (procnanny status --help lists the flags)\n"},
		{"apply x --digest", "", "", nil, 1, "procnanny: unknown flag: --digest (procnanny apply --help lists the flags)\n"},
		{"logs web --raw", "status", `{"programs": {"web": {"instances": {"0": {}, "1": {}}}}}`, nil, 1, "procnanny: cannot print 2 instances raw: name one, such as web/0\n"},
	} {
		f := newFake(t)
		if c.reply != "" {
			f.reply(c.method, c.reply)
		}
		if c.refuse != nil {
			f.refuse(c.method, c.refuse)
		}
		s := f.run(strings.Fields(c.line)...)
		if s.code != c.code || s.err.String() != c.stderr {
			t.Errorf("%s: exit %d, want %d\n got %q\nwant %q", c.line, s.code, c.code, s.err.String(), c.stderr)
		}
	}
}

func TestOneMethodIsDescribed(t *testing.T) {
	f := newFake(t)
	f.file("methods")
	s := f.run("methods", "scale", "-o", "json")
	var got struct{ Name string }
	if err := json.Unmarshal([]byte(s.out.String()), &got); err != nil || got.Name != "scale" || s.code != 0 {
		t.Errorf("exit %d, %v:\n%s", s.code, err, s.out.String())
	}
	s = f.run("methods", "scael", "-o", "json")
	if s.code != 1 || s.out.Len() > 0 || s.err.String() != "procnanny: there is no method \"scael\": did you mean scale?\n" {
		t.Errorf("exit %d: %s%s", s.code, s.out.String(), s.err.String())
	}
}

// full is a disk that is.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestAFullDiskIsNoSuccess(t *testing.T) {
	for _, line := range []string{"generations", "generations -o json", "why web/2", "events", "methods scale"} {
		f := newFake(t)
		for _, v := range views {
			f.file(v.method)
		}
		s := &session{}
		a := f.client(s, 0)
		a.out = full{}
		if code := run(t.Context(), a, strings.Fields(line)); code != 1 || !strings.Contains(s.err.String(), "no space left") {
			t.Errorf("%s: exit %d, %q", line, code, s.err.String())
		}
	}
}

// A flag's help names its value, not its type in Go.
func TestFlagsNameTheirValues(t *testing.T) {
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if name, _ := pflag.UnquoteUsage(f); f.Value.Type() != "bool" && !regexp.MustCompile(`[A-Z]`).MatchString(name) {
				t.Errorf("%s --%s %s", cmd.CommandPath(), f.Name, name)
			}
		})
		for _, below := range cmd.Commands() {
			look(below)
		}
	}
	look((&app{out: io.Discard, err: io.Discard}).root())
}
