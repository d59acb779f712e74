package specfile_test

import (
	"maps"
	"testing"

	"github.com/procnanny/procnanny/spec"
	"github.com/procnanny/procnanny/spec/specfile"
)

// Whoever deletes a program that files define is told which files those are.
func TestDefinedSaysWhereProgramsAreWritten(t *testing.T) {
	src := spec.Source{Files: map[string][]byte{
		"a.cue": []byte("#base: {command: \"x\", ...}\nprograms: web: #base\nprograms: {\n\t\"hello world\": command: \"y\"\n}\n" +
			"programs: [string]: nice?: <5\nprograms: {api: #base} & {web: nice: 3}\nfor n in [\"w1\"] {programs: (n): #base}\n"),
		"b.yaml": []byte("programs:\n  web:\n    umask: '027'\n"),
		"c.json": []byte(`{"programs": {"job": {"command": "z"}}}`),
	}}
	res := specfile.Evaluate(spec.EvalRequest{Source: src}, testHost)
	if len(res.Problems.Errors()) > 0 {
		t.Fatal(res.Problems)
	}
	want := map[string]string{"web": "a.cue:2, a.cue:7, b.yaml:2", "hello world": "a.cue:4", "api": "a.cue:7", "job": "c.json:1"}
	if !maps.Equal(res.Defined, want) {
		t.Errorf("defined is %v, not %v", res.Defined, want)
	}
	if _, ok := res.Spec.Programs["w1"]; !ok {
		t.Error("the computed program, which has no place, is missing")
	}
}
