package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// An argument of events means what a person would: what happened to a program, or
// whatever topic begins so.
func TestWhichEvents(t *testing.T) {
	const kept = `{"events": [
		{"event": "e1", "program": "web", "instance": 0, "topic": "state.web.0", "seq": 1, "time": 0},
		{"event": "e2", "program": "web", "instance": 1, "topic": "state.web.1", "seq": 2, "time": 0},
		{"event": "e3", "program": "webby", "instance": 0, "topic": "state.webby.0", "seq": 3, "time": 0},
		{"event": "e4", "program": "web", "topic": "held.web", "seq": 4, "time": 0},
		{"event": "e5", "targets": ["api/0", "web/1"], "topic": "command", "seq": 5, "time": 0},
		{"event": "e6", "program": "a.b", "instance": 0, "topic": "state.a%2Eb.0", "seq": 6, "time": 0},
		{"event": "e7", "program": "st", "instance": 0, "topic": "flapping.st", "seq": 7, "time": 0},
		{"event": "e8", "topic": "config", "seq": 8, "time": 0},
		{"event": "e9", "program": "config", "topic": "held.config", "seq": 9, "time": 0}
	], "next": 9, "more": false}`
	f := newFake(t)
	f.on("events", func(args map[string]any) (any, error) {
		var reply map[string]any
		if err := json.Unmarshal([]byte(kept), &reply); err != nil {
			return nil, err
		}
		topic, _ := args["topic"].(string)
		var list []any
		for _, ev := range reply["events"].([]any) {
			if m := ev.(map[string]any); strings.HasPrefix(m["topic"].(string), topic) {
				list = append(list, ev)
			}
		}
		reply["events"] = list
		return reply, nil
	})
	f.reply("status", `{"programs": {"quiet": {"instances": {}}}, "config": {"state": "ok"}}`)
	for _, c := range []struct{ args, want, says string }{
		{"", "123456789", ""},
		{"web", "1245", ""},
		{"web/1", "25", ""},
		{"web*", "12345", ""},
		{"*/1", "25", ""},
		{"a.b", "6", ""},
		{"state.web", "123", ""},
		{"state.web.1", "2", ""},
		{"sta", "1236", ""},
		{"st", "12367", ""}, // a beginning, and a program
		{"config", "8", ""},
		{"[c]onfig", "9", ""},
		{"web/0 config", "18", ""},
		{"drain", "", ""},
		{"quiet", "", ""},
		{"wbe", "", "there is no program 'wbe', and no event of one; a topic begins with one of command, config, "},
		{"quiet wbe/2", "", "there is no instance 'wbe/2', and no event of one"},
		{"state.web.*", "", "the topic 'state.web.*' can match nothing: "},
		{"web/x", "", "the target 'web/x' must end with an instance"},
	} {
		s := f.run(append([]string{"events", "--since", "0"}, strings.Fields(c.args)...)...)
		got := ""
		for _, name := range regexp.MustCompile(` e[0-9]`).FindAllString(s.out.String(), -1) {
			got += name[2:]
		}
		if got != c.want || (s.code != 0) != (c.says != "") || !strings.Contains(s.err.String(), c.says) {
			t.Errorf("events %s: %q, want %q; exit %d: %s", c.args, got, c.want, s.code, s.err.String())
		}
	}
}
