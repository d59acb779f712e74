package main

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	const (
		running = `"0": {"state": "running", "admin_state": "up"}`
		down    = `{"state": "exited", "admin_state": "down", "last_exit": {"code": 0, "cause": "stop"}}`
	)
	for name, c := range map[string]struct {
		args, web string
		code      int
		stderr    string
	}{
		"runs":                       {"", `"desired": 1, "instances": {` + running + `}`, 0, ""},
		"one does not":               {"", `"desired": 2, "instances": {` + running + `, "1": {"state": "backoff", "admin_state": "up"}}`, 4, "web/1 (backoff)"},
		"the other one is asked for": {"web/0", `"desired": 2, "instances": {` + running + `, "1": {"state": "backoff", "admin_state": "up"}}`, 0, ""},
		"not known good yet":         {"web", `"desired": 1, "instances": {"0": {"state": "starting", "admin_state": "up"}}`, 4, "web/0 (starting)"},
		"on its way to a restart":    {"web", `"desired": 1, "instances": {"0": {"state": "stopping", "admin_state": "up"}}`, 4, "web/0 (stopping)"},
		"not there yet":              {"web", `"desired": 2, "instances": {` + running + `}`, 4, "web/1 (new)"},
		"stopped":                    {"", `"desired": 1, "instances": {"0": ` + down + `}`, 0, ""},
		"stopped, by a glob":         {"w*", `"desired": 1, "instances": {"0": ` + down + `}`, 0, ""},
		"stopped, by name":           {"web", `"desired": 1, "instances": {"0": ` + down + `}`, 4, "web/0 (stopped)"},
		"being stopped":              {"web", `"desired": 1, "instances": {"0": {"state": "running", "admin_state": "down"}}`, 4, "web/0 (stopped)"},
		"scaled to nothing":          {"", `"desired": 0, "instances": {}`, 0, ""},
		"scaled to nothing, by name": {"web", `"desired": 0, "instances": {}`, 4, "web (no instance of it shall be)"},
		"one to go":                  {"", `"desired": 1, "instances": {` + running + `, "1": {"state": "stopping", "admin_state": "up"}}`, 0, ""},
		"one to go, by name":         {"web/1", `"desired": 1, "instances": {` + running + `, "1": {"state": "stopping", "admin_state": "up"}}`, 4, "web/1 (on its way out)"},
		"done":                       {"web", `"desired": 1, "instances": {"0": {"state": "exited", "admin_state": "up", "finished": "done", "last_exit": {"code": 0, "cause": "exit"}}}`, 0, ""},
		"done, and not well":         {"web", `"desired": 1, "instances": {"0": {"state": "exited", "admin_state": "up", "finished": "done", "last_exit": {"code": 3, "cause": "crash"}}}`, 4, "web/0 (ended, and not well)"},
		"given up":                   {"web", `"desired": 1, "instances": {"0": {"state": "exited", "admin_state": "up", "finished": "gave up", "last_exit": {"code": 3, "cause": "crash"}}}`, 4, "web/0 (gave up)"},
		"many":                       {"web", `"desired": 9, "instances": {}`, 4, "web/0 (new), web/1 (new), web/2 (new), web/3 (new), web/4 (new) and 4 more"},
	} {
		f := newFake(t)
		f.reply("status", `{"programs": {"web": {`+c.web+`}}, "config": {"state": "ok"}}`)
		for _, format := range []string{"text", "json"} {
			args := append([]string{"status", "-o", format}, strings.Fields(c.args)...)
			plain := f.run(args...)
			s := f.run(append(args, "--check")...)
			want := ""
			if c.stderr != "" {
				want = "procnanny: not running: " + c.stderr + "\n"
			}
			if s.code != c.code || s.err.String() != want {
				t.Errorf("%s: exit %d, %q; want %d, %q", name, s.code, s.err.String(), c.code, want)
			}
			if plain.code != 0 || s.out.String() != plain.out.String() {
				t.Errorf("%s: it prints something else than without --check, or that fails (%d)", name, plain.code)
			}
		}
	}
	f := newFake(t)
	f.reply("status", `{"programs": {}, "config": {"state": "ok"}}`)
	if s := f.run("status", "--check", "nobody"); s.code != 1 {
		t.Errorf("what is not there: exit %d", s.code)
	}
	if s := f.run("status", "--check", "--watch"); s.code != 1 || !strings.Contains(s.err.String(), "cannot use --check beside --watch") {
		t.Errorf("--check --watch: exit %d, %s", s.code, s.err.String())
	}
}
