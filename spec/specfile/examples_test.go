package specfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/spec"
	"github.com/procnanny/procnanny/spec/specfile"
)

// example reads an example's directories as one configuration.
func example(t *testing.T, dirs ...string) spec.Source {
	t.Helper()
	src := spec.Source{Root: "/etc/procnanny", Files: map[string][]byte{}}
	for _, dir := range dirs {
		root := filepath.Join("../../examples", dir)
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err == nil {
				src.Files[filepath.ToSlash(name)], err = os.ReadFile(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return src
}

func TestExamplesAreGood(t *testing.T) {
	for _, dirs := range [][]string{{"hello"}, {"hello", "hello/root"}, {"web"}, {"everything"}, {"policy"}, {"same/cue"}, {"same/yaml"}, {"same/json"}} {
		res := specfile.Evaluate(spec.EvalRequest{Source: example(t, dirs...)}, testHost)
		if res.Spec == nil || len(res.Spec.Programs) == 0 {
			t.Errorf("%v: %v", dirs, res.Problems)
		}
	}
}

func TestThreeLanguagesSayTheSame(t *testing.T) {
	digests := map[string]spec.Digest{}
	for _, language := range []string{"cue", "yaml", "json"} {
		res := specfile.Evaluate(spec.EvalRequest{Source: example(t, "same/"+language)}, testHost)
		if res.Spec == nil {
			t.Fatalf("%s: %v", language, res.Problems)
		}
		digests[language] = res.Spec.Digest()
	}
	if digests["cue"] != digests["yaml"] || digests["cue"] != digests["json"] {
		t.Errorf("they differ: %v", digests)
	}
}

// One error names both files: what was written, and the rule.
func TestPolicyExample(t *testing.T) {
	res := specfile.Evaluate(spec.EvalRequest{Source: example(t, "policy", "policy/bad")}, testHost)
	var first string
	for _, p := range res.Problems.Errors() {
		if p.Path == "programs.greedy.instances" {
			first = p.Error()
		}
	}
	if !strings.HasPrefix(first, "greedy.cue:9:") || !strings.Contains(first, "policy.cue:7:") || !strings.Contains(first, "<=32") {
		t.Errorf("the error is %q, of %v", first, res.Problems)
	}
	for _, who := range []string{`user: "root"`, `uid: 0`, `nice: 0`} {
		src := example(t, "policy")
		src.Files["mine.cue"] = []byte("package site\n\nprograms: mine: {command: \"true\", " + who + "}\n")
		res := specfile.Evaluate(spec.EvalRequest{Source: src}, testHost)
		if got := res.Problems.Errors().Error(); !strings.HasPrefix(got, "mine.cue:3:") || !strings.Contains(got, "policy.cue:") {
			t.Errorf("%s as root gives %q", who, got)
		}
	}
	// The rule binds scale as well.
	o := override("shop web", "instances", "33")
	res = specfile.Evaluate(spec.EvalRequest{Source: example(t, "policy"), Overrides: []spec.Override{o}}, testHost)
	if got := res.Refused[o.Key()].Error(); !strings.Contains(got, "<=32") || !strings.Contains(got, "policy.cue:7:") {
		t.Errorf("33 instances over RPC give %q", got)
	}
}
