package runtime_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/spec"
)

var update = flag.Bool("update", false, "write the generated parts of README.md again")

const readme = "../README.md"

// generated are the parts of README.md that are printed from the code, by the
// name in their marker.
var generated = map[string]func() string{
	"access": rpc.AccessReference,
	"costs":  costs,
	"map":    codeMap,
	"states": reconcile.StatesMarkdown,
	"wire":   rpc.WireReference,
}

// elsewhere are parts that a test of another room holds: spec/specfile is the
// only one that may read the schema.
var elsewhere = map[string]bool{"config": true}

func TestReadmeSaysWhatTheCodeSays(t *testing.T) {
	raw, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, name := range slices.Sorted(maps.Keys(generated)) {
		begin := "<!-- generated: " + name + " -->\n"
		before, rest, ok := strings.Cut(text, begin)
		old, after, ok2 := strings.Cut(rest, "<!-- end -->")
		if !ok || !ok2 {
			t.Errorf("README.md has no part %q between %q and <!-- end -->", name, begin)
			continue
		}
		now := "\n" + strings.TrimSpace(generated[name]()) + "\n\n"
		if now != old && !*update {
			t.Errorf("the part %q of README.md is not what the code says now: run `make docs` and look at the difference", name)
		}
		text = before + begin + now + "<!-- end -->" + after
	}
	for line := range strings.SplitSeq(text, "\n") {
		name, ok := strings.CutPrefix(line, "<!-- generated: ")
		if name = strings.TrimSuffix(name, " -->"); ok && generated[name] == nil && !elsewhere[name] {
			t.Errorf("README.md says that the part %q is generated, but nobody generates it", name)
		}
	}
	if *update {
		if err := os.WriteFile(readme, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// costs lists the keys by what a change of each costs.
func costs() string {
	keys := map[spec.Cost][]string{}
	for _, k := range spec.KeyCosts() {
		keys[k.Cost] = append(keys[k.Cost], "`"+k.Key+"`")
		if k.Key == "output" {
			keys[spec.CostProcess] = append(keys[spec.CostProcess], "`output.mode`")
		}
	}
	var b strings.Builder
	b.WriteString("| A change of | costs |\n|---|---|\n")
	for _, cost := range []spec.Cost{spec.CostProcess, spec.CostLive, spec.CostInstance, spec.CostNothing} {
		fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(keys[cost], ", "), cost)
	}
	return b.String()
}

// codeMap prints the import table in reading order: what depends on nothing first.
func codeMap() string {
	var b strings.Builder
	b.WriteString("| Package | may import (ours) | because |\n|---|---|---|\n")
	for _, name := range slices.SortedFunc(maps.Keys(rooms), byDepth) {
		may := "–"
		if m := rooms[name].may; len(m) > 0 {
			may = strings.Join(m, ", ")
		}
		fmt.Fprintf(&b, "| [%s](%s) | %s | %s |\n", name, name, may, rooms[name].why)
	}
	return b.String()
}

func byDepth(a, b string) int {
	if d := depth(a) - depth(b); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// depth is the length of the longest chain of imports below a room.
func depth(name string) int {
	d := 0
	for _, below := range rooms[name].may {
		d = max(d, depth(below)+1)
	}
	if strings.HasPrefix(name, "cmd/") || strings.HasPrefix(name, "examples") {
		d += 100 // last, whatever they import
	}
	return d
}
