package specfile_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/spec"
	"github.com/procnanny/procnanny/spec/specfile"
)

// fuzzMax keeps inputs small: what takes long is the limits' business, which
// this process does not have.
const fuzzMax = 2000

// halfMax is how large a file may be to be cut off at every line of it.
const halfMax = 150

// FuzzParse gives anything to the evaluator's side of the dialogue, in each
// language. Whatever it is, there is a verdict: a specification, or an error.
func FuzzParse(f *testing.F) {
	languages := []string{"a.cue", "a.yaml", "a.json"}
	for _, seed := range []string{
		"programs: web: {command: \"x\", instances: 3}", "programs:\n  web:\n    command: x\n    nice: 4\n",
		`{"programs": {"web": {"command": "x", "limits": {"nofile": 5}}}}`, "a: &a [*a]", "programs: web: #W\n#W: #W", "\xff", "{", "[", "if",
		"programs: [string]: {uid?: !=0}\nprograms: web: {command: \"x\", user: \"root\"}", "import \"list\"\nprograms: web: args: list.Range(0, 3, 1)",
		"programs:\r web:\r  command: x\r///", "# a\u2028# b\u2028# c\nprograms: {}",
	} {
		for i := range languages {
			f.Add(byte(i), []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, language byte, data []byte) {
		// Loops and arithmetic on large numbers never end; that is for the limits.
		if len(data) > fuzzMax || bytes.Contains(data, []byte("for")) || bytes.ContainsAny(data, "*|") || bytes.Contains(data, []byte("import")) {
			return
		}
		serve(t, languages[int(language)%len(languages)], data)
	})
}

// serve has one file judged by way of Serve.
func serve(t *testing.T, name string, data []byte) {
	t.Helper()
	o := spec.Override{Program: "web", Field: "instances", Value: json.RawMessage("4")}
	req := spec.EvalRequest{Source: spec.Source{Files: map[string][]byte{name: data}}, Overrides: []spec.Override{o}}
	var in, out bytes.Buffer
	for _, v := range []any{req, testHost(spec.EvalNames{})} {
		if err := json.NewEncoder(&in).Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := specfile.Serve(&in, &out); err != nil {
		t.Fatalf("no verdict: %v", err)
	}
	var names spec.EvalNames
	var res spec.EvalResult
	dec := json.NewDecoder(&out)
	if err := dec.Decode(&names); err != nil {
		t.Fatal(err)
	}
	if err := dec.Decode(&res); err != nil {
		t.Fatal(err)
	}
	if (res.Spec == nil) == (len(res.Problems.Errors()) == 0) {
		t.Fatalf("neither good nor bad: %+v", res)
	}
	for _, p := range res.Problems {
		if p.Line > 0 && strings.Contains(p.SourceLine, "\n") {
			t.Fatalf("a source line of several lines: %q", p.SourceLine)
		}
		_ = p.Text()
	}
}

func TestServeRefusesNonsense(t *testing.T) {
	for _, in := range []string{"", "{", "[]", "{}\n", "{}\n{", strings.Repeat("[", 100_000)} {
		var out bytes.Buffer
		if err := specfile.Serve(strings.NewReader(in), &out); err == nil {
			t.Errorf("%.20q gives %q", in, out.String())
		}
	}
}

// Every short file that is good, cut off at every line: a half-written save is an error or
// says less, and never more than that.
func TestHalfWrittenFiles(t *testing.T) {
	for _, g := range goldens(t, "good") {
		for _, f := range g.archive.Files {
			if strings.HasPrefix(f.Name, "want") || len(f.Data) > halfMax {
				continue
			}
			lines := bytes.SplitAfter(f.Data, []byte("\n"))
			for i := range lines {
				cut := bytes.Join(lines[:i], nil)
				req := g.req
				req.Source.Files = map[string][]byte{}
				maps.Copy(req.Source.Files, g.req.Source.Files)
				req.Source.Files[f.Name] = cut
				res := specfile.Evaluate(req, g.host)
				if (res.Spec == nil) == (len(res.Problems.Errors()) == 0) {
					t.Errorf("%s, %d lines of %s: neither good nor bad", g.name(), i, f.Name)
				}
			}
		}
	}
}
