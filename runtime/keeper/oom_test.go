package keeper

import (
	"os"
	"path/filepath"
	"testing"
)

// The kernel's counter of a leaf, as it stands at the start and at the end.
func TestRanOut(t *testing.T) {
	events := func(n string) string {
		return "low 0\nhigh 0\nmax 31\noom 2\noom_kill " + n + "\noom_group_kill 0\n"
	}
	for name, c := range map[string]struct {
		before, after string
		want          bool
	}{
		"nobody was killed":        {events("0"), events("0"), false},
		"somebody was killed":      {events("0"), events("1"), true},
		"in an earlier run":        {events("4"), events("4"), false},
		"again":                    {events("4"), events("6"), true},
		"no controller":            {"", "", false},
		"the controller came late": {"", events("1"), false},
		"the controller went":      {events("1"), "", false},
		"nonsense":                 {events("0"), events("many"), false},
		"cut short":                {events("0"), "low 0\noom_ki", false},
	} {
		t.Run(name, func(t *testing.T) {
			box := &cgroups{dir: t.TempDir()}
			in := &instance{instanceKey: instanceKey{"web", 0}}
			path := filepath.Join(box.leaf(in), "memory.events")
			must(t, os.Mkdir(box.leaf(in), 0o755))
			put := func(text string) {
				_ = os.Remove(path)
				if text != "" {
					must(t, os.WriteFile(path, []byte(text), 0o644))
				}
			}
			put(c.before)
			box.countOOM(in, false)
			put(c.after)
			if got := box.ranOut(&run{in: in}); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
	box := &cgroups{dir: t.TempDir()}
	in := &instance{instanceKey: instanceKey{"web", 0}}
	must(t, os.Mkdir(box.leaf(in), 0o755))
	must(t, os.WriteFile(filepath.Join(box.leaf(in), "memory.events"), []byte(events("9")), 0o644))
	if box.ranOut(&run{in: in, adopted: true}) {
		t.Error("an adopted run, whose count at the start nobody knows, ran out of memory")
	}
}
