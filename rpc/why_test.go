package rpc

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

var update = flag.Bool("update", false, "write testdata anew")

// situations are what an instance can be in: every state, with all that can be
// special about it.
var situations = []struct {
	name string
	edit func(p *ProgramView, i *InstanceView)
}{
	{"new", func(_ *ProgramView, i *InstanceView) {
		i.State, i.PID, i.Run, i.StartedAt = reconcile.StateNew, 0, 0, time.Time{}
	}},
	{"starting", func(_ *ProgramView, i *InstanceView) {
		i.State, i.Until = reconcile.StateStarting, exampleNow.Add(time.Second)
	}},
	{"running", func(*ProgramView, *InstanceView) {}},
	{"running, flapping, pending, drifted", func(_ *ProgramView, i *InstanceView) {
		i.Ends = []time.Time{ago(50 * time.Second), ago(40 * time.Second), ago(30 * time.Second), ago(20 * time.Second), ago(time.Second)}
		i.Flapping, i.Pending, i.Drift = true, map[string]string{"nofile": "operation not permitted"}, map[string]string{"nice": "nice is 3, should be 5"}
	}},
	{"running, restart owed", func(_ *ProgramView, i *InstanceView) { i.Cycle = true }},
	{"running, restart owed, after another", func(p *ProgramView, i *InstanceView) {
		i.Cycle, p.Spec.Start.After = true, map[string]string{"db": "running"}
	}},
	{"running, restart held", func(p *ProgramView, i *InstanceView) {
		i.Cycle, p.Held = true, "preflight: no such file or directory"
	}},
	{"running, roll held", func(p *ProgramView, _ *InstanceView) { p.Held = "preflight: no such file or directory" }},
	{"stopping", func(p *ProgramView, i *InstanceView) {
		p.Spec.Admin = spec.Admin{Down: true}
		i.State, i.Until, i.EndCause = reconcile.StateStopping, exampleNow.Add(4*time.Second), reconcile.CauseStop
	}},
	{"stopping, draining", func(p *ProgramView, i *InstanceView) {
		p.Spec.Admin = spec.Admin{Down: true}
		i.State, i.Until, i.EndCause, i.Draining = reconcile.StateStopping, exampleNow.Add(9*time.Second), reconcile.CauseStop, true
	}},
	{"stopping, sent QUIT", func(p *ProgramView, i *InstanceView) {
		p.Spec.Admin, p.Spec.Stop.Escalate = spec.Admin{Down: true}, spec.Signal(3)
		i.State, i.Until, i.EndCause, i.Escalated = reconcile.StateStopping, exampleNow.Add(4*time.Second), reconcile.CauseStop, true
	}},
	{"stopping, killed", func(p *ProgramView, i *InstanceView) {
		p.Spec.Admin = spec.Admin{Down: true}
		i.State, i.Escalated, i.EndCause = reconcile.StateStopping, true, reconcile.CauseStop
	}},
	{"stopping, sweeping after a crash", func(_ *ProgramView, i *InstanceView) {
		i.State, i.Until, i.MainGone = reconcile.StateStopping, exampleNow.Add(4*time.Second), true
	}},
	{"exited, down", func(p *ProgramView, i *InstanceView) {
		p.Spec.Admin = spec.Admin{Down: true}
		i.State = reconcile.StateExited
	}},
	{"exited, done", func(_ *ProgramView, i *InstanceView) { i.State, i.Finished = reconcile.StateExited, "done" }},
	{"exited, failed and not restarted", func(_ *ProgramView, i *InstanceView) {
		i.State, i.Finished = reconcile.StateExited, "done"
		i.LastExit = &reconcile.Exit{Code: 7, Cause: reconcile.CauseCrashed, At: exampleNow.Add(-time.Minute), Duration: time.Second}
	}},
	{"exited, gave up", func(_ *ProgramView, i *InstanceView) {
		i.State, i.Finished, i.Attempt = reconcile.StateExited, "gave up", 5
	}},
	{"exited, waits for others", func(p *ProgramView, i *InstanceView) {
		p.Spec.Start.After = map[string]string{"db": "running", "migrate": "done", "there": "running"}
		i.State, i.Waits = reconcile.StateExited, "db, migrate"
	}},
	{"backoff", func(_ *ProgramView, i *InstanceView) {
		i.State, i.Until, i.Attempt = reconcile.StateBackoff, exampleNow.Add(8*time.Second), 4
	}},
	{"running, created", func(p *ProgramView, _ *InstanceView) {
		p.Overrides = []spec.Override{{Program: "web", Field: spec.FieldProgram, Value: []byte(`{"command":"web"}`), By: spec.Requester{How: "rpc", Key: "ann"}, At: ago(time.Hour)}}
	}},
	{"exited, stopped by somebody", func(p *ProgramView, i *InstanceView) {
		p.Spec.Admin, i.State = spec.Admin{Down: true}, reconcile.StateExited
		p.Overrides = []spec.Override{{Program: "web", Field: spec.FieldAdmin, Value: []byte(`"down"`), By: spec.Requester{How: "rpc", UID: 1000}, At: ago(time.Hour), Reason: "too loud"}}
	}},
	{"no longer defined", func(p *ProgramView, _ *InstanceView) { p.Defined = false }},
	{"scaled away", func(p *ProgramView, _ *InstanceView) { p.Spec.Instances = 0 }},
}

// causes are every cause of an end, with how it ended.
var causes = []reconcile.Exit{
	{Code: 0, Cause: reconcile.CauseExit},
	{Code: 3, Cause: reconcile.CauseCrashed},
	{Code: -1, Signal: 11, Core: true, Cause: reconcile.CauseCrashed},
	{Code: -1, Signal: 9, Cause: reconcile.CauseCrashed},
	{Code: -1, Signal: 9, Cause: reconcile.CauseOOM},
	{Code: -1, Signal: 15, Cause: reconcile.CauseStop},
	{Code: -1, Signal: 15, Cause: reconcile.CauseReplaced},
	{Code: -1, Signal: 9, Cause: reconcile.CauseRestart},
	{Code: 0, Cause: reconcile.CauseScaledDown},
	{Code: 0, Cause: reconcile.CauseRemoved},
	{Code: 143, Cause: reconcile.CauseShutdown},
	{Code: -1, Error: "executing /opt/web: no such file or directory", Cause: reconcile.CauseNoStart},
	{Code: -1, Unknown: true, Cause: reconcile.CauseLost},
	{Code: -1, Unknown: true, Error: "the machine was booted", Cause: reconcile.CauseLost},
}

// oneInstance is a picture of web/0 alone, and whose output is known.
func oneInstance(edit func(p *ProgramView, i *InstanceView)) *fake {
	f := newFake()
	web := *f.view.Program("web")
	i := *web.Instances[0]
	web.Instances, web.Overrides, web.Held = []*InstanceView{&i}, nil, ""
	web.Spec.Instances, web.Spec.Admin = 1, spec.Admin{}
	i.State, i.PID, i.Until, i.Since = reconcile.StateRunning, 4711, time.Time{}, ago(90*time.Second)
	edit(&web, &i)
	f.view = &View{Programs: []*ProgramView{{Name: "db", Defined: true, Spec: &spec.Program{}}, &web}, Config: f.view.Config}
	return f
}

func whyText(t *testing.T, f *fake) string {
	t.Helper()
	request, err := EncodeRequest("why", args{"program": "web", "instance": 0})
	if err != nil {
		t.Fatal(err)
	}
	var reply any
	if err := DecodeReply(exampleServer(f).Serve(context.Background(), root, request), &reply); err != nil {
		t.Fatal(err)
	}
	instances, _ := reply.(map[string]any)["instances"].(map[any]any)
	one, _ := instances[int64(0)].(map[string]any)
	return fmt.Sprintf("%v\n  %v; waits for %v; can %v", one["text"], one["desired"], one["waits_for"], one["can_do"])
}

// Every state and every cause is explained as the golden file says.
func TestWhyInEverySituation(t *testing.T) {
	var b strings.Builder
	for _, s := range situations {
		fmt.Fprintf(&b, "## %s\n%s\n", s.name, whyText(t, oneInstance(s.edit)))
	}
	pinned := oneInstance(func(*ProgramView, *InstanceView) {})
	pinned.view.Config.Pinned = 6
	fmt.Fprintf(&b, "## running, pinned\n%s\n", whyText(t, pinned))
	for _, x := range causes {
		x.At, x.Duration, x.Run = ago(90*time.Second), 61*time.Second, 9
		f := oneInstance(func(_ *ProgramView, i *InstanceView) { i.LastExit = &x })
		fmt.Fprintf(&b, "## after %s\n%s\n", x.Cause, whyText(t, f))
	}
	const file = "testdata/why.txt"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != b.String() {
		t.Errorf("%s is another one now (-update writes it):\n%s", file, b.String())
	}
}

// All states and causes of the core are tried above.
func TestWhyForgetsNoState(t *testing.T) {
	seen := map[reconcile.State]bool{}
	for _, s := range situations {
		seen[oneInstance(s.edit).view.Program("web").Instances[0].State] = true
	}
	for s := reconcile.StateNew; s < reconcile.StateImpossible; s++ {
		if !seen[s] {
			t.Errorf("no situation has an instance that is %s", s)
		}
	}
}

// The last lines of output stand with each end.
func TestWhyTellsTheLastWords(t *testing.T) {
	f := oneInstance(func(*ProgramView, *InstanceView) {})
	x := exampleExit()
	f.runs = []Run{{ID: reconcile.InstanceID{Program: "web"}, Run: 7, PID: 4000, Start: ago(time.Hour), End: ago(time.Minute), Exit: x}}
	c := &Call{Server: exampleServer(f), Backend: f}
	got := c.ends(context.Background(), f.view.Program("web"), f.runs, 0, true)
	if len(got) != 1 {
		t.Fatalf("found %v", got)
	}
	lines, _ := got[0].Get("output").([]string)
	if strings.Join(lines, "|") != "GET /|GET /favicon.ico" || got[0].Get("run_id") != uint64(7) {
		t.Errorf("found %v", got[0])
	}
}
