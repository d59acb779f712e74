package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/rpc"
)

type m = map[string]any

// requests are command lines and what the daemon is asked.
var requests = []struct {
	line   []string
	method string
	args   m
}{
	{[]string{"status", "--fresh"}, "status", m{"fresh": true}},
	{[]string{"start", "web", "w*/0"}, "start", m{"targets": []string{"web", "w*/0"}}},
	{[]string{"stop", "--all", "--until", "boot", "--reason", "fire"}, "stop", m{"targets": []string{"*"}, "until": "boot", "reason": "fire"}},
	{[]string{"restart", "hello world/2", "--wait"}, "restart", m{"targets": []string{"hello world/2"}, "wait": true, "timeout": 60.0}},
	{[]string{"restart", "web", "--wait", "--timeout", "5s"}, "restart", m{"targets": []string{"web"}, "wait": true, "timeout": 5.0}},
	{[]string{"signal", "web", "sigusr1"}, "signal", m{"targets": []string{"web"}, "signal": "USR1"}},
	{[]string{"signal", "--all", "1"}, "signal", m{"targets": []string{"*"}, "signal": "HUP"}},
	{[]string{"scale", "web", "0", "--until=2h"}, "scale", m{"program": "web", "instances": 0, "until": "2h"}},
	{[]string{"set", "web", "nice=5"}, "set", m{"program": "web", "field": "nice", "value": int64(5)}},
	{[]string{"set", "web", "nice=5", "umask=027"}, "set", m{"program": "web", "fields": m{"nice": int64(5), "umask": "027"}}},
	{[]string{"set", "web", "env.PORT", "80"}, "set", m{"program": "web", "field": "env.PORT", "value": "80"}},
	{[]string{"set", "web", `args=["-v"]`}, "set", m{"program": "web", "field": "args", "value": []any{"-v"}}},
	{[]string{"set", "web", "nice=null"}, "set", m{"program": "web", "field": "nice", "value": nil}},
	{[]string{"create", "nap", "instances=2", "--", "sleep", "60", "-x"}, "create", m{"program": "nap", "command": "sleep", "args": []string{"60", "-x"}, "instances": int64(2)}},
	{[]string{"create", "nap", "env.TZ=1", "limits.nofile.soft=5", "limits.core=0", "--", "true"}, "create", m{
		"program": "nap", "command": "true", "env": m{"TZ": "1"}, "limits": m{"nofile": m{"soft": int64(5)}, "core": int64(0)},
	}},
	{[]string{"create", "nap", "--", "true"}, "create", m{"program": "nap", "command": "true"}},
	{[]string{"delete", "nap", "--wait"}, "delete", m{"program": "nap", "wait": true, "timeout": 60.0}},
	{[]string{"overrides", "web"}, "overrides", m{"program": "web"}},
	{[]string{"reset", "web"}, "reset", m{"program": "web"}},
	{[]string{"reset", "web", "admin"}, "reset", m{"program": "web", "field": "admin"}},
	{[]string{"reset", "--all"}, "reset", m{"all": true}},
	{[]string{"export", "web"}, "export", m{"program": "web"}},
	{[]string{"apply", "--force", "--allow-empty"}, "apply", m{"force": true, "allow_empty": true}},
	{[]string{"rollback", "7", "--wait"}, "rollback", m{"generation": 7, "wait": true, "timeout": 60.0}},
	{[]string{"diff", "7"}, "diff", m{"generation": 7}},
	{[]string{"history", "web/1", "--since", "1h", "--limit", "5"}, "history", m{"program": "web", "instance": 1, "since": 1700082800.0, "limit": 5}},
	{[]string{"why", "web"}, "why", m{"program": "web"}},
	{[]string{"events", "state.", "--since", "3"}, "events", m{"since": uint64(3), "limit": 1000, "topic": "state."}},
	{[]string{"call", "dance"}, "dance", m{}},
	{[]string{"call", "restart", "program=web", "instance=0", "wait=true"}, "restart", m{"program": "web", "instance": int64(0), "wait": true}},
	{[]string{"call", "restart", `{"program": "5", "x": [1, null]}`}, "restart", m{"program": "5", "x": []any{int64(1), nil}}},
}

func TestRequests(t *testing.T) {
	for _, r := range requests {
		f := newFake(t)
		f.run(r.line...)
		got := f.last()
		if got.args == nil {
			got.args = m{}
		}
		if got.method != r.method || !reflect.DeepEqual(got.args, r.args) {
			t.Errorf("%q:\n got %s %#v\nwant %s %#v", r.line, got.method, got.args, r.method, r.args)
		}
	}
}

// Each argument that the client sends is one that the method has, and each
// method is asked for by some command or by call.
func TestRequestsFitTheMethodTable(t *testing.T) {
	for _, r := range requests {
		method, ok := rpc.LookupMethod(r.method)
		if !ok {
			t.Errorf("%q asks for %s, which is no method", r.line, r.method)
			continue
		}
		for key := range r.args {
			known := method.AnyKey != "" || r.line[0] == "call"
			for _, arg := range method.Args {
				known = known || arg.Name == key
			}
			if !known {
				t.Errorf("%q: %s has no argument %s", r.line, r.method, key)
			}
		}
	}
}

func TestPlanOfFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.cue"), []byte("programs: {}"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFake(t)
	f.file("plan")
	if s := f.run("plan", dir); s.code != 2 {
		t.Error(s.code, s.err.String())
	}
	want := m{"files": m{"a.cue": []byte("programs: {}")}, "root": dir}
	if got := f.last().args; !reflect.DeepEqual(got, want) {
		t.Errorf("%#v", got)
	}
	f.run("plan", filepath.Join(dir, "a.cue"))
	if got := f.last().args["single"]; got != "a.cue" {
		t.Errorf("single is %v", got)
	}
	if s := f.run("plan", filepath.Join(dir, "missing")); s.code != 1 || !strings.Contains(s.err.String(), "missing") {
		t.Errorf("%d %s", s.code, s.err.String())
	}
}

func TestAStoredPlanIsApplied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plan.json")
	f := newFake(t)
	f.file("plan")
	if s := f.run("plan", "--out", path); s.code != 2 {
		t.Fatal(s.code, s.err.String())
	}
	f.refuse("apply", rpc.Errorf(rpc.CodeStalePlan, "the plan is stale"))
	s := f.run("apply", path)
	if s.code != 1 || s.err.String() != "procnanny: the plan is stale\n" || f.last().args["digest"] != "0f3b" {
		t.Errorf("%d %q %v", s.code, s.err.String(), f.last())
	}
}

// Several keys are one change: one that is refused leaves the others alone, and
// nothing is said to be set.
func TestSeveralKeysAreSetOrNone(t *testing.T) {
	f := newFake(t)
	f.on("set", func(args map[string]any) (any, error) {
		if fields, ok := args["fields"].(m); ok && fields["nice"] != nil {
			return nil, rpc.Errorf(rpc.CodeRefused, "nice is not yours")
		}
		return m{"program": "web"}, nil
	})
	asked := func() (n int) {
		for _, c := range f.asked {
			if c.method == "set" {
				n++
			}
		}
		return n
	}
	s := f.run("set", "web", "umask=022", "nice=5", "dir=/x")
	if s.code != 1 || s.out.String() != "" || s.err.String() != "procnanny: nice is not yours\n" || asked() != 1 {
		t.Errorf("%d %q %q, asked %d times", s.code, s.out.String(), s.err.String(), asked())
	}
	s = f.run("set", "web", "umask=022", "dir=/x")
	if s.code != 0 || s.out.String() != "web: dir is set\nweb: umask is set\n" || s.err.String() != "" || asked() != 2 {
		t.Errorf("%d %q %q, asked %d times", s.code, s.out.String(), s.err.String(), asked())
	}
}

func TestNobodyAnswers(t *testing.T) {
	s := &session{}
	a := newFake(t).client(s, 0)
	a.getenv = func(k string) string { return map[string]string{"PROCNANNY_RUN": "/nonexistent"}[k] }
	begin := time.Now()
	code := run(t.Context(), a, []string{"status"})
	want := "procnanny: cannot reach procnannyd at ipc:///nonexistent/rpc.sock: there is no such socket\nstart one with: procnannyd --config PATH (or name another with --run or --connect)\n"
	if code != 3 || s.err.String() != want {
		t.Errorf("%d %q", code, s.err.String())
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("it took %v to say so", d)
	}
}
