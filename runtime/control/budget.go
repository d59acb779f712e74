package control

import (
	"fmt"
	"sort"
	"strings"

	"github.com/procnanny/procnanny/spec"
)

// descriptors is what an instance costs the keeper: one to know of its end,
// and one for each pipe, by output mode.
var descriptors = map[string]uint64{"merged": 2, "separate": 3, "null": 1, "inherit": 1, "file": 1}

// overBudget says with the arithmetic that s needs more descriptors than the
// keeper may open; nil if it does not.
func (c *Control) overBudget(s spec.Spec) *spec.Problem {
	h := c.cfg.Hello
	if h.NoFile <= h.Reserved {
		return nil // the keeper did not say
	}
	total := uint64(0)
	for _, p := range s.Programs {
		total += uint64(p.Instances) * descriptors[p.Mode.Kind]
	}
	if total <= h.NoFile-h.Reserved {
		return nil
	}
	return &spec.Problem{
		Path: "programs",
		Message: fmt.Sprintf("too many instances: they need %d descriptors (%s), and procnannyd may have %d: RLIMIT_NOFILE is %d, less %d for itself; raise its hard limit or lower instances",
			total, arithmetic(s), h.NoFile-h.Reserved, h.NoFile, h.Reserved),
	}
}

// arithmetic shows the three programs that cost most.
func arithmetic(s spec.Spec) string {
	type cost struct {
		name     string
		instance int
		each     uint64
	}
	var all []cost
	for name, p := range s.Programs {
		all = append(all, cost{name, p.Instances, descriptors[p.Mode.Kind]})
	}
	sort.Slice(all, func(i, j int) bool {
		a, b := uint64(all[i].instance)*all[i].each, uint64(all[j].instance)*all[j].each
		return a > b || a == b && all[i].name < all[j].name
	})
	var parts []string
	for _, k := range all[:min(3, len(all))] {
		parts = append(parts, fmt.Sprintf("%s: %d x %d", k.name, k.instance, k.each))
	}
	if n := len(all) - len(parts); n > 0 {
		parts = append(parts, fmt.Sprintf("and %d more programs", n))
	}
	return strings.Join(parts, ", ")
}
