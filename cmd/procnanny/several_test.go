package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/rpc"
)

// several targets, globs and --all are asked about one by one, exact names as
// they are: of what is gone there are records.
func TestWhyAndHistoryOfSeveral(t *testing.T) {
	f := newFake(t)
	f.reply("status", `{"programs": {"web": {"instances": {"0": {}, "1": {}}}, "work": {"instances": {"0": {}}}}, "config": {}}`)
	f.on("why", func(args map[string]any) (any, error) {
		return map[string]any{"instances": map[string]any{"0": map[string]any{"text": fmt.Sprint(args["program"], args["instance"], ".")}}}, nil
	})
	f.on("history", func(args map[string]any) (any, error) {
		if args["program"] == "nope" {
			return nil, rpc.Errorf(rpc.CodeNotFound, "there is no program 'nope'")
		}
		run := func(id int) any {
			return map[string]any{"run_id": id, "program": args["program"], "instance": 0, "start": float64(id)}
		}
		first := len(args["program"].(string)) // the longer the name, the later
		return map[string]any{"runs": []any{run(first), run(first + 10)}, "totals": map[string]any{"instances": []any{}}}, nil
	})
	for _, c := range []struct{ line, want string }{
		{"why web", "web<nil>."},
		{"why web/1 gone", "web1.||gone<nil>."},
		{"why w* web", "web<nil>.||work<nil>."},
		{"why --all", "web<nil>.||work<nil>."},
		{"why */1", "web1."},
		{"why x*", "procnanny: nothing matches 'x*'"},
		{"why", `procnanny: expected a target such as web, web/2 or "w*", or --all`},
		{"why web --all", "procnanny: cannot use --all beside targets"},
		{"history nope", "procnanny: there is no program 'nope'"},
	} {
		s := f.run(strings.Fields(c.line)...)
		if got := strings.ReplaceAll(strings.TrimSpace(s.out.String()+s.err.String()), "\n", "|"); got != c.want {
			t.Errorf("%s: %s", c.line, got)
		}
	}
	s := f.run("history", "--all")
	if first, last := strings.Index(s.out.String(), "web/0"), strings.LastIndex(s.out.String(), "work/0"); first < 0 || last < strings.LastIndex(s.out.String(), "web/0") || strings.Count(s.out.String(), "\n") != 5 {
		t.Errorf("history --all:\n%s", s.out.String())
	}
	s = f.run("history", "web", "gone", "--totals")
	if out := s.out.String(); !strings.Contains(out, "\nweb ") || !strings.Contains(out, "\ngone ") {
		t.Errorf("history --totals of two:\n%s%s", out, s.err.String())
	}
	s = f.run("why", "web", "gone", "-o", "json")
	if out := s.out.String(); !strings.Contains(out, `"targets": {`) || !strings.Contains(out, `"gone": {`) {
		t.Errorf("why of two as JSON:\n%s", out)
	}
}

// One that is scaled to nothing has left logs as well, and why says what it is.
func TestAProgramWithoutInstances(t *testing.T) {
	f := newFake(t)
	f.reply("status", `{"programs": {"web": {"desired": 0, "instances": {}}}, "config": {"state": "ok"}}`)
	f.reply("history", `{"runs": [{"run_id": 1, "program": "web", "instance": 0}]}`)
	f.reply("why", `{"program": "web", "desired": 0, "instances": {}}`)
	f.on("logs", (&output{data: map[string]string{"": "last words\n"}}).logs)
	if s := f.run("logs", "web"); s.code != 0 || s.out.String() != "last words\n" {
		t.Errorf("%d %q %q", s.code, s.out.String(), s.err.String())
	}
	if s := f.run("why", "web"); s.out.String() != "No instance of web is wanted, and none is there.\n" {
		t.Errorf("%d %q %q", s.code, s.out.String(), s.err.String())
	}
}

// A program that is gone has left logs: its instances are known from its history.
func TestLogsOfWhatIsGone(t *testing.T) {
	f := newFake(t)
	f.reply("status", `{"programs": {}, "config": {}}`)
	f.reply("history", `{"runs": [{"run_id": 1, "program": "web", "instance": 1}, {"run_id": 2, "program": "web", "instance": 1}]}`)
	o := &output{data: map[string]string{"": "its last words\n"}}
	f.on("logs", o.logs)
	if s := f.run("logs", "web"); s.out.String() != "its last words\n" {
		t.Errorf("%s%s", s.out.String(), s.err.String())
	}
}
