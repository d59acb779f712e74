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
		Result:  "`programs`, by name: command, args (as written), uid, gid, nice, ionice (level), active, instances (by integer), ionice_class, generation (the configuration it is held to: the one accepted last), flapping, overrides (as in `overrides`), desired, and, when there is something to say, held (why a roll does not go on), defined (false: on its way out). An instance: pid (0 when no process lives), state, exitcode (-1 when a signal ended it), exitsignal, admin_state, run_id, since, uptime, starts, last_exit, next_start, containment, pending, and, when there is something to say, drift, output_fault (why its output cannot be written now), output_dropped (bytes), flapping, finished, waits (for these programs, by start.after), exit_unknown. `last_exit`: code, signal (a name, or nil), core, at, duration, cause, error when it could not start, and exit_unknown. `config`: state (ok, rejected), generation, digest, error, commit, pinned, ahead, problems, and keeper_stalled (since when procnannyd is stopped, so that nothing is done). `observed_at`. A page that is not the last has `next`, the `after` of the next one.",
		Request: `{"program": "hello world"}`,
		Reply:   `{"programs": {"hello world": {"command": "/usr/bin/env", "args": ["sh", "-c", "echo hello $(instance)"], "uid": 1000, "gid": 1000, "nice": 5, "ionice": 7, "active": true, "instances": {"0": {"pid": 1001, "state": "running", "exitcode": 0, "exitsignal": 0, "admin_state": "up", "run_id": 1, "since": 1767322985, "uptime": 61, "starts": 1, "last_exit": null, "next_start": null, "containment": "cgroup", "pending": null}, "1": {"pid": 1002, "state": "running", "exitcode": 0, "exitsignal": 0, "admin_state": "up", "run_id": 2, "since": 1767322985, "uptime": 61, "starts": 1, "last_exit": null, "next_start": null, "containment": "cgroup", "pending": null}, "2": {"pid": 0, "state": "exited", "exitcode": 0, "exitsignal": 0, "admin_state": "down", "run_id": 3, "since": 1767322985, "uptime": 0, "starts": 1, "last_exit": null, "next_start": null, "containment": "cgroup", "pending": null}}, "ionice_class": "best-effort", "generation": 7, "flapping": false, "overrides": [{"instance": 2, "field": "admin", "value": "down", "replaced": null, "by": {"how": "rpc", "uid": 1000, "gid": 1000, "pid": 4711}, "at": 1767319445, "until": "boot", "reason": null}], "desired": 3}}, "config": {"state": "ok", "generation": 7, "digest": "0123456789abcdef", "error": null, "commit": "f00dfeed", "pinned": null, "ahead": false}, "observed_at": 1767323035}`,
		Handler: status,
	},
	{
		Name: "why", Access: AccessRead,
		Doc:     "Why instances are as they are: what is desired and who said so, what is, what it waits for and until when, how it ended the last times, and what one can do.",
		Args:    []Arg{argProgram, argInstance},
		Result:  "`program`; `desired` (count); `held`, `flapping`, `config` (state); `instances`, by integer: desired (up, down, gone), because, state, since, pid, waits_for, until, last_ends (code, signal, core, at, duration, cause, run_id, output: the last lines that it wrote, for up to 4 instances), can_do (method names), text (the same for people, one paragraph).",
		Request: `{"program": "web", "instance": 1}`,
		Reply:   `{"program": "web", "desired": 2, "held": null, "flapping": false, "config": "ok", "instances": {"1": {"desired": "up", "because": "uid 1000 set instances to 2 over rpc at 2026-01-02 01:04:05Z: Friday (until 2026-01-02 04:04:05Z)", "state": "backoff", "since": 1767322985, "pid": 0, "waits_for": "its next start", "until": 1767323047, "last_ends": [{"code": -1, "signal": "SEGV", "core": true, "at": 1767323044, "duration": 90, "cause": "crash", "run_id": 5, "output": ["GET /", "GET /favicon.ico"]}], "can_do": ["start", "restart", "stop", "logs", "history", "reset"], "text": "web/1 is in state backoff for 1m0s. It shall be up, because uid 1000 set instances to 2 over rpc at 2026-01-02 01:04:05Z: Friday (until 2026-01-02 04:04:05Z). It waits for its next start, at 2026-01-02 03:04:07Z. Its last run was ended by signal SEGV and left a core at 2026-01-02 03:04:04Z, after 1m30s (crash)."}}}`,
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
		p := v.Program(name)
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
	p := v.Program(c.Args.Str("program"))
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
	runs, err := c.Backend.Runs(ctx, RunQuery{Program: p.Name, Instance: c.Args.IntPtr("instance"), Limit: min(lastEnds*max(len(list), 20), maxRecords)})
	if err != nil {
		return nil, err
	}
	sort.Ints(list)
	instances := make(IntMap, len(list))
	for n, index := range list {
		r := reason{program: p, instance: p.Instance(index), id: reconcile.InstanceID{Program: p.Name, Index: index}, now: c.now(), view: v, pinned: v.Config.Pinned}
		instances[n] = IntField{index, r.reply(c.ends(ctx, p, runs, index, len(list) <= fewInstances))}
	}
	return Map{
		{"program", p.Name},
		{"desired", desired(p)},
		{"held", orNil(p.Held)},
		{"flapping", p.Flapping},
		{"config", v.Config.State},
		{"instances", instances},
	}, nil
}

// Output is told for so many instances at once, and so much of it.
const (
	fewInstances  = 4
	lastLines     = 5
	lastLineBytes = 4 << 10 // of all of them
)

// ends are the last ended runs of an instance, the newest first, with the last
// lines that each wrote.
func (c *Call) ends(ctx context.Context, p *ProgramView, runs []Run, index int, output bool) []Map {
	out := []Map{}
	for i := len(runs) - 1; i >= 0 && len(out) < lastEnds; i-- {
		r := &runs[i]
		if r.Exit == nil || r.ID.Index != index {
			continue
		}
		m, _ := lastExit(r.Exit).(Map)
		m = append(m, Field{"run_id", uint64(r.Run)})
		if output {
			m = append(m, Field{"output", c.lastWords(ctx, p, r)})
		}
		out = append(out, m)
	}
	return out
}

// lastWords are the last lines that a run wrote: on stderr, where that is apart.
func (c *Call) lastWords(ctx context.Context, p *ProgramView, r *Run) []string {
	lines := []string{}
	if c.Server.Logs == nil || r.PID == 0 {
		return lines
	}
	q := LogQuery{Program: r.ID.Program, Instance: r.ID.Index, Run: uint64(r.Run), Tail: lastLines, Limit: lastLineBytes}
	if p.Spec.Mode.Kind == "separate" {
		q.Stream = "stderr"
	}
	chunk, err := c.Server.lastOutput(ctx, q)
	if err != nil {
		return lines // it is told without
	}
	for line := range strings.Lines(string(chunk.Data)) {
		lines = append(lines, strings.ToValidUTF8(strings.TrimRight(line, "\r\n"), "\ufffd"))
	}
	return lines
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
