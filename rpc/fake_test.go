package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// The example picture: what the examples of the table are about.
var (
	exampleNow = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	root       = Peer{UID: 0, GID: 0, PID: 42, Known: true}
	nobody     = Peer{UID: 65534, GID: 65534, PID: 43, Known: true}
)

func ago(d time.Duration) time.Time { return exampleNow.Add(-d) }

// exampleFiles is what the files say.
func exampleFiles() spec.Spec {
	hello := spec.Defaults()
	hello.Command, hello.Args, hello.Instances = "/usr/bin/env", []string{"sh", "-c", "echo hello $(instance)"}, 3
	hello.UID, hello.GID = new(uint32(1000)), new(uint32(1000))
	hello.Identity = spec.Identity{UID: 1000, GID: 1000, Switch: true}
	hello.Nice, hello.IONice = new(5), &spec.IONice{Class: "best-effort", Level: 7}
	web := spec.Defaults()
	web.Command, web.Args, web.Instances = "httpd", []string{"-p", "800$(instance)"}, 1
	web.Env = map[string]string{"TOKEN": "hush", "MODE": "prod"}
	return spec.Spec{Programs: map[string]spec.Program{"hello world": hello, "web": web}}
}

// exampleOverrides: somebody scaled web and stopped hello world/2.
func exampleOverrides() []spec.Override {
	by := spec.Requester{How: "rpc", UID: 1000, GID: 1000, PID: 4711}
	stop := spec.AdminOverride("hello world", new(2), true)
	stop.By, stop.At, stop.UntilBoot = by, ago(time.Hour), true
	return []spec.Override{
		{
			Program: "web", Field: "instances", Value: json.RawMessage("2"), Replaced: json.RawMessage("1"), By: by,
			At: ago(2 * time.Hour), Until: exampleNow.Add(time.Hour), Reason: "Friday",
		},
		stop,
	}
}

func instance(p string, n int, state reconcile.State, run reconcile.RunID) *InstanceView {
	return &InstanceView{
		Instance: reconcile.Instance{
			ID: reconcile.InstanceID{Program: p, Index: n}, State: state, Run: run, PID: 1000 + int(run), Since: ago(time.Minute),
			StartedAt: ago(61 * time.Second), Starts: 1, Generation: 7,
		},
		Containment: "cgroup",
	}
}

func exampleExit() *reconcile.Exit {
	return &reconcile.Exit{
		Code: -1, Signal: 11, Core: true, At: ago(time.Second), Duration: 90 * time.Second, Cause: reconcile.CauseCrashed,
		Run: 5, PID: 1005, Start: ago(91 * time.Second), Generation: 7,
	}
}

// viewOf is a picture in which everything runs as desired, but for what the
// example tells.
func viewOf(files spec.Spec, overrides []spec.Override) *View {
	v := &View{
		ObservedAt: ago(10 * time.Second), Version: "1.0.0", KeeperPID: 100, ControlPID: 101,
		Config: ConfigView{State: "ok", Generation: 7, Digest: "0123456789abcdef", Commit: "f00dfeed"},
	}
	desired := files.With(overrides)
	run := reconcile.RunID(0)
	for _, name := range sortedKeys(desired.Programs) {
		want := desired.Programs[name]
		p := &ProgramView{Name: name, Spec: &want, Defined: true, Generation: 7}
		for _, o := range overrides {
			if o.Program == name {
				p.Overrides = append(p.Overrides, o)
			}
		}
		for n := range p.Spec.Instances {
			run++
			i := instance(name, n, reconcile.StateRunning, run)
			i.Launch, i.Tuning = p.Spec.Launch.Digest(), p.Spec.Tuning.Digest()
			if p.Spec.Admin.IsDown(n) {
				i.Down, i.State = true, reconcile.StateExited
			}
			p.Instances = append(p.Instances, i)
		}
		v.Programs = append(v.Programs, p)
	}
	return v
}

func exampleView() *View {
	v := viewOf(exampleFiles(), exampleOverrides())
	web := v.Program("web")
	crashed := web.Instances[1]
	crashed.State, crashed.LastExit, crashed.Until, crashed.Attempt = reconcile.StateBackoff, exampleExit(), exampleNow.Add(2*time.Second), 1
	return v
}

// fake is a Backend that carries out overrides on its files and remembers what
// it was told.
type fake struct {
	mu        sync.Mutex
	view      *View
	changed   chan struct{}
	files     spec.Spec
	overrides []spec.Override
	told      []string
	commands  []reconcile.Command
	outcomes  func(reconcile.Command) []reconcile.Outcome
	refuse    error
	runs      []Run
	events    []Event
	place     string
	slow      bool // instances stay as they are until somebody edits them
}

func newFake() *fake {
	f := &fake{files: exampleFiles(), overrides: exampleOverrides(), view: exampleView(), changed: make(chan struct{})}
	f.runs = []Run{
		{
			ID: reconcile.InstanceID{Program: "web", Index: 1}, Run: 5, PID: 1005, Start: ago(91 * time.Second), End: ago(time.Second),
			Exit: exampleExit(), StartCause: reconcile.CauseScale, Generation: 7, By: &spec.Requester{How: "rpc", UID: 1000, GID: 1000, PID: 4711},
		},
		{ID: reconcile.InstanceID{Program: "web", Index: 0}, Run: 4, PID: 1004, Start: ago(61 * time.Second), StartCause: reconcile.CauseBoot, Generation: 7},
	}
	f.events = []Event{
		{Seq: 41, Prev: 12, Time: ago(time.Second), Topic: "state.web.1", Fields: Map{
			{"event", "backoff"},
			{"program", "web"},
			{"instance", 1},
			{"state", "backoff"},
			{"signal", "SEGV"},
			{"run_id", uint64(5)},
			{"generation", uint64(7)},
			{"cause", "crash"},
		}},
		{Seq: 42, Prev: 3, Time: exampleNow, Topic: "config", Fields: Map{{"event", "accepted"}, {"generation", uint64(7)}}},
	}
	return f
}

func (f *fake) set(v *View) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.view = v
	if f.changed != nil {
		close(f.changed)
	}
	f.changed = make(chan struct{})
}

func (f *fake) tell(format string, args ...any) {
	f.told = append(f.told, fmt.Sprintf(format, args...))
}

func (f *fake) View() *View {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.view
}

func (f *fake) Fresh(context.Context) (*View, error) {
	f.tell("fresh")
	return f.View(), nil
}

func (f *fake) Wait(ctx context.Context, ok func(*View) bool) (*View, error) {
	for {
		f.mu.Lock()
		v, changed := f.view, f.changed
		f.mu.Unlock()
		if ok(v) {
			return v, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (f *fake) Command(_ context.Context, c reconcile.Command) ([]reconcile.Outcome, error) {
	if f.refuse != nil {
		return nil, f.refuse
	}
	f.commands = append(f.commands, c)
	f.tell("command %d %v", c.Kind, c.Targets)
	if f.outcomes != nil {
		return f.outcomes(c), nil
	}
	out := make([]reconcile.Outcome, len(c.Targets))
	for i, id := range c.Targets {
		out[i].ID = id
		if p := f.View().Program(id.Program); p != nil && p.Spec.Admin.IsDown(id.Index) {
			out[i].Reason = "it is stopped: start it"
		}
	}
	return out, nil
}

func (f *fake) Override(_ context.Context, os []spec.Override) error {
	if f.refuse != nil {
		return f.refuse
	}
	for _, o := range os {
		f.tell("override %s %s %s", o.Program, o.Field, o.Value)
		if p, ok := f.files.Programs[o.Program]; ok && o.Field != spec.FieldAdmin {
			o.Replaced = p.Get(o.Field)
		}
		f.overrides = spec.Put(f.overrides, o)
	}
	next := viewOf(f.files, f.overrides)
	if f.slow {
		keepInstances(next, f.View())
	}
	f.set(next)
	return nil
}

// keepInstances: what shall be has changed, what is not yet.
func keepInstances(next, now *View) {
	for _, p := range next.Programs {
		old := now.Program(p.Name)
		for n, i := range p.Instances {
			if old != nil && old.Instance(i.ID.Index) != nil {
				was := *old.Instance(i.ID.Index)
				was.Down = i.Down
				if was.Alive() && was.Tuning != p.Spec.Tuning.Digest() {
					was.Tuning, was.Tune = p.Spec.Tuning.Digest(), reconcile.TuneAsked
				}
				p.Instances[n] = &was
			}
		}
		if old != nil && len(old.Instances) > len(p.Instances) {
			p.Instances = append(p.Instances, old.Instances[len(p.Instances):]...) // on their way out
		}
	}
}

func (f *fake) Reset(_ context.Context, program, field string, _ spec.Requester) ([]spec.Override, error) {
	f.tell("reset %q %q", program, field)
	var taken []spec.Override
	f.overrides = slices.DeleteFunc(slices.Clone(f.overrides), func(o spec.Override) bool {
		fits := (program == "" || o.Program == program) &&
			(field == spec.FieldProgram || o.Field == field || field == "" && o.Field != spec.FieldProgram)
		if fits {
			taken = append(taken, o)
		}
		return fits
	})
	f.set(viewOf(f.files, f.overrides))
	return taken, nil
}

func (f *fake) Overrides() []spec.Override { return f.overrides }

func (f *fake) changes() []reconcile.Change {
	return []reconcile.Change{
		{ID: reconcile.InstanceID{Program: "web", Index: 0}, What: "replace", Reason: "args changed", Keys: []string{"args"}},
		{ID: reconcile.InstanceID{Program: "web", Index: 1}, What: "replace", Reason: "args changed; in its turn", Keys: []string{"args"}, Later: true},
	}
}

func (f *fake) Plan(_ context.Context, src *spec.Source) (PlanReply, error) {
	if src != nil {
		f.tell("plan %s %s %v", src.Root, src.Single, sortedKeys(src.Files))
	}
	return PlanReply{
		Digest: "89abcdef01234567", Generation: 8, Changes: f.changes(),
		Problems: spec.Problems{{File: "web.cue", Line: 3, Column: 2, Path: "programs.web.args", Message: "unknown name $(prot)", Warning: true}},
	}, f.refuse
}

func (f *fake) Apply(_ context.Context, o ApplyOptions) (ApplyReply, error) {
	f.tell("apply %q %v %v", o.Digest, o.Force, o.AllowEmpty)
	return ApplyReply{Generation: 8, Digest: "89abcdef01234567", Changes: f.changes(), Changed: true}, f.refuse
}

func (f *fake) Generations() ([]Generation, error) {
	return []Generation{
		{Number: 6, Digest: "fedcba9876543210", At: ago(48 * time.Hour), By: spec.Requester{How: "file"}, Programs: 1, Instances: 3},
		{Number: 7, Digest: "0123456789abcdef", Commit: "f00dfeed", At: ago(24 * time.Hour), By: spec.Requester{How: "file"}, Programs: 2, Instances: 4},
	}, nil
}

func (f *fake) GenerationSpec(n uint64) (spec.Spec, error) {
	if n == 6 {
		s := exampleFiles()
		delete(s.Programs, "web")
		return s, nil
	}
	return f.files, nil
}

func (f *fake) Rollback(_ context.Context, n uint64, _ spec.Requester) (ApplyReply, error) {
	f.tell("rollback %d", n)
	return ApplyReply{Generation: n, Digest: "fedcba9876543210", Changed: true}, f.refuse
}

func (f *fake) Runs(_ context.Context, q RunQuery) ([]Run, error) {
	var out []Run
	for _, r := range f.runs {
		if r.ID.Program == q.Program && (q.Instance == nil || *q.Instance == r.ID.Index) && !r.Start.Before(q.Since) {
			out = append(out, r)
		}
	}
	return out[:min(len(out), q.Limit)], f.refuse
}

func (f *fake) Events(_ context.Context, since uint64, limit int) ([]Event, error) {
	var out []Event
	for _, e := range f.events {
		if e.Seq > since && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, f.refuse
}

func (f *fake) Upgrade(context.Context) error { f.tell("upgrade"); return f.refuse }

func (f *fake) Shutdown(context.Context, spec.Requester) error { f.tell("shutdown"); return f.refuse }

func (f *fake) Hooks(context.Context) ([]Hook, error) {
	web := reconcile.InstanceID{Program: "web", Index: 1}
	return []Hook{{
		ID: "page", Event: "crashed", Action: "run", What: "/usr/local/bin/page", Waiting: 1, Running: 1, Done: 3, Failed: 4,
		Last: &HookTry{Seq: 41, ID: web, At: exampleNow, Try: 1, OK: true, Answer: "exit code 0", Took: 250 * time.Millisecond},
		Dead: []DeadHook{{Seq: 12, ID: reconcile.InstanceID{Program: "web"}, At: ago(time.Second), Tries: 4, Answer: "exit code 1"}},
	}}, f.refuse
}

func (f *fake) Beside() spec.Spec { return spec.Spec{On: f.files.On, ExitWhen: f.files.ExitWhen} }

func (f *fake) RetryHooks(_ context.Context, id string, seq uint64) (int, bool, error) {
	f.tell("retry %s %d", id, seq)
	return 1, id == "" || id == "page", f.refuse
}

func (f *fake) DefinedIn(string) string { return f.place }

// ReadLog implements LogReader on a text.
func (f *fake) ReadLog(_ context.Context, q LogQuery) (LogChunk, error) {
	const text = "GET /\nGET /favicon.ico\n"
	said := fmt.Sprintf("logs %s/%d %q limit %d tail %d", q.Program, q.Instance, q.Stream, q.Limit, q.Tail)
	if q.Run != 0 {
		seconds := func(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }
		said += fmt.Sprintf(" from %v to %v run %d", seconds(q.Since), seconds(q.Until), q.Run)
	}
	f.tell("%s", said)
	if q.Program != "web" || q.Instance > 1 {
		return LogChunk{}, f.refuse
	}
	from := 0
	switch {
	case q.Offset != nil:
		from = int(min(*q.Offset, int64(len(text))))
	case q.Tail == 1:
		from = strings.Index(text, "\n") + 1
	}
	data := text[from:]
	data = data[:min(len(data), q.Limit)]
	return LogChunk{
		Data: []byte(data), Offset: int64(from), Next: int64(from + len(data)), End: int64(len(text)),
		Marks: []LogMark{{0, exampleNow.Add(-time.Second), 5}},
	}, f.refuse
}

func exampleServer(f *fake) *Server {
	return NewServer(Options{
		Backend: f, Logs: f, Access: Rights{Own: 500, Group: new(uint32(600))}, Schema: func() (string, error) { return "#Program: {\n\tcommand!: string\n}\n", nil },
		CUE:     func(s spec.Spec) string { return fmt.Sprintf("programs: {} // %d programs\n", len(s.Programs)) },
		States:  map[string]func() string{"text": func() string { return "up, down\n" }, "dot": func() string { return "digraph {}\n" }},
		Now:     func() time.Time { return exampleNow },
		Traffic: func() Traffic { return Traffic{Requests: 7, Published: 3} },
	})
}
