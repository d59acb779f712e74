package reconcile

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the traces of testdata again")

// A story is a file of testdata: what happens, line by line, and below each
// line what comes of it, indented. Lines that begin with # are for readers.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 40 {
		t.Fatalf("there are %d stories: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { tell(t, file) })
	}
}

func tell(t *testing.T, file string) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	s := newStage()
	for n, line := range strings.Split(strings.TrimRight(string(raw), "\n"), "\n") {
		if strings.HasPrefix(line, "  ") {
			continue // the old trace
		}
		out.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := s.do(line); err != nil {
			t.Fatalf("%s:%d: %s: %v", file, n+1, line, err)
		}
		for _, l := range s.take() {
			out.WriteString("  " + l + "\n")
		}
		if err := Check(s.w); err != nil {
			t.Fatalf("%s:%d: after %q: %v", file, n+1, line, err)
		}
	}
	if out.String() == string(raw) {
		return
	}
	if !*update {
		t.Errorf("%s: the trace is another one now (run with -update and look at the difference):\n%s", file, firstDifference(string(raw), out.String()))
		return
	}
	if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for n := range max(len(w), len(g)) {
		a, b := "", ""
		if n < len(w) {
			a = w[n]
		}
		if n < len(g) {
			b = g[n]
		}
		if a != b {
			return fmt.Sprintf("line %d:\n- %s\n+ %s", n+1, a, b)
		}
	}
	return ""
}
