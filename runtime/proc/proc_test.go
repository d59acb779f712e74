package proc

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/spec"
)

// fake is a keeper that keeps orders, and a core that keeps facts.
type fake struct {
	mu     sync.Mutex
	orders []keeper.Order
	sends  int
	facts  []reconcile.Fact
	err    error
}

func newFake(t *testing.T, environ ...string) (*Proc, *fake) {
	t.Helper()
	f := &fake{}
	return New(Config{
		Environ: environ, SelfUID: 7, SelfGID: 8,
		Send: func(o []keeper.Order) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.sends++
			f.orders = append(f.orders, o...)
			return f.err
		},
		Facts: func(l []reconcile.Fact) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.facts = append(f.facts, l...)
		},
	}), f
}

// take returns n orders as soon as they are there.
func (f *fake) take(t *testing.T, n int) []keeper.Order {
	t.Helper()
	return poll(t, func() ([]keeper.Order, bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.Clone(f.orders), len(f.orders) >= n
	})
}

func (f *fake) takeFacts(t *testing.T, n int) []reconcile.Fact {
	t.Helper()
	return poll(t, func() ([]reconcile.Fact, bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.Clone(f.facts), len(f.facts) >= n
	})
}

func poll[T any](t *testing.T, ask func() (T, bool)) T {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		v, ok := ask()
		if ok {
			return v
		}
		if time.Now().After(end) {
			t.Fatalf("it did not come to that in 10 s: %v", v)
		}
	}
}

func program(change func(g *spec.Program)) *spec.Program {
	g := spec.Defaults()
	g.Command = "/bin/sleep"
	if change != nil {
		change(&g)
	}
	return &g
}

func order(kind reconcile.ActionKind, index int, run reconcile.RunID, g *spec.Program) reconcile.Order {
	return reconcile.Order{
		Action:  reconcile.Action{Kind: kind, ID: reconcile.InstanceID{Program: "web", Index: index}, Run: run, Launch: "launch", Tuning: "tuning", Signal: 10},
		Program: g, Generation: 3,
	}
}

// started is the start that one order of g becomes.
func started(t *testing.T, g *spec.Program, environ ...string) *keeper.Start {
	t.Helper()
	p, f := newFake(t, environ...)
	p.Do([]reconcile.Order{order(reconcile.ActionStart, 2, 41, g)})
	return f.take(t, 1)[0].Start
}

func TestDoSendsOneMessageInOrder(t *testing.T) {
	p, f := newFake(t)
	g := program(nil)
	p.Do([]reconcile.Order{
		order(reconcile.ActionStart, 0, 1, g), order(reconcile.ActionSignal, 0, 1, g), order(reconcile.ActionKill, 0, 1, g),
		order(reconcile.ActionSweep, 0, 1, g), order(reconcile.ActionPoke, 0, 1, g), order(reconcile.ActionTune, 0, 1, g),
		order(reconcile.ActionPreflight, -1, 0, g), order(reconcile.ActionForget, 0, 1, nil), order(reconcile.ActionUnset, 0, 1, g),
	})
	want := []keeper.OrderKind{
		keeper.OrderStart, keeper.OrderSignal, keeper.OrderKill, keeper.OrderSweep, keeper.OrderPoke, keeper.OrderTune, keeper.OrderPreflight, keeper.OrderForget,
	}
	got := f.take(t, len(want))
	if f.sends != 1 || len(got) != len(want) {
		t.Fatalf("%d orders in %d messages", len(got), f.sends)
	}
	for i, o := range got {
		if o.Kind != want[i] || o.Program != "web" {
			t.Errorf("order %d is %+v, should be of kind %d", i, o, want[i])
		}
	}
	if s := got[0].Start; s.Program != "web" || s.Run != 1 || s.LaunchDigest != "launch" || s.TuningDigest != "tuning" || s.Generation != 3 || s.Output.Keep != 10 {
		t.Errorf("start is %+v", s)
	}
	if got[1].Signal != 10 || got[5].Digest != "tuning" || got[6].Digest != "launch" {
		t.Errorf("orders lost what they are about: %+v", got)
	}
}

// The keeper takes no more than a frame: without an answer the instance would be
// starting for ever.
func TestAStartThatIsTooLargeFails(t *testing.T) {
	p, f := newFake(t)
	large := program(func(g *spec.Program) { g.Args = []string{strings.Repeat("x", keeper.MaxFrame)} })
	p.Do([]reconcile.Order{
		order(reconcile.ActionStart, 0, 1, large), order(reconcile.ActionStart, 1, 2, program(nil)), order(reconcile.ActionPreflight, -1, 0, large),
	})
	facts := f.takeFacts(t, 2)
	slices.SortFunc(facts, func(a, b reconcile.Fact) int { return int(b.Run) - int(a.Run) })
	if g := facts[0]; g.Kind != reconcile.FactStartFailed || g.Run != 1 || g.Errno != int(syscall.E2BIG) || !strings.Contains(g.Reason, "argument list too long") {
		t.Errorf("the start: %+v", g)
	}
	if g := facts[1]; g.Kind != reconcile.FactPreflight || !strings.Contains(g.Reason, "argument list too long") {
		t.Errorf("the preflight: %+v", g)
	}
	if got := f.take(t, 1); len(got) != 1 || got[0].Run != 2 || keeper.Size(&got[0]) > keeper.MaxFrame {
		t.Errorf("the keeper was told %+v", got)
	}
	if p.runs[1] != nil || p.runs[2] == nil {
		t.Error("a run is remembered that never was, or one that is not")
	}
}

func TestEveryActionHasAMaker(t *testing.T) {
	for kind := reconcile.ActionUnset + 1; kind <= reconcile.ActionPoke; kind++ {
		if makers[kind] == nil {
			t.Errorf("action %d cannot be carried out", kind)
		}
	}
}

func TestRequestIsExpanded(t *testing.T) {
	s := started(t, program(func(g *spec.Program) {
		g.Command = "srv"
		g.Args = []string{"$(instance)", "$(program)", "$(uid):$(gid)", "$(run_id)", "$(GREETING)", "$$(instance)", "$(nobody)", "$(PROCNANNY_INSTANCE)", "+%u", "$$"}
		g.Env = map[string]string{"GREETING": "hello $(NAME)", "NAME": "$(program)/$(instance)", "PATH": "/opt/$(program):$(PATH)", "A": "$(B)", "B": "$(A)", "PROCNANNY_INSTANCE": "9"}
		g.Dir, g.Stdin, g.Mode = "/srv/$(instance)", "in.$(instance)", spec.OutputMode{Kind: "file", File: "/log/$(NAME)"}
	}))
	r := s.Launch
	wantArgv := []string{"srv", "2", "web", "7:8", "41", "hello web/2", "$(instance)", "$(nobody)", "2", "+%u", "$$"}
	if !slices.Equal(r.Argv, wantArgv) {
		t.Errorf("argv is %q, should be %q", r.Argv, wantArgv)
	}
	wantEnv := []string{
		"PROCNANNY_PROGRAM=web", "PROCNANNY_INSTANCE=2", "PROCNANNY_RUN_ID=41",
		"A=$(A)", "B=$(B)", "GREETING=hello web/2", "NAME=web/2", "PATH=/opt/web:" + defaultPath,
	}
	if !slices.Equal(r.Env, wantEnv) {
		t.Errorf("env is %q, should be %q", r.Env, wantEnv)
	}
	if r.Dir != "/srv/2" || r.Stdin != "/srv/2/in.2" || r.Mode.File != "/log/web/2" || r.Umask != 0o022 {
		t.Errorf("request is %+v", r)
	}
	if len(r.Candidates) != 7 || r.Candidates[0] != "/opt/web/srv" || r.Candidates[6] != "/bin/srv" {
		t.Errorf("candidates are %q", r.Candidates)
	}
}

func TestCandidates(t *testing.T) {
	for _, tt := range []struct {
		command, path, dir string
		want               []string
	}{
		{"/bin/x", "/a:/b", "/", []string{"/bin/x"}},
		{"./x", "/a:/b", "/srv", []string{"/srv/x"}},
		{"bin/x", "/a", "/srv", []string{"/srv/bin/x"}},
		{"x", "/a:/b", "/srv", []string{"/a/x", "/b/x"}},
		{"x", "/a::rel", "/srv", []string{"/a/x", "/srv/x", "/srv/rel/x"}},
	} {
		if got := candidates(tt.command, tt.path, tt.dir); !slices.Equal(got, tt.want) {
			t.Errorf("%q in %q, %s: %q, should be %q", tt.command, tt.path, tt.dir, got, tt.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	daemon := []string{"LANG=C", "LC_ALL=x", "HOME=/root", "USER=root", "PATH=/daemon", "NOTIFY_SOCKET=/n", "LISTEN_FDS=1", "LISTEN_PID=2", "WATCHDOG_USEC=3", "PROCNANNY_STATE=/s", "SECRET=s"}
	user := spec.Identity{UID: 33, GID: 33, Switch: true, Name: "www", Home: "/var/www", Shell: "/bin/false"}
	asUser := []string{"HOME=/var/www", "LOGNAME=www", "SHELL=/bin/false", "USER=www"}
	tests := []struct {
		name   string
		change func(g *spec.Program)
		want   []string
	}{
		{"nothing", nil, []string{"PATH=" + defaultPath}},
		{"user", func(g *spec.Program) { g.Identity = user }, append([]string{"PATH=" + defaultPath}, asUser...)},
		{"unknown uid", func(g *spec.Program) {
			g.Identity, g.InheritEnv = spec.Identity{UID: 9, Switch: true}, spec.InheritEnv{Names: []string{"HOME"}}
		}, []string{"PATH=" + defaultPath}},
		{"own user", func(g *spec.Program) { g.Identity.Home = "/root" }, []string{"HOME=/root", "PATH=" + defaultPath}},
		{"all", func(g *spec.Program) { g.InheritEnv.All = true }, []string{"HOME=/root", "LANG=C", "LC_ALL=x", "PATH=/daemon", "SECRET=s", "USER=root"}},
		{"all as user", func(g *spec.Program) { g.InheritEnv.All, g.Identity = true, user }, append([]string{"LANG=C", "LC_ALL=x", "PATH=/daemon", "SECRET=s"}, asUser...)},
		{"names and globs", func(g *spec.Program) {
			g.InheritEnv.Names = []string{"LC_*", "LANG", "NOTIFY_SOCKET", "PROCNANNY_*", "NOPE", "["}
		}, []string{"LANG=C", "LC_ALL=x", "PATH=" + defaultPath}},
		{"env over all", func(g *spec.Program) {
			g.InheritEnv.All, g.Env = true, map[string]string{"LANG": "de", "NOTIFY_SOCKET": "/mine"}
		}, []string{"HOME=/root", "LANG=de", "LC_ALL=x", "NOTIFY_SOCKET=/mine", "PATH=/daemon", "SECRET=s", "USER=root"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := started(t, program(tt.change), daemon...).Launch.Env[3:]
			slices.Sort(tt.want)
			if !slices.Equal(got, tt.want) {
				t.Errorf("env is %q, should be %q", got, tt.want)
			}
		})
	}
}

func TestSharedPartsAreNotShared(t *testing.T) {
	p, f := newFake(t)
	g := program(nil)
	p.Do([]reconcile.Order{order(reconcile.ActionStart, 0, 1, g), order(reconcile.ActionStart, 1, 2, g)})
	other := program(func(g *spec.Program) { g.Args = []string{"9"} })
	p.Do([]reconcile.Order{order(reconcile.ActionStart, 2, 3, other)})
	got := f.take(t, 3)
	for i, o := range got {
		if want := "PROCNANNY_INSTANCE=" + string(rune('0'+i)); o.Start.Launch.Env[1] != want {
			t.Errorf("start %d has %q", i, o.Start.Launch.Env)
		}
	}
	if len(got[2].Start.Launch.Argv) != 2 {
		t.Errorf("a changed program starts as the old one: %q", got[2].Start.Launch.Argv)
	}
}

func TestEnvFilesAreReadAtEachStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env.2")
	write(t, file, "FROM_FILE='a b'\nOTHER=$(program)\nPATH=/from/file\n")
	g := program(func(g *spec.Program) {
		g.Command, g.EnvFiles = "x", []string{filepath.Dir(file) + "/env.$(instance)"}
		g.Env, g.Args = map[string]string{"OTHER": "env wins"}, []string{"$(FROM_FILE)"}
	})
	s := started(t, g)
	want := []string{"FROM_FILE=a b", "OTHER=env wins", "PATH=/from/file"}
	if !slices.Equal(s.Launch.Env[3:], want) || s.Launch.Argv[1] != "a b" || s.Launch.Candidates[0] != "/from/file/x" {
		t.Errorf("request is %+v, env should be %q", s.Launch, want)
	}
	write(t, file, "FROM_FILE=new\n")
	if env := started(t, g).Launch.Env; !slices.Contains(env, "FROM_FILE=new") {
		t.Errorf("second start has %q", env)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEnvFileErrorsAreStartErrors(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/bad", "A=1\nthis is a secret\n")
	write(t, dir+"/big", strings.Repeat("A=1\n", maxEnvFile/4+1))
	if err := syscall.Mkfifo(dir+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"/nope": "reading env file " + dir + "/nope: no such file or directory",
		"/bad":  "parsing env file " + dir + "/bad, line 2: invalid argument",
		"/big":  "reading env file " + dir + "/big: file too large",
		"/fifo": "reading env file " + dir + "/fifo, which is no regular file: invalid argument",
	} {
		p, f := newFake(t)
		g := program(func(g *spec.Program) { g.EnvFiles = []string{dir + file} })
		p.Do([]reconcile.Order{order(reconcile.ActionStart, 0, 5, g), order(reconcile.ActionPreflight, -1, 0, g)})
		facts := f.takeFacts(t, 2)
		slices.SortFunc(facts, func(a, b reconcile.Fact) int { return int(a.Kind) - int(b.Kind) })
		if a := facts[0]; a.Kind != reconcile.FactStartFailed || a.Reason != want || a.Run != 5 || a.Errno == 0 || a.At.IsZero() || !strings.HasPrefix(want, a.Step+": ") {
			t.Errorf("start: %+v, should say %q", a, want)
		}
		if b := facts[1]; b.Kind != reconcile.FactPreflight || b.Reason != want || b.Launch != "launch" || b.ID.Index != -1 {
			t.Errorf("preflight: %+v, should say %q", b, want)
		}
		if len(f.orders) > 0 {
			t.Errorf("%s: ordered %+v", file, f.orders)
		}
	}
}

func TestVariablesThatDoubleAreAnError(t *testing.T) {
	p, f := newFake(t)
	g := program(func(g *spec.Program) {
		g.Env = map[string]string{"V0": "xxxxxxxxxxxxxxxx"}
		for n := range 60 {
			prev := "$(V" + strconv.Itoa(n) + ")"
			g.Env["V"+strconv.Itoa(n+1)] = prev + prev
		}
	})
	p.Do([]reconcile.Order{order(reconcile.ActionStart, 0, 5, g)})
	if a := f.takeFacts(t, 1)[0]; a.Kind != reconcile.FactStartFailed || a.Errno != int(syscall.E2BIG) {
		t.Errorf("fact is %+v", a)
	}
}

// An instance whose start waits for a file takes its later orders with it;
// others overtake.
func TestSlowInstancesKeepTheirOrder(t *testing.T) {
	p, f := newFake(t)
	file := filepath.Join(t.TempDir(), "env")
	write(t, file, "A=1\n")
	slowly := program(func(g *spec.Program) { g.EnvFiles = []string{file} })
	quick := program(nil)
	const rounds = 200
	for n := range rounds {
		run := reconcile.RunID(2 * n)
		p.Do([]reconcile.Order{
			order(reconcile.ActionStart, 0, run, slowly), order(reconcile.ActionSignal, 0, run, slowly), order(reconcile.ActionKill, 0, run, slowly),
			order(reconcile.ActionStart, 1, run+1, quick),
		})
	}
	var mine []keeper.Order
	for _, o := range f.take(t, 4*rounds) {
		if o.Index == 0 {
			mine = append(mine, o)
		}
	}
	for i, o := range mine {
		kind := []keeper.OrderKind{keeper.OrderStart, keeper.OrderSignal, keeper.OrderKill}[i%3]
		if o.Kind != kind || o.Run != uint64(i/3*2) {
			t.Fatalf("order %d is %d of run %d", i, o.Kind, o.Run)
		}
	}
	poll(t, func() (int, bool) {
		p.slow.mu.Lock()
		defer p.slow.mu.Unlock()
		return p.slow.workers, p.slow.workers == 0 && len(p.slow.pending) == 0
	})
}

func TestProgramThatIsGone(t *testing.T) {
	p, f := newFake(t)
	p.Do([]reconcile.Order{order(reconcile.ActionStart, 0, 5, nil)})
	if a := f.takeFacts(t, 1)[0]; a.Kind != reconcile.FactStartFailed || a.Reason != "looking up program web: no such file or directory" {
		t.Errorf("fact is %+v", a)
	}
}
