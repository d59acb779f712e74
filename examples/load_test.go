package examples_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/runtime/daemontest"
	"github.com/procnanny/procnanny/spec"
)

// vet gives the verdict on a directory, and what was said.
func vet(t *testing.T, dir string) (string, error) {
	t.Helper()
	cmd := exec.Command(bin+"/procnanny", "vet", dir)
	cmd.Env = daemontest.Environ()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestEveryExampleLoads(t *testing.T) {
	for _, dir := range []string{"hello", "hello+hello/root", "web", "everything", "policy", "same/cue", "same/yaml", "same/json", "page", "balancer", "rebuild"} {
		t.Run(dir, func(t *testing.T) {
			config := t.TempDir()
			for part := range strings.SplitSeq(dir, "+") {
				copyFiles(t, config, part)
			}
			if out, err := vet(t, config); err != nil {
				t.Errorf("procnanny vet: %v\n%s", err, out)
			}
		})
	}
}

// All directories with a configuration are tried above.
func TestNoExampleIsForgotten(t *testing.T) {
	known := map[string]bool{"hello": true, "web": true, "everything": true, "policy": true, "same": true, "clients": true, "systemd": true, "container": true, "page": true, "balancer": true, "rebuild": true, "coming-from": true}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !known[e.Name()] {
			t.Errorf("nothing tries examples/%s", e.Name())
		}
	}
}

func TestPolicyRefusesAndNamesBothFiles(t *testing.T) {
	config := t.TempDir()
	copyFiles(t, config, "policy", "policy/bad/greedy.cue")
	out, err := vet(t, config)
	if err == nil {
		t.Fatalf("64 instances were accepted:\n%s", out)
	}
	for _, want := range []string{`greedy\.cue:9:\d+`, `policy\.cue:7:\d+`, `programs\.greedy\.instances`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the error does not have %s:\n%s", want, out)
		}
	}
}

func TestPolicyRefusesRoot(t *testing.T) {
	for _, key := range []string{`user: "root"`, `uid: 0`} {
		config := t.TempDir()
		copyFiles(t, config, "policy")
		text := "package site\n\nprograms: mine: {command: \"true\", " + key + "}\n"
		if err := os.WriteFile(config+"/mine.cue", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := vet(t, config)
		if err == nil || !strings.Contains(out, "mine.cue:3") || !strings.Contains(out, "policy.cue") {
			t.Errorf("%s: expected an error that names mine.cue:3 and policy.cue, found %v:\n%s", key, err, out)
		}
	}
}

// evaluate runs one evaluation as the daemon does, on a host that knows nobody.
func evaluate(t *testing.T, dir string) spec.Spec {
	t.Helper()
	root, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	source := spec.Source{Root: root, Files: map[string][]byte{}}
	files, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if source.Files[filepath.Base(file)], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(bin + "/procnanny-eval")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var names spec.EvalNames
	var result spec.EvalResult
	in, out := json.NewEncoder(stdin), json.NewDecoder(stdout)
	for _, step := range []func() error{
		func() error { return in.Encode(spec.EvalRequest{Source: source}) },
		func() error { return out.Decode(&names) },
		func() error { return in.Encode(spec.Resolved{Lenient: true}) },
		func() error { return out.Decode(&result) },
		cmd.Wait,
	} {
		if err := step(); err != nil {
			t.Fatalf("cannot evaluate %s: %v", dir, err)
		}
	}
	if result.Spec == nil {
		t.Fatalf("%s was refused: %v", dir, result.Problems)
	}
	return *result.Spec
}

func TestThreeLanguagesSayTheSame(t *testing.T) {
	cue := evaluate(t, "same/cue")
	if len(cue.Programs) != 2 {
		t.Fatalf("expected 2 programs, found %d", len(cue.Programs))
	}
	for _, dir := range []string{"same/yaml", "same/json"} {
		if got := evaluate(t, dir); got.Digest() != cue.Digest() {
			a, _ := json.MarshalIndent(cue, "", " ")
			b, _ := json.MarshalIndent(got, "", " ")
			t.Errorf("%s says something else than same/cue:\n%s\n%s", dir, b, a)
		}
	}
}

// The example that shows everything is the one place where a newcomer can see
// every key, so it has to have them all, each with a comment nearby.
func TestEverythingShowsEveryKey(t *testing.T) {
	raw, err := os.ReadFile("everything/everything.cue")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	keys := spec.Keys()
	for _, typ := range []reflect.Type{
		reflect.TypeFor[spec.Capabilities](), reflect.TypeFor[spec.IONice](), reflect.TypeFor[spec.Sched](), reflect.TypeFor[spec.Cgroup](),
		reflect.TypeFor[spec.Output](), reflect.TypeFor[spec.Rotate](), reflect.TypeFor[spec.Start](), reflect.TypeFor[spec.Restart](),
		reflect.TypeFor[spec.Flap](), reflect.TypeFor[spec.Stop](), reflect.TypeFor[spec.Update](), reflect.TypeFor[spec.Limit](),
	} {
		for field := range typ.Fields() {
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			keys = append(keys, key)
		}
	}
	keys = append(keys, "mode", "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile",
		"nproc", "rss", "rtprio", "rttime", "sigpending", "stack")
	for _, key := range keys {
		if !regexp.MustCompile(`(?m)(^|[\s{])` + key + `:`).MatchString(text) {
			t.Errorf("everything.cue does not show %s", key)
		}
	}
}
