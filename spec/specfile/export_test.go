package specfile_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/procnanny/procnanny/spec"
	"github.com/procnanny/procnanny/spec/specfile"
)

// maybe draws a value half of the time, and the zero value otherwise.
func maybe[T any](t *rapid.T, label string, g *rapid.Generator[T]) (v T) {
	if rapid.Bool().Draw(t, "has "+label) {
		return g.Draw(t, label)
	}
	return v
}

func maybePtr[T any](t *rapid.T, label string, g *rapid.Generator[T]) *T {
	if rapid.Bool().Draw(t, "has "+label) {
		v := g.Draw(t, label)
		return &v
	}
	return nil
}

// anyText is text that exec can pass.
var anyText = rapid.Map(rapid.String(), func(s string) string { return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "0"), "?") })

var (
	path  = rapid.Map(anyText, func(s string) string { return "/" + s + "x" })
	size  = rapid.Map(rapid.Uint64(), func(n uint64) spec.Size { return spec.Size(n) })
	span  = rapid.Map(rapid.Int64Range(0, int64(20*time.Second)), func(n int64) spec.Duration { return spec.Duration(n) })
	limit = rapid.Custom(func(t *rapid.T) spec.Limit {
		a, b := size.Draw(t, "a"), size.Draw(t, "b")
		return spec.Limit{Soft: min(a, b), Hard: max(a, b)}
	})
	signal   = rapid.Map(rapid.IntRange(1, 64), func(n int) spec.Signal { return spec.Signal(n) })
	exitSets = rapid.Custom(func(t *rapid.T) spec.ExitSet {
		s := spec.ExitSet{Signals: []spec.Signal{signal.Draw(t, "signal")}}
		for c := range 3 {
			if rapid.Bool().Draw(t, "code") {
				s.Codes = append(s.Codes, c)
			}
		}
		return s
	})
)

func drawLaunch(t *rapid.T, l *spec.Launch) {
	l.Command = rapid.Map(anyText, func(s string) string { return "c" + s }).Draw(t, "command")
	l.Args = maybe(t, "args", rapid.SliceOfN(anyText, 1, 4))
	l.User = maybe(t, "user", rapid.SampledFrom([]string{"games", "nobody"}))
	l.GID = maybePtr(t, "gid", rapid.Uint32Range(0, 4294967294))
	if rapid.Bool().Draw(t, "groups") {
		l.Groups = rapid.SampledFrom([][]spec.NameOrID{{}, {{Name: "adm"}}, {{ID: 44}, {Name: "games"}}}).Draw(t, "list")
	}
	l.Dir = maybe(t, "dir", path)
	l.Umask = maybePtr(t, "umask", rapid.Map(rapid.Uint32Range(0, 0o777), func(n uint32) spec.Octal { return spec.Octal(n) }))
	l.Env = maybe(t, "env", rapid.MapOfN(rapid.StringMatching(`[A-Za-z_#$ .][A-Za-z0-9_ ]*`), anyText, 1, 3))
	l.EnvFiles = maybe(t, "env_files", rapid.SliceOfN(path, 1, 2))
	l.InheritEnv = rapid.SampledFrom([]spec.InheritEnv{{}, {All: true}, {Names: []string{"LC_*"}}}).Draw(t, "inherit")
	if rapid.Bool().Draw(t, "caps") {
		l.Capabilities = &spec.Capabilities{Ambient: []string{"chown"}}
		if rapid.Bool().Draw(t, "bounding") {
			l.Capabilities.Bounding = []string{}
		}
	}
	l.NoNewPrivs = rapid.Bool().Draw(t, "nnp")
	l.Stdin = maybe(t, "stdin", path)
	l.Mode = rapid.SampledFrom([]spec.OutputMode{{Kind: "merged"}, {Kind: "separate"}, {Kind: "null"}, {Kind: "inherit"}, {Kind: "file", File: "/a b"}}).Draw(t, "mode")
}

func drawTuning(t *rapid.T, u *spec.Tuning) {
	u.Nice = maybePtr(t, "nice", rapid.IntRange(-20, 19))
	u.IONice = maybePtr(t, "ionice", rapid.Custom(func(t *rapid.T) spec.IONice {
		io := spec.IONice{Class: rapid.SampledFrom([]string{"none", "realtime", "best-effort", "idle"}).Draw(t, "class")}
		if io.Class != "none" {
			io.Level = rapid.IntRange(0, 7).Draw(t, "level")
		}
		return io
	}))
	u.Limits = maybe(t, "limits", rapid.MapOfN(rapid.SampledFrom([]string{"as", "core", "nofile", "nice", "stack"}), limit, 1, 5))
	u.CPUs = maybe(t, "cpus", rapid.SampledFrom([]string{"0", "0-3,6"}))
	u.Sched = rapid.SampledFrom([]*spec.Sched{nil, {Policy: "batch"}, {Policy: "rr", Priority: 5}}).Draw(t, "sched")
	u.OOMScoreAdj = maybePtr(t, "oom", rapid.IntRange(-1000, 1000))
	if rapid.Bool().Draw(t, "cgroup") {
		u.Cgroup = &spec.Cgroup{
			MemoryMax: maybePtr(t, "memory", size), PidsMax: maybePtr(t, "pids", size),
			CPUMax: maybe(t, "cpu", rapid.SampledFrom([]string{"max", "150%", "5000 10000"})), CPUWeight: maybePtr(t, "weight", rapid.IntRange(1, 10_000)),
		}
	}
}

func drawPolicy(t *rapid.T, p *spec.Policy) {
	p.Instances = rapid.IntRange(0, 100_000).Draw(t, "instances")
	p.Output = spec.Output{
		Rotate: spec.Rotate{Size: rapid.Int64Range(1, 1<<62).Draw(t, "rotate"), Keep: rapid.IntRange(0, 100_000).Draw(t, "keep"), Age: span.Draw(t, "age"), Total: rapid.Int64Range(0, 1<<62).Draw(t, "total")},
		OnFull: rapid.SampledFrom([]string{"block", "drop"}).Draw(t, "on_full"), Timestamps: rapid.Bool().Draw(t, "timestamps"),
	}
	p.Start.MinUptime = span.Draw(t, "min_uptime")
	if rapid.Bool().Draw(t, "restart") {
		p.Restart.Delay = span.Draw(t, "delay")
		p.Restart.Factor = rapid.Float64Range(1, 1000).Draw(t, "factor")
		p.Restart.Jitter = rapid.Float64Range(0, 1).Draw(t, "jitter")
		p.Restart.Flap = spec.Flap{Count: rapid.IntRange(1, 1_000_000).Draw(t, "count"), Within: span.Draw(t, "within")}
		p.Restart.GiveUp = spec.GiveUp(rapid.IntRange(0, 1000).Draw(t, "give_up"))
		p.Restart.When = spec.When{Mode: "exits", Exits: exitSets.Draw(t, "when")}
	}
	p.Stop = spec.Stop{Signal: signal.Draw(t, "stop"), Timeout: span.Draw(t, "timeout"), Escalate: signal.Draw(t, "escalate")}
	p.Update.MaxUnavailable = spec.CountOrPercent{N: rapid.IntRange(1, 100).Draw(t, "n"), Percent: rapid.Bool().Draw(t, "percent")}
	p.SuccessExit = exitSets.Draw(t, "success")
	p.Drift = rapid.SampledFrom([]string{"correct", "report", "ignore"}).Draw(t, "drift")
	p.On = drawHooks(t)
	for _, event := range []string{"accepted", "rejected", "rollback"} { // of no program
		delete(p.On, event)
	}
	if len(p.On) == 0 {
		p.On = nil
	}
	if rapid.Bool().Draw(t, "before") {
		h := hook.Draw(t, "drain")
		p.Stop.Before = &spec.Before{Run: h.Run, Webhook: h.Webhook}
	}
}

var hook = rapid.Custom(func(t *rapid.T) spec.Hook {
	h := spec.Hook{Attempt: rapid.IntRange(0, 9).Draw(t, "attempt"), Retries: rapid.IntRange(0, 20).Draw(t, "retries")}
	if rapid.Bool().Draw(t, "filter") {
		h.Code, h.Signal = spec.ExitSet{Codes: []int{1, 255}}, spec.ExitSet{Signals: []spec.Signal{signal.Draw(t, "signal")}}
	}
	timeout := span.Draw(t, "timeout") + 1
	env := maybe(t, "env", rapid.MapOfN(rapid.StringMatching(`[A-Za-z]+`), rapid.StringMatching(`[a-z "]*`), 1, 3))
	if rapid.Bool().Draw(t, "webhook") {
		h.Webhook = &spec.Webhook{URL: "https://example.com/" + rapid.StringMatching(`[a-z]*`).Draw(t, "url"), Headers: env, Timeout: timeout}
		return h
	}
	h.Run = &spec.HookRun{Command: "c", Args: maybe(t, "args", rapid.SliceOfN(anyText, 1, 4)), Env: env, Timeout: timeout}
	h.Run.User = maybe(t, "user", rapid.SampledFrom([]string{"games", "nobody"}))
	if h.Run.User != "" {
		h.Run.Identity = users[h.Run.User]
		h.Run.Identity.Switch = true
	}
	return h
})

func drawHooks(t *rapid.T) spec.Hooks {
	return maybe(t, "on", rapid.Custom(func(t *rapid.T) spec.Hooks {
		return rapid.MapOfN(rapid.SampledFrom(spec.HookEvents), rapid.SliceOfN(hook, 1, 2), 1, 2).Draw(t, "hooks")
	}))
}

// anySpec draws specifications that the schema accepts.
var anySpec = rapid.Custom(func(t *rapid.T) spec.Spec {
	out := spec.Spec{Programs: map[string]spec.Program{}, On: drawHooks(t)}
	for range rapid.IntRange(0, 3).Draw(t, "programs") {
		p := spec.Defaults()
		drawLaunch(t, &p.Launch)
		drawTuning(t, &p.Tuning)
		drawPolicy(t, &p.Policy)
		out.Programs[rapid.SampledFrom([]string{"web", "hello world", "grüße", "for", "_hidden", "#def", "a\\(b)", `"`, "true"}).Draw(t, "name")] = p
	}
	return out
})

// evaluateText evaluates one CUE file.
func evaluateText(t interface{ Fatalf(string, ...any) }, text string) spec.Spec {
	req := spec.EvalRequest{Source: spec.Source{Files: map[string][]byte{"export.cue": []byte(text)}}}
	res := specfile.Evaluate(req, func(names spec.EvalNames) spec.Resolved {
		host := testHost(names)
		host.NrOpen = 0 // any limit is good
		return host
	})
	if res.Spec == nil {
		t.Fatalf("it was refused: %v\n%s", res.Problems, text)
	}
	return *res.Spec
}

// withoutIdentity is what a file can say.
func withoutIdentity(s spec.Spec) spec.Spec {
	for name, p := range s.Programs {
		p.Identity = spec.Identity{}
		s.Programs[name] = p
	}
	return s
}

// What export prints means the same, and so does the JSON form.
func TestExportMeansTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anySpec.Draw(t, "spec")
		text := spec.CUE(s)
		if back := withoutIdentity(evaluateText(t, text)); !reflect.DeepEqual(back, s) {
			a, _ := json.Marshal(s)
			b, _ := json.Marshal(back)
			t.Fatalf("%s\nprinted as\n%s\nreads back as\n%s", a, text, b)
		}
		if spec.CUE(s) != text {
			t.Fatalf("it is printed in another way the second time")
		}
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatalf("cannot marshal: %v", err)
		}
		var back spec.Spec
		if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(back, s) {
			t.Fatalf("%s reads back as %+v, %v", raw, back, err)
		}
	})
}

func TestExportText(t *testing.T) {
	s := evaluateText(t, `programs: {
	two: {command: "x", instances: 1, restart: when: "always"}
	"hello world": {
		command: "/usr/bin/env"
		args: ["sh", "-c", "echo \"$(instance)\"\nexit\t\u202e"]
		env: {B: "2", A: "1"}
		limits: {nofile: {soft: 1, hard: 2}, core: 0}
		output: {mode: file: "/x", rotate: size: 5}
		restart: {delay: "2s", max_delay: "1m"}
		success_exit: [0, "TERM"]
		nice: -3
	}
}`)
	const want = `programs: {
	"hello world": {
		command: "/usr/bin/env"
		args: ["sh", "-c", "echo \"$(instance)\"\nexit\t\u202e"]
		env: {
			A: "1"
			B: "2"
		}
		nice: -3
		limits: {
			core: 0
			nofile: {
				soft: 1
				hard: 2
			}
		}
		restart: {
			delay: "2s"
			max_delay: "1m0s"
		}
		success_exit: [0, "TERM"]
		output: {
			mode: file: "/x"
			rotate: size: 5
		}
	}
	two: {
		command: "x"
	}
}
`
	if got := spec.CUE(s); got != want {
		t.Errorf("expected\n%s\nfound\n%s", want, got)
	}
	if got := spec.CUE(spec.Spec{}); got != "programs: {}\n" {
		t.Errorf("nothing is %q", got)
	}
}
