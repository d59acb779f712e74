package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/runtime/watch"
	"github.com/procnanny/procnanny/spec"
)

// built is a directory with the evaluator in it, as users have it: the race
// detector has a memory of its own, which the limits would end.
var built string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if built, err = os.MkdirTemp("", "evaluator"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(built)
		if err := os.Chmod(built, 0o755); err != nil {
			panic(err)
		}
		if out, err := exec.Command("go", "build", "-o", built, ".").CombinedOutput(); err != nil {
			panic(string(out))
		}
		return m.Run()
	}())
}

func evaluator() *watch.Evaluator { return &watch.Evaluator{Path: built + "/procnanny-eval"} }

func source(name, text string) spec.Source {
	return spec.Source{Root: "/etc/procnanny", Files: map[string][]byte{name: []byte(text)}}
}

func evaluate(t *testing.T, src spec.Source, overrides ...spec.Override) spec.EvalResult {
	t.Helper()
	res, err := evaluator().Evaluate(context.Background(), src, overrides, false)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestEvaluate(t *testing.T) {
	res := evaluate(t, source("a.cue", `programs: web: {command: "x", args: ["é", "\u0000"[:0]], instances: 3}`))
	if res.Spec != nil || len(res.Problems) == 0 {
		t.Errorf("a bad file gives %+v", res)
	}
	res = evaluate(t, source("a.cue", `programs: web: {command: "x", args: ["é"], instances: 3}`))
	if res.Spec == nil || res.Spec.Programs["web"].Instances != 3 || res.Spec.Programs["web"].Args[0] != "é" {
		t.Fatalf("a good file gives %+v", res)
	}
	if id := res.Spec.Programs["web"].Identity; id.UID != uint32(os.Geteuid()) || id.Switch {
		t.Errorf("identity: %+v", id)
	}
	o := spec.Override{Program: "web", Field: "instances", Value: json.RawMessage("-4")}
	res = evaluate(t, source("a.cue", `programs: web: command: "x"`), o)
	if len(res.Refused[o.Key()]) == 0 {
		t.Errorf("-4 instances: %+v", res.Refused)
	}
}

// bombs are configurations that never end, or eat all memory. Each is refused
// with the reason in a few seconds.
func TestBombs(t *testing.T) {
	disjunction := ""
	for i := range 18 {
		disjunction += fmt.Sprintf("#d: {a%d: 1} | {b%d: 1}\n", i, i)
	}
	laughs := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		laughs += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 10), ","))
	}
	const program = "\nprograms: web: command: \"x\"\n"
	bombs := map[string]struct{ file, text, says string }{
		"disjunctions":  {"a.cue", disjunction + program, "evaluation"},
		"comprehension": {"a.cue", "import \"list\"\n_a: [for i in list.Range(0, 9000, 1) for j in list.Range(0, 9000, 1) {i * j}]\n_b: len(_a)" + program, "evaluation"},
		"repeat":        {"a.cue", "import \"list\"\n_a: list.Repeat([{a: 1}], 1000000)" + program, ""},
		"memory":        {"a.cue", "_a: 1000*(1000000*\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\")" + program, "evaluation took more than 512 MiB of memory"},
		"doubling":      {"a.cue", doubling(40) + program, "evaluation took more than 512 MiB of memory"},
		"laughs":        {"a.yaml", laughs + "programs:\n  web:\n    command: x\n", ""},
		"deep JSON":     {"a.json", `{"programs": ` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000) + "}", ""},
		"deep CUE":      {"a.cue", "a: " + strings.Repeat("{a: ", 100_000) + "1" + strings.Repeat("}", 100_000), ""},
		"deep YAML":     {"a.yaml", "a: " + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), ""},
		"parentheses":   {"a.cue", "a: " + strings.Repeat("(", 1_000_000) + "1" + strings.Repeat(")", 1_000_000), ""},
		"programs":      {"a.cue", "import \"list\"\nfor i in list.Range(0, 1000000, 1) {programs: \"p\\(i)\": command: \"x\"}\n", "evaluation"},
	}
	for name, b := range bombs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			res := evaluate(t, source(b.file, b.text))
			took := time.Since(began)
			if res.Spec != nil || len(res.Problems.Errors()) == 0 {
				t.Fatalf("it was accepted after %v", took)
			}
			t.Logf("%v: %.200s", took.Round(time.Millisecond), res.Problems[0].Error())
			if first := res.Problems[0].Error(); !strings.Contains(first, b.says) || strings.Contains(first, "no verdict") || len(first) > 1000 {
				t.Errorf("expected %q, found %.1000q", b.says, first)
			}
			if took > time.Minute { // on a busy machine; else the deadline of 5 s is kept
				t.Errorf("it took %v", took)
			}
		})
	}
}

func doubling(n int) string {
	var b strings.Builder
	b.WriteString("_s0: \"xxxxxxxxxx\"\n")
	for i := range n {
		fmt.Fprintf(&b, "_s%d: _s%d + _s%d\n", i+1, i, i)
	}
	return b.String()
}

// children are the evaluators that this process runs now.
func children(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, dir := range dirs {
		status, err := os.ReadFile(dir + "/status")
		line, err2 := os.ReadFile(dir + "/cmdline")
		if err == nil && err2 == nil && strings.Contains(string(status), "\nPPid:\t"+strconv.Itoa(os.Getpid())+"\n") && strings.Contains(string(line), "procnanny-eval") {
			out = append(out, dir)
		}
	}
	return out
}

// What the kernel says about an evaluator: it is nobody, has three
// descriptors, and cannot have more of anything. Also where nobody cannot reach
// the program, so that it has to give up root by itself.
func TestEvaluatorIsHarmless(t *testing.T) {
	t.Setenv("SECRET", "hunter2")
	for _, mode := range []os.FileMode{0o755, 0o700} {
		if err := os.Chmod(built, mode); err != nil {
			t.Fatal(err)
		}
		e, looked := evaluator(), 0
		e.Resolve = func(names spec.EvalNames) spec.Resolved { // it waits for this answer
			for _, dir := range children(t) {
				looked++
				look(t, dir)
			}
			return watch.Resolve(names)
		}
		res, err := e.Evaluate(context.Background(), source("a.cue", `programs: web: command: "x"`), nil, false)
		if err != nil || res.Spec == nil || looked != 1 {
			t.Fatalf("%o: %+v, %v, %d children", mode, res, err, looked)
		}
		if left := children(t); len(left) > 0 {
			t.Errorf("it is still there: %v", left)
		}
	}
	if err := os.Chmod(built, 0o755); err != nil {
		t.Fatal(err)
	}
}

func look(t *testing.T, dir string) {
	t.Helper()
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		t.Fatal(err)
	}
	wanted := []string{"\nNoNewPrivs:\t1\n", "\nCapEff:\t0000000000000000\n"}
	if os.Geteuid() == 0 {
		wanted = append(wanted, "\nUid:\t65534\t65534\t65534\t65534\n", "\nGid:\t65534\t65534\t65534\t65534\n", "\nGroups:\t \n")
	}
	for _, want := range wanted {
		if !strings.Contains(string(status), want) {
			t.Errorf("its status does not say %q:\n%s", want, status)
		}
	}
	limits, err := os.ReadFile(dir + "/limits")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Max data size": "536870912", "Max cpu time": "3", "Max open files": "0", "Max core file size": "0"} {
		for line := range strings.SplitSeq(string(limits), "\n") {
			if rest, ok := strings.CutPrefix(line, name); ok {
				if f := strings.Fields(rest); len(f) < 2 || f[0] != want || f[1] != want {
					t.Errorf("%s: expected %s, found %s", name, want, rest)
				}
			}
		}
	}
	if fds, err := os.ReadDir(dir + "/fd"); err == nil {
		for _, fd := range fds {
			target, _ := os.Readlink(dir + "/fd/" + fd.Name())
			if inherited, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && inherited == target {
				continue // whoever runs the tests let us have it
			}
			if !strings.HasPrefix(target, "pipe:") && !strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/sys/fs/cgroup/") {
				t.Errorf("descriptor %s is %s", fd.Name(), target)
			}
		}
	}
	if env, err := os.ReadFile(dir + "/environ"); err == nil && strings.Contains(string(env), "SECRET") {
		t.Error("it has our environment")
	}
}

func TestEvaluatorThatFails(t *testing.T) {
	src := source("a.cue", `programs: web: command: "x"`)
	cases := map[string]struct {
		e    watch.Evaluator
		says string
	}{
		"says nothing": {watch.Evaluator{Path: "/bin/true"}, "gave no verdict"},
		"fails":        {watch.Evaluator{Path: "/bin/sh", Args: []string{"-c", "echo broken >&2; exit 3"}}, "the evaluator failed: broken"},
		"falls over":   {watch.Evaluator{Path: "/bin/sh", Args: []string{"-c", "dd if=/dev/zero of=/dev/null bs=300M count=1 2>/dev/null; echo SIGSEGV >&2; exit 2"}}, "more than 512 MiB"},
		"hangs":        {watch.Evaluator{Path: "/bin/sleep", Args: []string{"60"}, Deadline: 100 * time.Millisecond}, "evaluation took longer than 100ms"},
		"babbles":      {watch.Evaluator{Path: "/bin/sh", Args: []string{"-c", "exec cat /dev/zero"}}, "evaluat"},
		"is killed":    {watch.Evaluator{Path: "/bin/sh", Args: []string{"-c", "kill -SEGV $$"}}, "killed by signal 11"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			res, err := c.e.Evaluate(context.Background(), src, nil, false)
			if err != nil || res.Spec != nil || !strings.Contains(res.Problems.Error(), c.says) {
				t.Errorf("expected %q, found %v, %v", c.says, res.Problems, err)
			}
		})
	}
	missing := watch.Evaluator{Path: "/no/such/evaluator"}
	if _, err := missing.Evaluate(context.Background(), src, nil, false); err == nil || !strings.Contains(err.Error(), "cannot run the evaluator /no/such/evaluator") {
		t.Errorf("a missing evaluator: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := evaluator().Evaluate(ctx, src, nil, false); err == nil {
		t.Error("a context that ended gives a verdict")
	}
}

// The biggest configuration that anybody should have: a thousand programs, from
// the start of the process to the verdict.
func BenchmarkThousandPrograms(b *testing.B) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "programs: \"prog%d\": {command: \"/usr/bin/env\", args: [\"sh\", \"-c\", \"exec sleep %d\"], nice: 5, ionice: 6, dir: \"/tmp\", "+
			"umask: \"022\", env: A: \"x%d\", limits: nofile: 1024, restart: delay: \"1s\", stop: timeout: \"5s\", success_exit: [0]}\n", i, i, i)
	}
	src := source("a.cue", text.String())
	for b.Loop() {
		res, err := evaluator().Evaluate(context.Background(), src, nil, false)
		if err != nil || res.Spec == nil || len(res.Spec.Programs) != 1000 {
			b.Fatalf("%v, %v", res.Problems, err)
		}
	}
}
