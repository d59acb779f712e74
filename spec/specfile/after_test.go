package specfile_test

import (
	"strings"
	"testing"

	"github.com/procnanny/procnanny/spec"
	"github.com/procnanny/procnanny/spec/specfile"
)

// Overrides that make programs wait for each other are refused, the newest first;
// so is one that breaks the schema, or a rule of the files. A name that nothing
// defines is no mistake of an override's: it may be created later.
func TestOverridesOfAfter(t *testing.T) {
	src := spec.Source{Files: map[string][]byte{"a.cue": []byte(`
programs: web: {command: "x", start: after: db: "running"}
programs: db: command: "x"
programs: free: {command: "x", start: after?: close({})}
`)}}
	for _, c := range []struct {
		list    []spec.Override
		refused map[int]string
	}{
		{[]spec.Override{override("db", "start.after.web", `"running"`)}, map[int]string{0: "it waits for itself: db after web after db"}},
		{[]spec.Override{override("db", "start.after", `{"late": "done"}`)}, nil},
		{[]spec.Override{override("web", "start.after", "null"), override("db", "start.after.web", `"running"`)}, nil},
		{[]spec.Override{override("db", "start", `{"after": {"db": "done"}}`)}, map[int]string{0: "it waits for itself"}},
		{[]spec.Override{
			override("late", spec.FieldProgram, `{"command": "x", "start": {"after": {"web": "running"}}}`),
			override("db", "start.after.late", `"done"`),
			override("db", "nice", `3`),
		}, map[int]string{1: "it waits for itself: db after late after web after db"}},
		{[]spec.Override{override("db", "start.after.web", `"soon"`)}, map[int]string{0: `expected "running" or "done"`}},
		{[]spec.Override{override("free", "start.after.db", `"running"`)}, map[int]string{0: "programs.free.start.after"}},
	} {
		res := specfile.Evaluate(spec.EvalRequest{Source: src, Overrides: c.list}, testHost)
		if res.Spec == nil {
			t.Fatalf("the files are refused: %v", res.Problems)
		}
		for n, o := range c.list {
			found := ""
			for _, p := range res.Refused[o.Key()] {
				found += p.Error() + "\n"
			}
			if want := c.refused[n]; (want == "") != (found == "") || !strings.Contains(found, want) {
				t.Errorf("%s %s=%s: refused with %q, want %q", o.Program, o.Field, o.Value, found, want)
			}
		}
	}
}
