package spec_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/spec"
)

func TestHooksSelectTheirEvents(t *testing.T) {
	for _, c := range []struct {
		hook    string
		ended   bool
		code    int
		signal  spec.Signal
		attempt int
		want    bool
	}{
		{`{}`, false, 0, 0, 0, true},
		{`{"code": 3}`, true, 3, 0, 1, true},
		{`{"code": [3, 4]}`, true, 5, 0, 1, false},
		{`{"code": 0}`, false, 0, 0, 1, false}, // an event that tells of no end
		{`{"code": 0}`, true, 0, spec.SIGTERM, 1, false},
		{`{"signal": "SEGV"}`, true, -1, 11, 1, true},
		{`{"signal": "SEGV", "code": 3}`, true, 3, 0, 1, true},
		{`{"signal": "SEGV", "code": 3}`, true, 4, 0, 1, false},
		{`{"attempt": 3}`, true, 1, 0, 2, false},
		{`{"attempt": 3}`, true, 1, 0, 3, true},
	} {
		var h spec.Hook
		if err := json.Unmarshal([]byte(c.hook), &h); err != nil {
			t.Fatal(err)
		}
		if got := h.Selects(c.ended, c.code, c.signal, c.attempt); got != c.want {
			t.Errorf("%s: ended %v, code %d, signal %v, attempt %d: %v", c.hook, c.ended, c.code, c.signal, c.attempt, got)
		}
	}
}

func TestHooksHaveNamesOfTheirOwn(t *testing.T) {
	s := spec.Spec{
		On:       spec.Hooks{"crashed": {{}, {Name: "page", Programs: []string{"w*", "a[b"}}}},
		Programs: map[string]spec.Program{"web": {Policy: spec.Policy{On: spec.Hooks{"crashed": {{Name: "page"}, {}}}}}},
	}
	var ids []string
	for _, h := range s.AllHooks() {
		ids = append(ids, h.ID)
		for program, want := range map[string]bool{"web": true, "other": h.ID == "crashed#0", "a[b": h.ID == "crashed#0" || h.ID == "page"} {
			if h.Concerns(program) != want {
				t.Errorf("%s concerns %q: %v", h.ID, program, !want)
			}
		}
	}
	if want := []string{"crashed#0", "page", "web:crashed#1", "web:page"}; !slices.Equal(ids, want) {
		t.Errorf("found %v, want %v", ids, want)
	}
}

func TestNamesOfHookRuns(t *testing.T) {
	long := spec.RunName(strings.Repeat("ä", 64) + ":crashed#0")
	for name, ok := range map[string]bool{
		spec.RunName("web:crashed#0"): true, long: true, "web": true, ".web": false, ".hook": false, ".hook .": false, ".hook a/b": false,
	} {
		if err := spec.CheckRunName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	if long == spec.RunName(strings.Repeat("ä", 64)+":crashed#1") {
		t.Error("two long names are cut to the same")
	}
}

// A hook of an override names no user: nobody would have looked it up.
func TestUnresolvedUsersAreFound(t *testing.T) {
	p := spec.Defaults()
	q, err := p.Set("on", json.RawMessage(`{"crashed": [{"run": {"command": "x", "user": "root"}}]}`))
	if err != nil || q.Unresolved() != "on.crashed" {
		t.Errorf("found %q: %v", q.Unresolved(), err)
	}
	q, err = p.Set("stop.before", json.RawMessage(`{"run": {"command": "x", "gid": 0}}`))
	if err != nil || q.Unresolved() != "stop.before" {
		t.Errorf("found %q: %v", q.Unresolved(), err)
	}
	if q, err = p.Set("on.crashed", json.RawMessage(`[{"run": {"command": "x"}}]`)); err != nil || q.Unresolved() != "" {
		t.Errorf("found %q: %v", q.Unresolved(), err)
	}
}
