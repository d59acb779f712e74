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
		"nobody was killed":         {events("0"), events("0"), false},
		"somebody was killed":       {events("0"), events("1"), true},
		"in an earlier run":         {events("4"), events("4"), false},
		"again":                     {events("4"), events("6"), true},
		"no controller":             {"", "", false},
		"the controller came late":  {"", events("1"), true},
		"it came and killed nobody": {"", events("0"), false},
		"the controller went":       {events("1"), "", false},
		"nonsense":                  {events("0"), events("many"), false},
		"cut short":                 {events("0"), "low 0\noom_ki", false},
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
}

// Who adopts a run knows the count at its start by the note, as far as it was
// known; an older version's note has none.
func TestAdoptedRunsRunOutToo(t *testing.T) {
	box := &cgroups{dir: t.TempDir()}
	former := &instance{instanceKey: instanceKey{"web", 0}, oomKills: 8, oomKnown: true}
	must(t, os.Mkdir(box.leaf(former), 0o755))
	must(t, os.WriteFile(filepath.Join(box.leaf(former), "memory.events"), []byte("oom_kill 9\n"), 0o644))
	v, err := parseNote((&keeper{}).noteOf(newRun(former, 7)).text())
	must(t, err)
	r := newRun(&instance{instanceKey: former.instanceKey}, 7)
	if r.take(&v); !box.ranOut(r) {
		t.Error("one more was killed since its start, and it is not said to have run out of memory")
	}
	v.OOMKills = nil
	if r.take(&v); box.ranOut(r) {
		t.Error("it is said to have run out of memory, and nobody knows the count at its start")
	}
}
