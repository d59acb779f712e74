package rpc

import (
	"context"
	"sort"
	"strings"

	"github.com/procnanny/procnanny/reconcile"
)

var statusMethods = []Method{
	{
		Name: "status", Access: AccessRead, Quick: true, SlowIf: "fresh",
		Doc: "What runs, and whether it is what shall run. Programs are sorted by name. `uptime` is at most a second old; observed values are of `observed_at`.",
		Args: []Arg{
			{Name: "program", Type: TypeString, Doc: "only this program, by its exact name"},
			{Name: "fresh", Type: TypeBool, Doc: "read observed values from the kernel now"},
			{Name: "after", Type: TypeString, Doc: "a page: only programs whose name sorts after this one"},
			{Name: "limit", Type: TypeInt, Min: 1, Max: 100_000, Doc: "a page: how many programs at most"},
		},
		Result:  "`programs`, by name: command, args (as written), uid, gid, nice, ionice (level), active, instances (by integer), ionice_class, generation, flapping, overrides, desired, and held (why a roll does not go on). An instance: pid, state, exitcode (-1 when a signal ended it), exitsignal, admin_state, run_id, since, uptime, starts, last_exit, next_start, containment, pending, and drift, finished, exit_unknown when there is something to say. `config`: state (ok, rejected), generation, digest, error, commit, pinned, ahead, problems. `observed_at`. A page that is not the last has `next`, the `after` of the next one.",
		Handler: status,
	},
	{
		Name: "why", Access: AccessRead,
		Doc:     "Why instances are as they are: what is desired and who said so, what is, what it waits for and until when, how it ended the last times, and what one can do.",
		Args:    []Arg{argProgram, argInstance},
		Result:  "`program`; `desired` (count); `held`, `flapping`, `config` (state); `instances`, by integer: desired (up, down, gone), because, state, since, pid, waits_for, until, last_ends (code, signal, core, at, duration, cause), can_do (method names), text (the same for people, one paragraph).",
		Handler: why,
	},
}

func status(ctx context.Context, c *Call) (any, error) {
	v := c.Backend.View()
	if c.Args.Bool("fresh") {
		var err error
		if v, err = c.Backend.Fresh(ctx); err != nil {
			return nil, err
		}
	}
	var raw []byte
	var err error
	switch name := c.Args.Str("program"); {
	case c.Args.Has("program"):
		p := findProgram(v, name)
		if p == nil {
			return nil, noProgram(name)
		}
		raw, err = c.Server.status.One(v, p, c.now())
	case c.Args.Has("after") || c.Args.Has("limit"):
		raw, err = c.Server.status.Page(v, c.Args.Str("after"), c.Args.Int("limit", MaxIndex), c.now())
	default:
		raw, err = c.Server.status.Whole(v, c.now())
	}
	return Raw(raw), err
}

// lastEnds is how many ends `why` tells of each instance.
const lastEnds = 5

func why(ctx context.Context, c *Call) (any, error) {
	v := c.Backend.View()
	p := findProgram(v, c.Args.Str("program"))
	if p == nil {
		return nil, noProgram(c.Args.Str("program"))
	}
	list := indexes(p)
	if n := c.Args.IntPtr("instance"); n != nil {
		if !hasIndex(p, *n) {
			return nil, Errorf(CodeNotFound, "there is no instance %s: %s", idText(p.Name, *n), countText(p))
		}
		list = []int{*n}
	}
	runs, err := c.Backend.Runs(ctx, RunQuery{Program: p.Name, Instance: c.Args.IntPtr("instance"), Limit: lastEnds * max(len(list), 20)})
	if err != nil {
		return nil, err
	}
	sort.Ints(list)
	instances := make(IntMap, len(list))
	for n, index := range list {
		r := reason{program: p, instance: findInstance(p, index), id: reconcile.InstanceID{Program: p.Name, Index: index}, now: c.now()}
		instances[n] = IntField{index, r.reply(ends(runs, index))}
	}
	return Map{
		{"program", p.Name}, {"desired", desired(p)}, {"held", orNil(p.Held)}, {"flapping", p.Flapping},
		{"config", v.Config.State}, {"instances", instances},
	}, nil
}

// ends are the last ended runs of an instance, the newest first.
func ends(runs []Run, index int) []Map {
	out := []Map{}
	for i := len(runs) - 1; i >= 0 && len(out) < lastEnds; i-- {
		if e := runs[i].Exit; e != nil && runs[i].ID.Index == index {
			m, _ := lastExit(e).(Map)
			out = append(out, m)
		}
	}
	return out
}

// sentence makes one text of its parts.
func sentence(parts ...string) string {
	var full []string
	for _, p := range parts {
		if p != "" {
			full = append(full, p)
		}
	}
	return strings.Join(full, ". ") + "."
}
