package proc

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/spec"
)

// Hook is a command to start beside the programs: it has a place in the keeper
// and in the log directory of its own, and nothing in the world.
type Hook struct {
	Name  string // in the keeper, see spec.RunName
	Index int
	Run   uint64
	// ID is what it is about: what $(program) and $(instance) mean. An index below
	// 0 is none.
	ID      reconcile.InstanceID
	Command *spec.HookRun
	// Identity is who it runs as.
	Identity spec.Identity
	// Vars are further variables, by name.
	Vars  map[string]string
	Input string // on stdin
}

// hookOutput bounds what is kept of what hooks write.
var hookOutput = keeper.Output{RotateBytes: 1 << 20, Keep: 2, Drop: true, Timestamps: true}

// StartHook is the order that starts h, or why there can be none. Its facts are
// not the core's: they are known by their program's name.
func (p *Proc) StartHook(h Hook) (keeper.Order, error) {
	c := h.Command
	g := spec.Defaults()
	g.Launch = spec.Launch{Command: c.Command, Args: c.Args, Dir: c.Dir, Env: c.Env, Identity: h.Identity, Mode: spec.OutputMode{Kind: "merged"}}
	g.Limits = c.Limits
	o := reconcile.Order{Program: &g, Action: reconcile.Action{ID: h.ID, Run: reconcile.RunID(h.Run)}}
	x := p.expander(o, &prepared{program: &g, base: p.baseEnv(&g)})
	for name, value := range h.Vars {
		x.special[name] = strings.ReplaceAll(value, "\x00", "") // nothing that exec cannot pass
	}
	r := x.request()
	own := []string{"PROCNANNY_RUN_ID=" + strconv.FormatUint(h.Run, 10), "PROCNANNY_PROGRAM=" + h.ID.Program}
	if h.ID.Index >= 0 {
		own = append(own, "PROCNANNY_INSTANCE="+strconv.Itoa(h.ID.Index))
	}
	for _, name := range slices.Sorted(maps.Keys(h.Vars)) {
		own = append(own, name+"="+x.special[name])
	}
	r.Env = append(own, r.Env...)
	k := keeper.Order{Kind: keeper.OrderStart, Run: h.Run, Program: h.Name, Index: h.Index, Start: &keeper.Start{
		Program: h.Name, Index: h.Index, Run: h.Run, Launch: r, Output: hookOutput, Input: h.Input,
	}}
	return k, fits(&k)
}

// Wall is a time of the keeper's by the wall's clock.
func Wall(bootNS int64) time.Time {
	wall, boot := machineClock()
	return clock{wall, boot}.at(bootNS)
}

// IsHook reports whether a keeper's run is that of a hook.
func IsHook(program string) bool { return strings.HasPrefix(program, spec.HookPrefix) }

// SplitHooks takes the runs of hooks out of what a keeper holds.
func SplitHooks(h *keeper.Hello) []keeper.Run {
	var hooks []keeper.Run
	h.Runs = slices.DeleteFunc(h.Runs, func(r keeper.Run) bool {
		if IsHook(r.Program) {
			hooks = append(hooks, r)
			return true
		}
		return false
	})
	slices.SortFunc(hooks, func(a, b keeper.Run) int { return cmp.Compare(a.Run, b.Run) })
	return hooks
}

// SplitFacts takes the facts about hooks out of what a keeper said.
func SplitFacts(facts []keeper.Fact) (programs, hooks []keeper.Fact) {
	if !slices.ContainsFunc(facts, func(f keeper.Fact) bool { return IsHook(f.Program) }) {
		return facts, nil
	}
	for _, f := range facts {
		if IsHook(f.Program) {
			hooks = append(hooks, f)
		} else {
			programs = append(programs, f)
		}
	}
	return programs, hooks
}
