package control

import (
	"encoding/json"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/runtime/sink"
	"github.com/procnanny/procnanny/runtime/store"
	"github.com/procnanny/procnanny/spec"
)

// stored is an event of the core as the store has it.
func stored(t *testing.T, ev *reconcile.Event) *store.Event {
	t.Helper()
	topic, fields := topicFor(ev), describe(nil, ev)
	if topic == "" {
		t.Fatalf("%s is not published", ev.Kind)
	}
	d := draft(topic, ev.At, fields)
	return &store.Event{Seq: 7, Topic: topic, Body: d.Encode(7, 3)}
}

// What is published is found again by the names that hooks have for it.
func TestNamesOfPublishedEvents(t *testing.T) {
	id := reconcile.InstanceID{Program: "a.b", Index: 2}
	state := func(s reconcile.State, x *reconcile.Exit, detail string) *reconcile.Event {
		ev := &reconcile.Event{Kind: reconcile.EventState, ID: id, State: s, From: reconcile.StateRunning, Run: 9, At: time.Now(), Exit: x, Detail: detail, Attempt: 4}
		if x != nil {
			ev.Cause = x.Cause
		}
		return ev
	}
	crash := &reconcile.Exit{Code: -1, Signal: spec.SIGKILL, Cause: reconcile.CauseCrashed}
	for _, c := range []struct {
		ev   *reconcile.Event
		want string
	}{
		{state(reconcile.StateStarting, nil, ""), "starting"},
		{state(reconcile.StateRunning, nil, ""), "running"},
		{state(reconcile.StateStopping, nil, ""), "stopping"},
		{state(reconcile.StateBackoff, nil, ""), "backoff"},
		{state(reconcile.StateExited, crash, ""), "exited crashed"},
		{state(reconcile.StateStopping, crash, ""), "exited crashed stopping"}, // others of it are left
		{state(reconcile.StateExited, nil, ""), ""},
		{state(reconcile.StateExited, &reconcile.Exit{Cause: reconcile.CauseStop}, ""), "exited"},
		{state(reconcile.StateExited, &reconcile.Exit{Cause: reconcile.CauseExit}, "done"), "exited done"},
		{state(reconcile.StateExited, crash, "gave up"), "exited crashed gave_up"},
		{state(reconcile.StateExited, &reconcile.Exit{Code: -1, Error: "no", Cause: reconcile.CauseNoStart}, ""), "exited crashed"},
		{state(reconcile.StateExited, &reconcile.Exit{Code: -1, Unknown: true, Cause: reconcile.CauseLost}, ""), "exited"},
		{&reconcile.Event{Kind: reconcile.EventFlapping, ID: id, Flap: &reconcile.Flapping{Ends: []time.Time{time.Now()}, Count: 5}}, "flapping"},
		{&reconcile.Event{Kind: reconcile.EventStable, ID: id}, "stable"},
		{&reconcile.Event{Kind: reconcile.EventHeld, ID: reconcile.InstanceID{Program: "a.b", Index: -1}}, "held"},
		{&reconcile.Event{Kind: reconcile.EventResumed, ID: id}, "resumed"},
		{&reconcile.Event{Kind: reconcile.EventPending, ID: id}, "pending"},
		{&reconcile.Event{Kind: reconcile.EventDrained, ID: id, Drain: &reconcile.Drain{Answer: "200 OK"}}, "drained"},
	} {
		e := stored(t, c.ev)
		got, ok := hookEvent(e, func(string) bool { return true })
		if strings.Join(got.Names, " ") != c.want || ok != (c.want != "") {
			t.Errorf("%s %s: found %v", c.ev.Kind, c.ev.State, got.Names)
		}
		if ok && (got.ID != c.ev.ID || got.Seq != 7 || !json.Valid(got.JSON)) {
			t.Errorf("%s: found %+v", c.ev.Kind, got)
		}
		for _, name := range got.Names {
			if !slices.Contains(spec.HookEvents, name) {
				t.Errorf("no configuration knows %s", name)
			}
		}
		if _, ok := hookEvent(e, func(string) bool { return false }); ok {
			t.Errorf("%s is found though nobody wants it", c.ev.Kind)
		}
	}
	ev, _ := hookEvent(stored(t, state(reconcile.StateExited, crash, "")), func(name string) bool { return name == "crashed" })
	if !ev.Ended || ev.Signal != spec.SIGKILL || ev.Attempt != 4 || ev.Vars["PROCNANNY_EVENT_SIGNAL"] != "KILL" || ev.Vars["PROCNANNY_EVENT_RUN_ID"] != "9" {
		t.Errorf("found %+v", ev)
	}
}

// Every event that a configuration can name is published under some kind of topic.
func TestEveryHookEventHasAKind(t *testing.T) {
	for _, name := range spec.HookEvents {
		found := false
		for _, names := range kindNames {
			found = found || slices.Contains(names, name)
		}
		if !found {
			t.Errorf("nothing leads to %s", name)
		}
	}
}

func TestEventsThatAreNoneOfTheCore(t *testing.T) {
	for topic, c := range map[string]struct{ event, want string }{
		"config": {"rejected", "rejected"}, "override.web": {"override-ended", "override_ended"}, "drift.web.0": {"drift", "drift"},
		"command": {"command", ""}, "hook.page": {"hook", ""}, "store": {"loss", ""},
	} {
		d := draft(topic, time.Now(), rpc.Map{{Key: "event", Value: c.event}})
		got, ok := hookEvent(&store.Event{Seq: 1, Topic: topic, Body: d.Encode(1, 0)}, func(string) bool { return true })
		if strings.Join(got.Names, " ") != c.want || ok != (c.want != "") {
			t.Errorf("%s: found %v", topic, got.Names)
		}
	}
	if _, ok := hookEvent(&store.Event{Topic: "state.web.0", Body: []byte("\xc1")}, func(string) bool { return true }); ok {
		t.Error("what cannot be read is an event")
	}
}

// What is desired is in memory once: who keeps the hooks beside the programs does
// not keep the programs.
func TestHooksDoNotKeepPrograms(t *testing.T) {
	h := &hooks{Hooks: sink.New(sink.Config{Last: func() uint64 { return 0 }})}
	set := func() weak.Pointer[string] {
		p := spec.Defaults()
		p.Args = []string{"a", "b"} // with pointers in it: small things without share memory with strangers
		on := spec.Hooks{"crashed": {{Name: "mail"}}}
		if err := h.Set(t.Context(), spec.Spec{Programs: map[string]spec.Program{"web": p}, On: on}); err != nil {
			t.Fatal(err)
		}
		return weak.Make(&p.Args[0])
	}
	seen := set()
	runtime.GC()
	if seen.Value() != nil {
		t.Error("the programs are still in memory")
	}
	if got := *h.on.Load(); len(got["crashed"]) != 1 {
		t.Errorf("hooks %v", got)
	}
}
