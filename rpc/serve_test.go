package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// TestEnvIsNeverShown asks every method, with secrets in files, overrides,
// created programs and generations, and looks for them in all replies.
func TestEnvIsNeverShown(t *testing.T) {
	const secret = "hush-hush"
	f := newFake()
	web := f.files.Programs["web"]
	web.Env = map[string]string{"TOKEN": secret}
	f.files.Programs["web"] = web
	s := exampleServer(f)
	for _, step := range []struct {
		method string
		args   args
	}{
		{"set", args{"program": "web", "field": "env.OTHER", "value": secret}},
		{"set", args{"program": "hello world", "field": "env", "value": args{"X": secret}}},
		{"create", args{"program": "made", "command": "true", "env": args{"Y": secret}}},
		{"scale", args{"program": "made", "instances": 2}},
	} {
		if got, refused := call(t, s, step.method, step.args); refused != nil || strings.Contains(got, secret) {
			t.Fatalf("%s: %s %v", step.method, got, refused)
		}
	}
	for _, m := range Methods() {
		if m.Name == "export" {
			continue // for committing, and for administrators only
		}
		if reply := s.Serve(context.Background(), root, exampleBytes(t, m)); bytes.Contains(reply, []byte(secret)) {
			t.Errorf("%s shows it: %s", m.Name, wireJSON(reply))
		}
	}
	for method, a := range map[string]args{"status": nil, "overrides": nil, "diff": {"generation": 6}, "reset": {"all": true}, "why": {"program": "hello world"}} {
		got, refused := call(t, s, method, a)
		if refused != nil || strings.Contains(got, secret) {
			t.Errorf("%s: %s %v", method, got, refused)
		}
		if (method == "diff" || method == "reset") && !strings.Contains(got, hidden) {
			t.Errorf("%s does not show that there is something: %s", method, got)
		}
	}
}

func TestRedact(t *testing.T) {
	for _, c := range []struct{ field, value, want string }{
		{"nice", `5`, `5`},
		{"env.A", `"x"`, `"***"`},
		{"env", `{"A":"x","B":"y"}`, `{"A":"***","B":"***"}`},
		{"env", `"x"`, `"***"`},
		{"env", `null`, `null`},
		{"env_files", `["/etc/x"]`, `["/etc/x"]`},
		{"program", `{"command":"c","env":{"A":"x"},"identity":{"uid":1}}`, `{"command":"c","env":{"A":"***"}}`},
		{"program", `7`, ``},
	} {
		if got := string(Redact(c.field, json.RawMessage(c.value))); got != c.want {
			t.Errorf("%s %s is shown as %s, want %s", c.field, c.value, got, c.want)
		}
	}
}

func TestArguments(t *testing.T) {
	type try struct {
		v    any
		want any // nil: refused
	}
	for kind, tries := range map[Type][]try{
		TypeString:   {{"x", "x"}, {1, nil}, {nil, nil}},
		TypeInt:      {{5, 5}, {uint64(1) << 63, nil}, {1.0, 1}, {1.5, nil}, {"5", nil}, {true, nil}, {-1, nil}, {101, nil}},
		TypeBool:     {{true, true}, {1, nil}, {"true", nil}},
		TypeDuration: {{"10s", 10 * time.Second}, {2, 2 * time.Second}, {0.5, 500 * time.Millisecond}, {"-1s", nil}, {-1, nil}, {"x", nil}, {1e300, nil}},
		TypeUntil:    {{"boot", "boot"}, {"1h", time.Hour}, {"tomorrow", nil}, {"0s", nil}, {0, nil}},
		TypeTime:     {{1767323045, exampleNow}, {-1, nil}, {1e12, nil}, {"now", nil}},
		TypeSignal:   {{"HUP", "HUP"}, {1, "1"}, {1.5, nil}},
		TypeStrings:  {{[]string{"a"}, []string{"a"}}, {[]any{"a", 1}, nil}, {"a", nil}},
		TypeMap:      {{map[string]any{}, map[any]any{}}, {[]any{}, nil}},
	} {
		m := &Method{Name: "x", Args: []Arg{{Name: "a", Type: kind, Max: 100, Required: true}}}
		for _, c := range tries {
			msg, err := EncodeRequest("x", args{"a": c.v})
			if err != nil {
				t.Fatal(err)
			}
			request, err := decodeRequest(msg)
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.checkArgs(request, false)
			if c.want == nil {
				if err == nil {
					t.Errorf("%v is %s: %v", c.v, kind, got["a"])
				}
				continue
			}
			if tm, ok := c.want.(time.Time); ok && err == nil && tm.Equal(got.Time("a")) {
				continue
			}
			if err != nil || fmt.Sprint(got["a"]) != fmt.Sprint(c.want) {
				t.Errorf("%v as %s is %v, %v; want %v", c.v, kind, got["a"], err, c.want)
			}
		}
	}
}

// TestMisspeltArguments: what nearly is an argument of a change is no argument
// that may be ignored.
func TestMisspeltArguments(t *testing.T) {
	for _, c := range []struct {
		method, key string
		want        string // in the error; "": it is ignored
	}{
		{"stop", "intance", "did you mean 'instance'?"},
		{"stop", "Instance", "did you mean 'instance'?"},
		{"scale", "instance", "did you mean 'instances'?"},
		{"shutdown", "id", ""},
		{"stop", "correlation", ""},
		{"status", "programs", ""}, // it changes nothing
	} {
		m, _ := LookupMethod(c.method)
		request := map[any]any{"request": c.method, "program": "web", "instances": 2, c.key: 1}
		if c.method != "scale" {
			delete(request, "instances")
		}
		_, err := m.checkArgs(request, true)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %s: %v, want %q", c.method, c.key, err, c.want)
		}
	}
}

// TestEventsPage: a filtered page goes on after the last event that was looked
// at, and a page ends before it gets too long.
func TestEventsPage(t *testing.T) {
	f := newFake()
	f.events = nil
	for seq := uint64(1); seq <= 10; seq++ {
		topic := []string{"state.a.0", "state.b.0"}[seq%2]
		body := mustEncode(t, &Event{Seq: seq, Topic: topic, Fields: Map{{"event", strings.Repeat("x", 300_000)}}})
		f.events = append(f.events, Event{Seq: seq, Topic: topic, Body: body})
	}
	s := exampleServer(f)
	var seen []int64
	for since, page := int64(0), 0; ; page++ {
		request, _ := EncodeRequest("events", args{"since": since, "topic": "state.a", "limit": 100})
		msg := s.Serve(context.Background(), nobody, request)
		var reply struct {
			Events []struct {
				Seq   int64  `msgpack:"seq"`
				Topic string `msgpack:"topic"`
			} `msgpack:"events"`
			Next int64 `msgpack:"next"`
			More bool  `msgpack:"more"`
		}
		if err := DecodeReply(msg, &reply); err != nil {
			t.Fatal(err)
		}
		if len(msg) > pageBytes+400_000 || page > 10 {
			t.Fatalf("page %d has %d bytes", page, len(msg))
		}
		for _, e := range reply.Events {
			seen = append(seen, e.Seq)
		}
		if since = reply.Next; !reply.More {
			break
		}
	}
	if fmt.Sprint(seen) != "[2 4 6 8 10]" {
		t.Errorf("saw %v", seen)
	}
}

// TestEventsOfARareTopic: a page with a topic is filled, as far as a bounded look
// goes, and has no more than was asked for.
func TestEventsOfARareTopic(t *testing.T) {
	f := newFake()
	f.events = nil
	const last = 25_000
	for seq := uint64(1); seq <= last; seq++ {
		topic := "state.a.0"
		if seq%2500 == 0 {
			topic = "config"
		}
		f.events = append(f.events, Event{Seq: seq, Topic: topic, Fields: Map{{"event", "x"}}})
	}
	s := exampleServer(f)
	for _, c := range []struct {
		since, limit int
		want         string
	}{
		{0, 2, "2 of them, next 5000, more true"},
		{5000, 1000, "4 of them, next 15000, more true"}, // as far as one request looks
		{15000, 1000, "4 of them, next 25000, more true"},
		{24000, 1, "1 of them, next 25000, more true"},
		{last, 1, "0 of them, next 25000, more false"},
	} {
		request, _ := EncodeRequest("events", args{"since": c.since, "topic": "config", "limit": c.limit})
		var reply struct {
			Events []any `msgpack:"events"`
			Next   int   `msgpack:"next"`
			More   bool  `msgpack:"more"`
		}
		if err := DecodeReply(s.Serve(context.Background(), nobody, request), &reply); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d of them, next %d, more %v", len(reply.Events), reply.Next, reply.More); got != c.want {
			t.Errorf("since %d, %d at most: %s; want %s", c.since, c.limit, got, c.want)
		}
	}
}

// TestEventsAreTheMapsThatWerePublished, bytes and all.
func TestEventsAreTheMapsThatWerePublished(t *testing.T) {
	f := newFake()
	want := mustEncode(t, &f.events[0])
	request, _ := EncodeRequest("events", args{"limit": 1})
	if got := exampleServer(f).Serve(context.Background(), nobody, request); !bytes.Contains(got, want) {
		t.Errorf("got %q, want %q in it", got, want)
	}
}

func TestStatusPages(t *testing.T) {
	v := thousand()
	s := exampleServer(&fake{view: v})
	var names []string
	after := any(nil)
	for range 20 {
		request, _ := EncodeRequest("status", args{"limit": 300, "after": after})
		var reply struct {
			Programs map[string]any `msgpack:"programs"`
			Next     string         `msgpack:"next"`
		}
		if err := DecodeReply(s.Serve(context.Background(), nobody, request), &reply); err != nil {
			t.Fatal(err)
		}
		names = append(names, sortedKeys(reply.Programs)...)
		if after = reply.Next; reply.Next == "" {
			break
		}
	}
	if len(names) != 1000 || names[0] != "web-0000" || names[999] != "web-0999" {
		t.Errorf("%d programs in all pages", len(names))
	}
}

// TestStatusIsOnlyAsOldAsItMayBe: the same picture keeps its bytes for a
// second, then only uptimes change; what was handed out before stays as it was.
func TestStatusIsOnlyAsOldAsItMayBe(t *testing.T) {
	v := exampleView()
	cache := new(StatusCache)
	first, err := cache.Whole(v, exampleNow)
	if err != nil {
		t.Fatal(err)
	}
	old := bytes.Clone(first)
	again, _ := cache.Whole(v, exampleNow.Add(999*time.Millisecond))
	if &again[0] != &first[0] {
		t.Error("it was encoded again within the second")
	}
	later, _ := cache.Whole(v, exampleNow.Add(2*time.Second))
	if !bytes.Equal(first, old) {
		t.Error("the bytes that were handed out have changed")
	}
	if a, b := wireJSON(first), wireJSON(later); strings.ReplaceAll(a, `"uptime": 61,`, `"uptime": 63,`) != b || a == b {
		t.Errorf("after two seconds\n%s\nbecame\n%s", a, b)
	}
	fresh, _ := new(StatusCache).Whole(v, exampleNow.Add(2*time.Second))
	if !bytes.Equal(fresh, later) {
		t.Error("a patched status differs from a new one")
	}
	one, _ := cache.One(v, v.Programs[1], exampleNow.Add(2*time.Second))
	if !bytes.Contains(later, one[bytes.Index(one, []byte("\xa3web")):bytes.Index(one, []byte("\xa6config"))]) {
		t.Error("a program alone is not what it is among others")
	}
}

// TestStatusFollowsChanges: a cache that saw many pictures says the same as a
// new one.
func TestStatusFollowsChanges(t *testing.T) {
	f := newFake()
	cache := new(StatusCache)
	check := func() {
		t.Helper()
		got, err := cache.Whole(f.View(), exampleNow)
		want, _ := new(StatusCache).Whole(f.View(), exampleNow)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %s, want %s", wireJSON(got), wireJSON(want))
		}
	}
	check()
	edit(f, 0, func(_ *ProgramView, i *InstanceView) { i.State = reconcile.StateStopping })
	check()
	edit(f, 1, func(_ *ProgramView, i *InstanceView) { i.State, i.LastExit = reconcile.StateRunning, nil })
	check()
	edit(f, 0, func(p *ProgramView, _ *InstanceView) { p.Instances = p.Instances[:1] })
	check()
	edit(f, 0, func(p *ProgramView, i *InstanceView) {
		p.Instances = append(p.Instances, instance("web", 5, reconcile.StateRunning, 50), instance("web", 7, reconcile.StateNew, 0))
		i.PID = 70_000
	})
	check()
	edit(f, 2, func(_ *ProgramView, i *InstanceView) { i.State = reconcile.StateStarting })
	check()
	f.set(&View{Programs: f.View().Programs[:1]})
	check()
	f.set(exampleView())
	check()
}

func TestStatusOfOddInstances(t *testing.T) {
	f := newFake()
	edit(f, 0, func(p *ProgramView, i *InstanceView) {
		p.Defined, p.Held, p.Flapping = false, "web/1 does not start", true
		i.LastExit = &reconcile.Exit{Unknown: true, At: exampleNow, Cause: reconcile.CauseLost}
		i.Pending, i.Drift, i.Finished, i.Flapping = map[string]string{"nice": "EPERM"}, map[string]string{"nice": "nice is 3, should be 5"}, "gave up", true
		i.Waits = "db, mail"
	})
	got, refused := call(t, exampleServer(f), "status", args{"program": "web"})
	if refused != nil {
		t.Fatal(refused)
	}
	for _, want := range []string{
		`"exitcode": null, "exitsignal": null`, `"exit_unknown": true`, `"pending": {"nice": "EPERM"}`, `"drift": {"nice": "nice is 3, should be 5"}`,
		`"finished": "gave up"`, `"waits": "db, mail"`, `"desired": 0`, `"held": "web/1 does not start"`, `"flapping": true`, `"defined": false`, `"active": false`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in %s", want, got)
		}
	}
}

func TestWhy(t *testing.T) {
	f := newFake()
	down, _ := call(t, exampleServer(f), "why", args{"program": "hello world", "instance": 2})
	edit(f, 0, func(p *ProgramView, i *InstanceView) {
		p.Held, i.State, i.Until = "web/1 does not start", reconcile.StateStopping, exampleNow.Add(time.Second)
		i.Pending = map[string]string{"nice": "EPERM"}
	})
	stopping, _ := call(t, exampleServer(f), "why", args{"program": "web", "instance": 0})
	edit(f, 0, func(p *ProgramView, _ *InstanceView) { p.Defined = false })
	gone, _ := call(t, exampleServer(f), "why", args{"program": "web"})
	for got, wants := range map[string][]string{
		down:     {`"desired": "down"`, "uid 1000 stopped it", `(until boot)`, `"can_do": ["start", "reset"]`},
		stopping: {`its end after TERM; then KILL follows`, `"until": 1767323046`, "nice is pending: EPERM", `"apply", "rollback"`},
		gone:     {`"desired": "gone"`, "the program is no longer defined"},
	} {
		for _, want := range wants {
			if !strings.Contains(got, want) {
				t.Errorf("%s is missing in %s", want, got)
			}
		}
	}
}

func TestHistoryOfLivingAndLost(t *testing.T) {
	f := newFake()
	f.runs[0].Exit = &reconcile.Exit{Unknown: true, At: ago(time.Second), Cause: reconcile.CauseLost}
	got, _ := call(t, exampleServer(f), "history", args{"program": "web"})
	want := `{"runs": [{"run_id": 5, "program": "web", "instance": 1, "pid": 1005, "start": 1767322954, "end": 1767323044, "duration": 0, ` +
		`"exitcode": null, "exitsignal": null, "core": false, "cause": "unknown", "generation": 7, "by": {"how": "rpc", "uid": 1000, "gid": 1000, "pid": 4711}, ` +
		`"start_cause": "scale", "exit_unknown": true}, {"run_id": 4, "program": "web", "instance": 0, "pid": 1004, "start": 1767322984, "duration": 61, ` +
		`"generation": 7, "by": null, "start_cause": "boot"}]}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDiff(t *testing.T) {
	got, _ := call(t, exampleServer(newFake()), "diff", args{"generation": 6})
	if !strings.Contains(got, `{"program": "web", "field": "program", "desired": {"args": ["-p", "800$(instance)"], "command": "httpd"`) ||
		!strings.Contains(got, `"env": {"MODE": "***", "TOKEN": "***"}`) || !strings.HasSuffix(got, `"generation": null}]}`) {
		t.Errorf("a program that was not there: %s", got)
	}
	pinned := newFake()
	pinned.view.Config.Generation, pinned.view.Config.Pinned = 6, 6
	if got, _ := call(t, exampleServer(pinned), "diff", nil); !strings.HasPrefix(got, `{"generation": 7, `) {
		t.Errorf("after a rollback, beside what the files said last: %s", got)
	}
	beside := newFake()
	beside.files.ExitWhen, beside.files.On = "web", spec.Hooks{"crashed": {{Webhook: &spec.Webhook{URL: "https://example.com/hush"}}}}
	if got, _ := call(t, exampleServer(beside), "diff", nil); strings.Contains(got, `"program": null`) {
		t.Errorf("beside the programs all is as the files say: %s", got)
	}
	if got, _ := call(t, exampleServer(beside), "diff", args{"generation": 6}); strings.Contains(got, "hush") ||
		!strings.Contains(got, `{"program": null, "field": "exit_when", "desired": "web", "generation": null}`) ||
		!strings.Contains(got, `{"program": null, "field": "on", "desired": {"crashed": [{"retries": 0, "webhook": {"timeout": "0s", "url": "***"}}]}, "generation": null}`) {
		t.Errorf("only what is beside the programs differs: %s", got)
	}
	now, old := exampleFiles(), exampleFiles()
	p := now.Programs["web"]
	p.Env = map[string]string{"MODE": "test", "TOKEN": "hush"}
	p.Nice = new(3)
	now.Programs["web"] = p
	list, err := differences(now, old)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := Append(nil, list)
	const want = `[{"program": "web", "field": "env.MODE", "desired": "***", "generation": "***"}, {"program": "web", "field": "nice", "desired": 3, "generation": null}]`
	if got := wireJSON(b); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestBigRequestsAreDecodedElsewhere(t *testing.T) {
	s := exampleServer(newFake())
	request, _ := EncodeRequest("dance", args{"filler": strings.Repeat("x", quickRequest)})
	reply, work := s.Begin(root, request)
	if reply != nil || work == nil {
		t.Fatal("it was answered at once")
	}
	if got := wireJSON(work(context.Background())); got != `{"danced": true}` {
		t.Errorf("got %s", got)
	}
}

// FuzzServe: whatever comes, from whomever, gets one sound reply.
func FuzzServe(f *testing.F) {
	f.Add([]byte(strings.Repeat("\x91", MaxDepth)+"0"), true) // the refusal holds it, and is deeper
	for _, msg := range hostile {
		if len(msg) < 1000 {
			f.Add([]byte(msg), true)
		}
	}
	for _, m := range Methods() {
		f.Add(exampleBytes(f, m), true)
		f.Add(exampleBytes(f, m), false)
		for _, a := range m.Args { // every argument with a value of every type
			for _, v := range []any{nil, true, -1, 1 << 40, 1.5, "x", "", []any{1, "a"}, args{"k": nil}, []byte{0xff}} {
				b, err := EncodeRequest(m.Name, args{"program": "web", a.Name: v})
				if err != nil {
					f.Fatal(err)
				}
				f.Add(b, true)
			}
		}
	}
	f.Fuzz(func(t *testing.T, msg []byte, admin bool) {
		peer := nobody
		if admin {
			peer = root
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what would wait does not
		reply := exampleServer(newFake()).Serve(ctx, peer, msg)
		if err := GuardReply(reply); err != nil {
			t.Fatalf("the reply to %q is %q: %v", msg, reply, err)
		}
		if _, err := DecodeValue(reply); err != nil {
			t.Errorf("the reply to %q cannot be decoded: %v", msg, err)
		}
		if e := refusal(reply); e != nil && e.Code == CodeInternal && !strings.Contains(e.Message, "cannot encode") {
			t.Errorf("%q: %s", msg, e.Message)
		}
	})
}
