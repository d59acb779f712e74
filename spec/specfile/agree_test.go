package specfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/procnanny/procnanny/spec"
)

// someHost answers as a host with some users, of a daemon that is root.
func someHost(spec.EvalNames) spec.Resolved {
	games := spec.Identity{UID: 5, GID: 60, Groups: []uint32{60}, Name: "games", Home: "/usr/games", Shell: "/bin/false"}
	root := spec.Identity{Name: "root", Home: "/root", Shell: "/bin/sh"}
	return spec.Resolved{
		Users: map[string]spec.Identity{"games": games, "root": root}, ByUID: map[uint32]spec.Identity{5: games, 0: root},
		Group: map[string]uint32{"games": 60, "adm": 4}, Self: spec.Identity{Groups: []uint32{0}}, NrOpen: 1 << 20,
	}
}

func userOfSomeHost(names spec.EvalNames) spec.Resolved {
	r := someHost(names)
	r.Self = spec.Identity{UID: 5, GID: 60, Groups: []uint32{60}}
	return r
}

func lenient(names spec.EvalNames) spec.Resolved {
	r := someHost(names)
	r.Users, r.Lenient = nil, true
	return r
}

var someHosts = []func(spec.EvalNames) spec.Resolved{someHost, userOfSomeHost, lenient}

// asJSON is a result in the form that all ways must agree on.
func asJSON(t *testing.T, res spec.EvalResult) string {
	t.Helper()
	raw, err := json.MarshalIndent(res, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// agree compares the quick way with CUE's own verdict on everything, and what
// comes through a pipe with both.
func agree(t *testing.T, req spec.EvalRequest, host func(spec.EvalNames) spec.Resolved) (good, quick bool) {
	t.Helper()
	slow, fast := start(req, true), start(req, false)
	wantNames, names := slow.Names(), fast.Names()
	want := slow.Finish(host(wantNames))
	got, short := fast.finish(host(names))
	if a, b := asJSON(t, want), asJSON(t, got); a != b {
		t.Fatalf("CUE says\n%s\nthe quick way says\n%s\nfiles:\n%s", a, b, show(req))
	}
	if want.Spec == nil {
		return false, false
	}
	if !reflect.DeepEqual(names, wantNames) {
		t.Fatalf("CUE asks for %+v, the quick way for %+v\n%s", wantNames, names, show(req))
	}
	if !reflect.DeepEqual(*want.Spec, *got.Spec) {
		t.Fatalf("CUE says\n%#v\nthe quick way says\n%#v\nfiles:\n%s", *want.Spec, *got.Spec, show(req))
	}
	raw, err := encode(got, short)
	if err != nil {
		t.Fatal(err)
	}
	var through spec.EvalResult
	if err := json.Unmarshal(raw, &through); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	if a, b := asJSON(t, want), asJSON(t, through); a != b {
		t.Fatalf("CUE says\n%s\nthrough the pipe comes\n%s\nfiles:\n%s", a, b, show(req))
	}
	return true, fast.plain != nil && len(fast.plain.rest) == 0
}

func show(req spec.EvalRequest) string {
	var b strings.Builder
	for name, data := range req.Source.Files {
		fmt.Fprintf(&b, "-- %s --\n%s\n", name, data)
	}
	for _, o := range req.Overrides {
		fmt.Fprintf(&b, "override %s %s = %s\n", o.Program, o.Field, o.Value)
	}
	return b.String()
}

// corpus is every configuration that there is to test with.
func corpus(t *testing.T) []spec.EvalRequest {
	t.Helper()
	var out []spec.EvalRequest
	paths, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, path := range paths {
		a, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		req := spec.EvalRequest{Source: spec.Source{Files: map[string][]byte{}}}
		for line := range strings.SplitSeq(string(a.Comment), "\n") {
			if name, ok := strings.CutPrefix(line, "single: "); ok {
				req.Source.Single = name
			}
		}
		for _, f := range a.Files {
			if !strings.HasPrefix(f.Name, "want") {
				req.Source.Files[f.Name] = f.Data
			}
		}
		out = append(out, req)
	}
	for _, dir := range []string{"hello", "web", "everything", "policy", "same/cue", "same/yaml", "same/json"} {
		req := spec.EvalRequest{Source: spec.Source{Files: map[string][]byte{}}}
		err := filepath.WalkDir(filepath.Join("../../examples", dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(filepath.Join("../../examples", dir), path)
			if err == nil {
				req.Source.Files[filepath.ToSlash(name)], err = os.ReadFile(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, req)
	}
	return append(out, several, ruled)
}

// several is a configuration of data in several files and languages.
var several = spec.EvalRequest{Source: spec.Source{Files: map[string][]byte{
	"a.cue":  []byte("package site\n\nprograms: web: {\n\tcommand: \"python3\"\n\tinstances: 3\n\tenv: {A: \"x\", \"B\": \"$(A)\"}\n\tlimits: nofile: {soft: 64, hard: 1Ki}\n}\nprograms: job: nice: 0x4\n"),
	"b.yaml": []byte("programs:\n  job:\n    command: /bin/true\n    user: games\n    restart: {when: [1, TERM], factor: 1.5, jitter: 0}\n  timer: {command: sleep, args: ['5'], umask: '027', ionice: {class: idle}}\nexit_when: job\n"),
	"c.json": []byte("{\"programs\": {\"café\": {\"command\": \"x\", \"on\": {\"crashed\": [{\"run\": {\"command\": \"mail\", \"user\": \"games\"}}]}, \"output\": {\"mode\": {\"file\": \"/tmp/x\"}}}},\n\"on\": {\"rejected\": [{\"webhook\": {\"url\": \"https://example.com/a\"}}]}}\n"),
	"d.cue":  []byte("{programs: {\"hello world\": {command: \"env\", {nice: -5}, stop: {signal: 2, timeout: \"1m\"}, success_exit: 7}}}\n"),
}}}

// ruled is a configuration with rules about ids, and with templates.
var ruled = spec.EvalRequest{Source: spec.Source{Files: map[string][]byte{
	"policy.cue": []byte("package site\n\nprograms: [Name=string]: {\n\tinstances?: <=32\n\tuid?: !=0\n\tnice?: >=0\n\t[=~\"id$\"]: _\n\tenv?: NAME: Name\n}\nprograms: [=~\"^adm\"]: gid?: 60\n"),
	"job.cue":    []byte("package site\n\n#Job: {\n\tcommand: string\n\targs: [...string]\n\tnice: *5 | int\n\tuser: *\"games\" | string\n\tlimits: nofile: 64\n}\n#Open: {command: \"true\", uid?: 5 | 6, ...}\n"),
	"a.cue":      []byte("package site\n\nprograms: web: #Job & {\n\tcommand: \"x\"\n\targs: [\"a\"]\n}\nprograms: job: #Open & {\n\tgroup: \"games\"\n\tuid: 5\n}\n"),
	"b.cue":      []byte("package site\n\nprograms: admin: {\n\tcommand: \"x\"\n\tuid: 5\n\tgid: 60\n}\nprograms: adm: {\n\tcommand: \"x\"\n\tuser: \"games\"\n}\n"),
	"c.yaml":     []byte("programs:\n  timer:\n    command: sleep\n    args: ['5']\n    user: games\n    env: {A: b}\n"),
}}}

// The two ways agree on everything that there is to test with, or on a third of
// it unless PROCNANNY_TEST_MUTANTS is set: the mutants are made of the same.
func TestQuickAndThoroughAgree(t *testing.T) {
	all, quick := corpus(t), 0
	for i, req := range all {
		if i%3 != 0 && i < len(all)*3/4 && os.Getenv("PROCNANNY_TEST_MUTANTS") == "" {
			continue
		}
		if good, q := agree(t, req, someHosts[i%len(someHosts)]); good && q {
			quick++
		}
	}
	if quick < 8 {
		t.Errorf("only %d verdicts were quick", quick)
	}
}

// mutant is a configuration with a few things changed at random.
func mutant(r *rand.Rand, all []spec.EvalRequest) spec.EvalRequest {
	from := all[r.IntN(len(all))]
	switch r.IntN(4) {
	case 0:
		from = several
	case 1:
		from = ruled
	}
	req := spec.EvalRequest{Source: spec.Source{Single: from.Source.Single, Files: map[string][]byte{}}}
	maps.Copy(req.Source.Files, from.Source.Files)
	for range min(len(req.Source.Files), 1) * r.IntN(4) {
		names := sortedKeys(req.Source.Files)
		name := names[r.IntN(len(names))]
		req.Source.Files[name] = mutate(r, req.Source.Files[name])
	}
	for range max(0, r.IntN(5)-2) {
		program, set := []string{"web", "job", "new"}[r.IntN(3)], sets[r.IntN(len(sets))]
		req.Overrides = append(req.Overrides, spec.Override{Program: program, Field: set[0], Value: json.RawMessage(set[1])})
	}
	return req
}

// sets are overrides, good and bad.
var sets = [][2]string{
	{"instances", "2"},
	{"instances", "-1"},
	{"nice", "5"},
	{"nice", "null"},
	{"limits.nofile", "70"},
	{"limits.nofile.soft", "9"},
	{"user", `"games"`},
	{"program", `{"command": "x"}`},
	{"program", `{"command": 4}`},
	{"admin", `"down"`},
	{"env.A", `"y"`},
	{"args", `["a"]`},
	{"bogus", "1"},
}

// pieces are what is put in place of a word.
var pieces = strings.Split("5 -1 0 1.5 2.0 1e3 99999999999 64Mi 0o22 true null \"\" \"x\" \"10s\" \"TERM\" [] [1] {} {a:1} command nice user uid env limits "+
	"\"games\" \"root\" \"nobody\" >3 int|*4 string web $(x) $$ é \"é\" _ _x #D {{ }} , : programs on exit_when \"0\" 07 #\"y\"# 'b' \"\\u0000\" -0 .5 1_000 0x10", " ")

func mutate(r *rand.Rand, data []byte) []byte {
	lines := strings.SplitAfter(string(data), "\n")
	i := r.IntN(len(lines))
	switch r.IntN(5) {
	case 0: // a line goes
		lines[i] = ""
	case 1: // a line comes twice, perhaps elsewhere
		j := r.IntN(len(lines))
		lines[j] += lines[i]
	default: // a word becomes another
		words := strings.FieldsFunc(lines[i], func(r rune) bool { return strings.ContainsRune(" \t\n:,{}[]", r) })
		if len(words) > 0 {
			piece := pieces[r.IntN(len(pieces))]
			if r.IntN(3) == 0 {
				piece = words[r.IntN(len(words))]
			}
			lines[i] = strings.Replace(lines[i], words[r.IntN(len(words))], piece, 1)
		}
	}
	return []byte(strings.Join(lines, ""))
}

// The two ways agree on configurations with mistakes in them.
// PROCNANNY_TEST_MUTANTS is how many; a seed of its own is told on failure.
func TestQuickAndThoroughAgreeOnMutants(t *testing.T) {
	n := 40
	if s := os.Getenv("PROCNANNY_TEST_MUTANTS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	all, seed, good, quick := corpus(t), uint64(1), 0, 0
	if n > 40 {
		seed = rand.Uint64()
	}
	for i := range n {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		req := mutant(r, all)
		if endless(req) {
			continue
		}
		ok := t.Run(fmt.Sprintf("%d,%d", seed, i), func(t *testing.T) {
			g, q := agree(t, req, someHosts[r.IntN(len(someHosts))])
			if g {
				good++
			}
			if q {
				quick++
			}
		})
		if !ok {
			return
		}
	}
	t.Logf("%d mutants, %d good, %d plain", n, good, quick)
	if good == 0 || quick == 0 || good == n {
		t.Errorf("of %d mutants %d are good and %d plain: that tests nothing", n, good, quick)
	}
}

// endless reports whether an evaluation may take long, which is for the limits
// that this process does not have.
func endless(req spec.EvalRequest) bool {
	for _, data := range req.Source.Files {
		if bytes.Contains(data, []byte("list.R")) || bytes.Contains(data, []byte("strings.Repeat")) {
			return true
		}
	}
	return false
}

// The schema's own text is understood, and each of its definitions is tried with
// what it allows by the examples above.
func TestRulesUnderstandTheSchema(t *testing.T) {
	if all, err := rules(); err != nil || len(all) != 2 {
		t.Fatalf("%d rules, %v", len(all), err)
	}
}
