package specfile_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/procnanny/procnanny/spec"
	"github.com/procnanny/procnanny/spec/specfile"
)

var update = flag.Bool("update", false, "write what is expected anew")

// golden is one file of testdata: the comment may name one of the hosts or say "single: NAME", then come the configuration's files and what
// is expected.
type golden struct {
	path    string
	archive *txtar.Archive
	req     spec.EvalRequest
	host    func(spec.EvalNames) spec.Resolved
	want    map[string]string
}

func goldens(t *testing.T, dir string) []*golden {
	t.Helper()
	paths, err := filepath.Glob("testdata/" + dir + "/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in testdata/%s: %v", dir, err)
	}
	var out []*golden
	for _, path := range paths {
		a, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		g := &golden{path: path, archive: a, host: testHost, want: map[string]string{}}
		g.req.Source.Files = map[string][]byte{}
		for line := range strings.SplitSeq(string(a.Comment), "\n") {
			if name, ok := strings.CutPrefix(line, "single: "); ok {
				g.req.Source.Single = name
			}
			if host, ok := hosts[line]; ok {
				g.host = host
			}
		}
		for _, f := range a.Files {
			if strings.HasPrefix(f.Name, "want") {
				g.want[f.Name] = string(f.Data)
			} else {
				g.req.Source.Files[f.Name] = f.Data
			}
		}
		out = append(out, g)
	}
	return out
}

func (g *golden) name() string { return strings.TrimSuffix(filepath.Base(g.path), ".txtar") }

// expect compares a part of what is expected, or writes it anew.
func (g *golden) expect(t *testing.T, part, got string) {
	t.Helper()
	if got == g.want[part] {
		return
	}
	if !*update {
		t.Errorf("%s: expected\n%s\nfound\n%s", part, g.want[part], got)
		return
	}
	var files []txtar.File
	for _, f := range g.archive.Files {
		if f.Name != part {
			files = append(files, f)
		}
	}
	if got != "" {
		files = append(files, txtar.File{Name: part, Data: []byte(got)})
	}
	g.archive.Files = files
	if err := os.WriteFile(g.path, txtar.Format(g.archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// text is what a person reads.
func text(ps spec.Problems) string {
	var b strings.Builder
	for _, p := range ps {
		if p.Warning {
			b.WriteString("warning: ")
		}
		b.WriteString(p.Text() + "\n")
	}
	return b.String()
}

func TestBadConfigurations(t *testing.T) {
	all := goldens(t, "bad")
	if len(all) < 60 {
		t.Errorf("only %d cases", len(all))
	}
	for _, g := range all {
		t.Run(g.name(), func(t *testing.T) {
			res := specfile.Evaluate(g.req, g.host)
			if res.Spec != nil || len(res.Problems.Errors()) == 0 {
				t.Error("it was accepted")
			}
			for _, p := range res.Problems.Errors() {
				if p.File == "" || p.Line == 0 && g.req.Source.Single == "" {
					t.Errorf("no place: %s", p.Error())
				}
			}
			got := text(res.Problems)
			if strings.Contains(got, "hunter") || strings.Contains(got, "(schema)") || strings.Contains(got, "(identity)") {
				t.Error("it tells what it should not")
			}
			g.expect(t, "want", got)
		})
	}
}

func TestGoodConfigurations(t *testing.T) {
	for _, g := range goldens(t, "good") {
		t.Run(g.name(), func(t *testing.T) {
			res := specfile.Evaluate(g.req, g.host)
			g.expect(t, "want-warnings", text(res.Problems))
			if res.Spec == nil {
				t.Fatalf("it was refused:\n%s", text(res.Problems))
			}
			raw, err := json.Marshal(res.Spec)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := json.Indent(&b, raw, "", "  "); err != nil {
				t.Fatal(err)
			}
			g.expect(t, "want.json", b.String()+"\n")
		})
	}
}
