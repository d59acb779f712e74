package specfile

import (
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/spec"
)

// updating reports whether -update was given, which golden_test.go defines.
func updating() bool { f := flag.Lookup("update"); return f != nil && f.Value.String() == "true" }

// tags are the keys of a Go struct's JSON form.
func tags(types ...reflect.Type) []string {
	var out []string
	for _, t := range types {
		for field := range t.Fields() {
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if key != "-" {
				out = append(out, key)
			}
		}
	}
	return out
}

var limitNames = []string{
	"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
}

// structs are the schema's structs and the Go types that they become.
var structs = map[string][]string{
	"":              spec.Keys(),
	"capabilities":  tags(reflect.TypeFor[spec.Capabilities]()),
	"ionice":        tags(reflect.TypeFor[spec.IONice]()),
	"limits":        limitNames,
	"limits.nofile": tags(reflect.TypeFor[spec.Limit]()),
	"sched":         tags(reflect.TypeFor[spec.Sched]()),
	"cgroup":        tags(reflect.TypeFor[spec.Cgroup]()),
	"output":        append(tags(reflect.TypeFor[spec.Output]()), "mode"),
	"output.mode":   {"file"},
	"output.rotate": tags(reflect.TypeFor[spec.Rotate]()),
	"start":         tags(reflect.TypeFor[spec.Start]()),
	"restart":       tags(reflect.TypeFor[spec.Restart]()),
	"restart.flap":  tags(reflect.TypeFor[spec.Flap]()),
	"stop":          tags(reflect.TypeFor[spec.Stop]()),
	"update":        tags(reflect.TypeFor[spec.Update]()),
	"on":            spec.HookEvents,
	"on[]":          tags(reflect.TypeFor[spec.Hook]()),
	"stop.before":   tags(reflect.TypeFor[spec.Before]()),
}

// anywhere are structs that stand in several places, by the end of their path.
var anywhere = map[string][]string{
	"run":     slices.DeleteFunc(tags(reflect.TypeFor[spec.HookRun]()), func(key string) bool { return key == "identity" }),
	"webhook": tags(reflect.TypeFor[spec.Webhook]()),
	"limits":  limitNames,
}

// goKeys are the keys that Go has for a struct of the schema.
func goKeys(path string) ([]string, bool) {
	at := strings.LastIndexByte(path, '.')
	if strings.HasSuffix(path[:max(at, 0)], "limits") && slices.Contains(limitNames, path[at+1:]) {
		return structs["limits.nofile"], true
	}
	if keys, ok := structs[path]; ok {
		return keys, true
	}
	keys, ok := anywhere[path[at+1:]]
	return keys, ok
}

func eachNode(n *node, path string, visit func(path string, n *node)) {
	visit(path, n)
	if path == "on" { // every event has a list of the same
		eachNode(n.fields[0].element, "on[]", visit)
	}
	for _, f := range n.fields {
		eachNode(f, strings.TrimPrefix(path+"."+f.key, "."), visit)
	}
}

// The schema and the Go types have the same keys, both ways.
func TestSchemaAndTypesAgree(t *testing.T) {
	seen := map[string]bool{}
	eachNode(compileSchema(newContext()).tree(), "", func(path string, n *node) {
		keys := n.keys()
		if len(keys) == 0 {
			return
		}
		seen[path] = true
		want, ok := goKeys(path)
		if !ok {
			t.Errorf("%s is a struct in the schema that no test compares", path)
		}
		slices.Sort(keys)
		want = slices.Clone(want)
		slices.Sort(want)
		if !slices.Equal(keys, want) {
			t.Errorf("%q: the schema has %v, Go has %v", path, keys, want)
		}
	})
	for path, keys := range structs {
		if len(keys) > 0 && !seen[path] {
			t.Errorf("%s is a struct in Go, but not in the schema", path)
		}
	}
}

// Every key says in words what it is and what it must be.
func TestEveryKeyIsDescribed(t *testing.T) {
	eachNode(compileSchema(newContext()).tree(), "", func(path string, n *node) {
		if n.expect == "" && path != "on[]" {
			t.Errorf("%s has no @expect", path)
		}
		if n.doc == "" && path != "" && path != "on[]" {
			t.Errorf("%s has no comment", path)
		}
	})
}

// What the comments call the default is what a program gets.
func TestCommentsNameTheDefaults(t *testing.T) {
	spelled := map[string]string{
		"output.rotate.size": "10Mi", "success_exit": "0", "output.mode": `"merged"`,
	}
	n := 0
	eachNode(compileSchema(newContext()).tree(), "", func(path string, node *node) {
		value := spec.Defaults().Get(path)
		if len(node.fields) > 0 && path != "output.mode" || value == nil || path == "command" || path == "" {
			return
		}
		want := string(value)
		if s, ok := spelled[path]; ok {
			want = s
		}
		if d, err := duration(value); err == nil {
			want = d
		}
		n++
		if !strings.Contains(strings.ReplaceAll(node.doc, ", the file", ". "), "Default: "+want) {
			t.Errorf("%s: the default is %s, the comment says %q", path, want, node.doc)
		}
	})
	if n < 15 {
		t.Errorf("only %d defaults were compared", n)
	}
}

// duration is a span as people write it: "60s", not "1m0s".
func duration(raw json.RawMessage) (string, error) {
	var d spec.Duration
	if err := json.Unmarshal(raw, &d); err != nil {
		return "", err
	}
	text := map[string]string{"1m0s": "60s"}
	if s, ok := text[d.String()]; ok {
		return `"` + s + `"`, nil
	}
	return `"` + d.String() + `"`, nil
}

func TestReadmeHasTheReference(t *testing.T) {
	const file, begin, end = "../../README.md", "<!-- generated: config -->\n", "<!-- end -->"
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(raw), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("README.md has no part between %q and %q", begin, end)
	}
	now := "\n" + strings.TrimSpace(Reference()) + "\n\n"
	switch {
	case now == old:
	case updating():
		if err := os.WriteFile(file, []byte(before+begin+now+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the reference in README.md is not what the schema says now: go test ./spec/specfile -run Readme -update")
	}
}
