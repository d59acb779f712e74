package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// call asks a server and decodes its reply as JSON in the order of the wire, or
// returns the refusal.
func call(t *testing.T, s *Server, method string, args map[string]any) (string, *Error) {
	t.Helper()
	request, err := EncodeRequest(method, args)
	if err != nil {
		t.Fatal(err)
	}
	reply := s.Serve(context.Background(), root, request)
	if refused, ok := errors.AsType[*Error](DecodeReply(reply, nil)); ok {
		return "", refused
	}
	return wireJSON(reply), nil
}

type args = map[string]any

// TestCommands: what each request says to the backend and what it is told.
func TestCommands(t *testing.T) {
	all := []struct {
		method string
		args   args
		reply  string // or
		code   Code
		told   string
	}{
		{"restart", args{"program": "web"}, `{"results": {"web": {"0": true, "1": true}}}`, "", "command 1 [web/0 web/1]"},
		{"restart", args{"program": "web", "instance": 1}, `{"results": {"web": {"1": true}}}`, "", "command 1 [web/1]"},
		{"restart", args{"targets": []string{"*"}}, `{"results": {"hello world": {"0": true, "1": true, "2": "it is stopped: start it"}, "web": {"0": true, "1": true}}}`, "", "command 1 [hello world/0 hello world/1 hello world/2 web/0 web/1]"},
		{"restart", args{"targets": []string{"*/1"}}, `{"results": {"hello world": {"1": true}, "web": {"1": true}}}`, "", "command 1 [hello world/1 web/1]"},
		{"restart", args{"targets": []string{"web/1", "web"}}, `{"results": {"web": {"0": true, "1": true}}}`, "", "command 1 [web/0 web/1]"},
		{"restart", args{"program": "w*"}, "", CodeNotFound, ""},
		{"restart", args{"program": "we"}, "", CodeNotFound, ""},
		{"restart", args{"program": ""}, "", CodeNotFound, ""},
		{"restart", args{"program": "web", "instance": 9}, "", CodeNotFound, ""},
		{"restart", args{"program": "web", "instance": -1}, "", CodeBadArgument, ""},
		{"restart", args{"program": "web", "instance": "0"}, "", CodeBadArgument, ""},
		{"restart", args{"program": 7}, "", CodeBadArgument, ""},
		{"restart", args{"targets": []string{}}, "", CodeBadArgument, ""},
		{"restart", args{"targets": []string{"web/"}}, "", CodeBadArgument, ""},
		{"restart", args{"targets": []string{"[/0"}}, "", CodeBadArgument, ""},
		{"restart", args{"targets": []string{"nope*"}}, "", CodeNotFound, ""},
		{"restart", args{"targets": []string{"web"}, "program": "web"}, "", CodeBadArgument, ""},
		{"restart", args{}, "", CodeMissingArgument, ""},
		{"start", args{"program": "web"}, `{"results": {"web": {"0": true, "1": true}}}`, "", "command 2 [web/0 web/1]"},
		{"start", args{"program": "hello world"}, `{"results": {"hello world": {"0": true, "1": true, "2": true}}}`, "", `override hello world admin "up"; command 2 [hello world/0 hello world/1 hello world/2]`},
		{"start", args{"program": "hello world", "instance": 2}, `{"results": {"hello world": {"2": true}}}`, "", `override hello world admin "up"; command 2 [hello world/2]`},
		{"stop", args{"program": "web"}, `{"results": {"web": {"0": true, "1": true}}}`, "", `override web admin "down"`},
		{"stop", args{"targets": []string{"*/0"}}, `{"results": {"hello world": {"0": true}, "web": {"0": true}}}`, "", `override hello world admin "down"; override web admin "down"`},
		{"signal", args{"program": "web", "signal": "SIGHUP"}, `{"results": {"web": {"0": true, "1": true}}}`, "", "command 3 [web/0 web/1]"},
		{"signal", args{"program": "web", "signal": 10}, `{"results": {"web": {"0": true, "1": true}}}`, "", "command 3 [web/0 web/1]"},
		{"signal", args{"program": "web", "signal": "NOPE"}, "", CodeBadArgument, ""},
		{"signal", args{"program": "web", "signal": 0}, "", CodeBadArgument, ""},
		{"signal", args{"program": "web"}, "", CodeMissingArgument, ""},
		{"scale", args{"program": "web", "instances": -1}, "", CodeBadArgument, ""},
		{"scale", args{"program": "web", "instances": 1_000_000_000}, "", CodeBadArgument, ""},
		{"scale", args{"program": "web", "instances": 1.5}, "", CodeBadArgument, ""},
		{"scale", args{"program": "nope", "instances": 1}, "", CodeNotFound, ""},
		{"set", args{"program": "web", "field": "nise", "value": 1}, "", CodeBadArgument, ""},
		{"set", args{"program": "web", "field": "admin", "value": "down"}, "", CodeBadArgument, ""},
		{"set", args{"program": "web", "field": "identity", "value": args{"uid": 0}}, "", CodeBadArgument, ""},
		{"set", args{"program": "web", "field": "limits..x", "value": 1}, "", CodeBadArgument, ""},
		{"set", args{"program": "web", "field": "nice"}, "", CodeMissingArgument, ""},
		{"set", args{"program": "web", "value": 1}, "", CodeMissingArgument, ""},
		{"set", args{"program": "web", "fields": args{"nice": 7, "limits.nofile": 1024}}, `{"program": "web", "set": [{"field": "limits.nofile", "was": null, "override": {"program": "web", "field": "limits.nofile", "value": 1024, "replaced": null, "by": {"how": "rpc", "uid": 0, "gid": 0, "pid": 42}, "at": 1767323045, "until": null, "reason": null}}, {"field": "nice", "was": null, "override": {"program": "web", "field": "nice", "value": 7, "replaced": null, "by": {"how": "rpc", "uid": 0, "gid": 0, "pid": 42}, "at": 1767323045, "until": null, "reason": null}}]}`, "", "override web limits.nofile 1024; override web nice 7"},
		{"set", args{"program": "web", "fields": args{"nice": 7, "nise": 1}}, "", CodeBadArgument, ""},
		{"set", args{"program": "web", "fields": args{"limits": args{}, "limits.nofile": 7}}, "", CodeBadArgument, ""},
		{"set", args{"program": "web", "fields": args{}}, "", CodeBadArgument, ""},
		{"set", args{"program": "web", "fields": args{"nice": 1}, "field": "nice", "value": 2}, "", CodeBadArgument, ""},
		{"set", args{"program": "web", "field": "dir", "value": "\xff"}, "", CodeUndecodable, ""},
		{"create", args{"program": "x", "command": "true", "env": args{"A": "b"}}, `{"created": "x", "generation": 7}`, "", `override x program {"command":"true","env":{"A":"b"}}`},
		{"create", args{"program": "x", "command": "true", "reason": nil}, `{"created": "x", "generation": 7}`, "", `override x program {"command":"true"}`},
		{"create", args{"program": "x", "command": "true", "instanses": 2}, "", CodeBadArgument, ""},
		{"create", args{"program": "x", "command": "true", "identity": args{"uid": 0}}, "", CodeBadArgument, ""},
		{"create", args{"program": "a/b", "command": "true"}, "", CodeBadArgument, ""},
		{"create", args{"program": "web", "command": "true"}, "", CodeConflict, ""},
		{"delete", args{"program": "web"}, "", CodeConflict, ""},
		{"delete", args{"program": "nope"}, "", CodeNotFound, ""},
		{"reset", args{"all": true}, `{"reset": [` + exampleScale + `, ` + exampleStop + `]}`, "", `reset "" ""`},
		{"reset", args{"program": "hello world"}, `{"reset": [` + exampleStop + `]}`, "", `reset "hello world" ""`},
		{"reset", args{"program": "web", "field": "nice"}, `{"reset": []}`, "", `reset "web" "nice"`},
		{"reset", args{"program": "web", "field": "nise"}, "", CodeBadArgument, ""},
		{"reset", args{"program": "nope"}, "", CodeNotFound, ""},
		{"reset", args{}, "", CodeMissingArgument, ""},
		{"reset", args{"program": "web", "field": "program"}, "", CodeBadArgument, ""},
		{"rollback", args{"generation": 5}, "", CodeNotFound, ""},
		{"rollback", args{}, "", CodeMissingArgument, ""},
		{"apply", args{"force": true, "allow_empty": true}, `{"generation": 8, "digest": "89abcdef01234567", "changed": true, "changes": [{"program": "web", "instance": 0, "what": "replace", "reason": "args changed", "keys": ["args"], "later": false}, {"program": "web", "instance": 1, "what": "replace", "reason": "args changed; in its turn", "keys": ["args"], "later": true}]}`, "", `apply "" true true`},
		{"plan", args{"files": args{"../x": ""}}, "", CodeBadArgument, ""},
		{"plan", args{"files": args{"/x": ""}}, "", CodeBadArgument, ""},
		{"plan", args{"files": args{"x": 1}}, "", CodeBadArgument, ""},
		{"plan", args{"files": args{"x": ""}, "single": "y"}, "", CodeBadArgument, ""},
		{"plan", args{"single": "y"}, "", CodeMissingArgument, ""},
		{"diff", args{"generation": 3}, "", CodeNotFound, ""},
		{"overrides", args{"program": "nope"}, "", CodeNotFound, ""},
		{"export", args{"program": "nope"}, "", CodeNotFound, ""},
		{"history", args{"program": "nope"}, "", CodeNotFound, ""},
		{"history", args{"program": "hello world"}, `{"runs": []}`, "", ""},
		{"logs", args{"program": "web"}, "", CodeMissingArgument, ""},
		{"logs", args{"program": "web", "instance": 0, "offset": 3, "limit": 2}, `{"data": " /", "offset": 3, "next": 5, "end": 23, "marks": [[0, 1767323044, 5]]}`, "", `logs web/0 "" limit 2 tail 0`},
		{"logs", args{"program": "web", "instance": 0, "offset": 3, "tail": 2}, "", CodeBadArgument, ""},
		{"logs", args{"program": "web", "instance": 0, "stream": "x"}, "", CodeBadArgument, ""},
		{"logs", args{"program": "web", "instance": 0, "since": 7.5, "until": 9, "run": 5}, `{"data": "GET /\nGET /favicon.ico\n", "offset": 0, "next": 23, "end": 23, "marks": [[0, 1767323044, 5]]}`, "", `logs web/0 "" limit 262144 tail 0 from 7.5 to 9 run 5`},
		{"logs", args{"program": "../web", "instance": 0}, "", CodeNotFound, ""},
		{"logs", args{"program": "nope", "instance": 0}, "", CodeNotFound, `logs nope/0 "" limit 262144 tail 0`},
		{"logs", args{"program": "web", "instance": 7}, "", CodeNotFound, `logs web/7 "" limit 262144 tail 0`},
		{"why", args{"program": "nope"}, "", CodeNotFound, ""},
		{"why", args{"program": "web", "instance": 2}, "", CodeNotFound, ""},
		{"status", args{"program": "web*"}, "", CodeNotFound, ""},
		{"states", args{"format": "png"}, "", CodeBadArgument, ""},
	}
	for _, c := range all {
		name := fmt.Sprintf("%s %v", c.method, c.args)
		f := newFake()
		got, refused := call(t, exampleServer(f), c.method, c.args)
		switch {
		case refused != nil && refused.Code != c.code:
			t.Errorf("%s: refused with %s: %s", name, refused.Code, refused.Message)
		case refused == nil && (c.code != "" || got != c.reply):
			t.Errorf("%s:\n got %s\nwant %s%s", name, got, c.reply, c.code)
		}
		if told := strings.Join(f.told, "; "); told != c.told {
			t.Errorf("%s: the backend was told %q, want %q", name, told, c.told)
		}
	}
}

const (
	exampleScale = `{"program": "web", "field": "instances", "value": 2, "replaced": 1, "by": {"how": "rpc", "uid": 1000, "gid": 1000, "pid": 4711}, "at": 1767315845, "until": 1767326645, "reason": "Friday"}`
	exampleStop  = `{"program": "hello world", "instance": 2, "field": "admin", "value": "down", "replaced": null, "by": {"how": "rpc", "uid": 1000, "gid": 1000, "pid": 4711}, "at": 1767319445, "until": "boot", "reason": null}`
)

func TestProvenance(t *testing.T) {
	f := newFake()
	if _, refused := call(t, exampleServer(f), "stop", args{"program": "web", "until": "10m", "reason": " too loud "}); refused != nil {
		t.Fatal(refused)
	}
	want := spec.AdminOverride("web", nil, true)
	want.By, want.At, want.Until, want.Reason = spec.Requester{How: "rpc", PID: 42}, exampleNow, exampleNow.Add(10*time.Minute), "too loud"
	if got := f.overrides[len(f.overrides)-1]; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, refused := call(t, exampleServer(f), "restart", args{"program": "web"}); refused != nil || f.commands[0].By != want.By {
		t.Errorf("a command by %v, %v", f.commands, refused)
	}
}

func TestDeleteNamesWhatDefinesIt(t *testing.T) {
	f := newFake()
	f.place = "web.cue:3"
	if _, refused := call(t, exampleServer(f), "delete", args{"program": "web"}); refused == nil || refused.Message != "cannot delete web: the configuration defines it, in web.cue:3" {
		t.Errorf("got %v", refused)
	}
}

// A program on its way out is in nobody's way.
func TestANameThatIsBecomingFree(t *testing.T) {
	f := newFake()
	name := ""
	edit(f, 0, func(p *ProgramView, _ *InstanceView) { p.Defined, name = false, p.Name })
	for _, method := range []string{"delete", "create"} {
		if _, refused := call(t, exampleServer(f), method, args{"program": name, "command": "true"}); refused != nil {
			t.Errorf("%s %s: %v", method, name, refused)
		}
	}
}

func TestResetSparesCreatedPrograms(t *testing.T) {
	f := newFake()
	s := exampleServer(f)
	for _, step := range []struct {
		method string
		args   args
	}{
		{"create", args{"program": "x", "command": "true"}},
		{"scale", args{"program": "x", "instances": 3}},
		{"reset", args{"program": "x"}},
		{"reset", args{"all": true}},
	} {
		if _, refused := call(t, s, step.method, step.args); refused != nil {
			t.Fatalf("%s: %v", step.method, refused)
		}
	}
	if len(f.overrides) != 1 || f.overrides[0].Field != spec.FieldProgram {
		t.Errorf("left are %v, want the created program alone", f.overrides)
	}
	if _, refused := call(t, s, "delete", args{"program": "x"}); refused != nil || len(f.overrides) != 0 {
		t.Errorf("delete: %v, left %v", refused, f.overrides)
	}
}

// TestRefusals: what the backend says becomes a code, and problems are listed.
func TestRefusals(t *testing.T) {
	problems := spec.Problems{{File: "policy.cue", Line: 2, Column: 7, Path: "programs.web.instances", Message: "invalid value 99 (out of bound <=32)"}}
	for name, c := range map[string]struct {
		err  error
		code Code
	}{
		"the files' constraints": {problems, CodeRefused},
		"a code of its own":      {Errorf(CodeStalePlan, "the plan is stale"), CodeStalePlan},
		"wrapped":                {fmt.Errorf("cannot scale: %w", Errorf(CodeConflict, "x")), CodeConflict},
		"its disk":               {errors.New("no space left on device"), CodeInternal},
		"its time":               {context.DeadlineExceeded, CodeTimeout},
		"the end":                {context.Canceled, CodeUnavailable},
	} {
		f := newFake()
		f.refuse = c.err
		for _, r := range []struct {
			method string
			args   args
		}{{"scale", args{"program": "web", "instances": 99}}, {"apply", nil}, {"restart", args{"program": "web"}}, {"upgrade", nil}, {"shutdown", nil}} {
			_, refused := call(t, exampleServer(f), r.method, r.args)
			if refused == nil || refused.Code != c.code {
				t.Errorf("%s: %s got %v, want %s", name, r.method, refused, c.code)
				continue
			}
			if request, _ := refused.Request.(map[string]any); request["request"] != r.method {
				t.Errorf("%s: the echo is %v", name, refused.Request)
			}
			if c.code == CodeRefused && (len(refused.Problems) != 1 || refused.Problems[0].Place() != "policy.cue:2:7") {
				t.Errorf("%s: problems %v", name, refused.Problems)
			}
		}
	}
}

func TestAPanicIsOneClientsError(t *testing.T) {
	s := NewServer(Options{Backend: nil})
	if _, refused := call(t, s, "version", nil); refused == nil || refused.Code != CodeInternal {
		t.Errorf("got %v", refused)
	}
}

func TestWhatADaemonLacks(t *testing.T) {
	s := NewServer(Options{Backend: newFake()})
	for method, a := range map[string]args{"schema": nil, "states": nil, "export": nil, "logs": {"program": "web", "instance": 0}} {
		if _, refused := call(t, s, method, a); refused == nil || refused.Code != CodeUnavailable {
			t.Errorf("%s: %v", method, refused)
		}
	}
}
