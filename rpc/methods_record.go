package rpc

import (
	"context"
	"math"
	"strings"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// Bounds of one page.
const (
	maxRecords = 10_000
	maxLogRead = 1 << 20
	maxMarks   = 4096
)

var argRecords = Arg{Name: "limit", Type: TypeInt, Min: 1, Max: maxRecords, Doc: "how many at most; 1000"}

var recordMethods = []Method{
	{
		Name: "history", Access: AccessRead,
		Doc: "The process lives of a program, oldest first; the newest `limit` of them.",
		Args: []Arg{
			argProgram, argInstance,
			{Name: "since", Type: TypeTime, Doc: "only those that lived then or later: seconds since 1970"},
			{Name: "until", Type: TypeTime, Doc: "only those that began then or before"},
			{Name: "outcome", Type: TypeString, Max: 20, Doc: "only those that ended so: `crash` (could not start too), `exit`, `stopped` (whyever), `unknown`, or `alive`"},
			{Name: "totals", Type: TypeBool, Doc: "add `totals` over all of the time from `since` to `until`, or from the first run there ever was until now; what was before the oldest run that is kept is left out, and their `since` says so. Filters by outcome and limit do not concern them"},
			argRecords,
		},
		Result:  "`runs`, each: run_id, program, instance, pid, start, end, duration, exitcode, exitsignal, core, cause, generation, by (who asked for its end, or else for its start; nil is policy or the files), start_cause; error when it could not start; exit_unknown when the kernel could not tell. A living run has no end, exitcode, exitsignal, core and cause. Also commit, started_by, cpu (seconds) and peak_memory (bytes) of the main process and the children it waited for, and drain (ok, answer, took) where they are known. `totals`, if asked for: a map for the program and, in `instances`, for each: since, until, wall, up and down (seconds; up and down are wall), up_share, starts, crashes, ends, cpu.",
		Request: `{"program": "web", "instance": 1, "limit": 10}`,
		Reply:   `{"runs": [{"run_id": 5, "program": "web", "instance": 1, "pid": 1005, "start": 1767322954, "end": 1767323044, "duration": 90, "exitcode": -1, "exitsignal": 11, "core": true, "cause": "crash", "generation": 7, "by": {"how": "rpc", "uid": 1000, "gid": 1000, "pid": 4711}, "start_cause": "scale"}]}`,
		Handler: history,
	},
	{
		Name: "events", Access: AccessRead,
		Doc: "Events that were published, oldest first: what a subscriber missed.",
		Args: []Arg{
			{Name: "since", Type: TypeInt, Max: math.MaxInt, Doc: "only those with a higher seq; 0"},
			{Name: "topic", Type: TypeString, Max: 1000, Doc: "only topics that begin so"},
			argRecords,
		},
		Result:  "`events`, the maps exactly as published; `next`, the `since` of the next page; `more`, whether there may be one.",
		Request: `{"since": 41}`,
		Reply:   `{"events": [{"event": "accepted", "generation": 7, "seq": 42, "prev": 3, "time": 1767323045, "topic": "config"}], "next": 42, "more": false}`,
		Handler: events,
	},
	{
		Name: "logs", Access: AccessRead,
		Doc: "What an instance wrote, byte for byte. Offsets count its bytes over its whole life, over restarts and rotations.",
		Args: []Arg{
			argProgram, required(argInstance),
			{Name: "stream", Type: TypeString, Doc: "`stdout` or `stderr`, when output.mode is separate"},
			{Name: "offset", Type: TypeInt, Max: math.MaxInt, Doc: "where to begin; else at the oldest kept byte"},
			{Name: "limit", Type: TypeInt, Min: 1, Max: maxLogRead, Doc: "how many bytes at most; 262144"},
			{Name: "tail", Type: TypeInt, Min: 1, Max: 100_000, Doc: "begin with that many last lines"},
			{Name: "since", Type: TypeTime, Doc: "only what came then or later, to a tenth of a second: seconds since 1970"},
			{Name: "until", Type: TypeTime, Doc: "only what came until then, to a tenth of a second: seconds since 1970"},
			{Name: "run", Type: TypeInt, Min: 1, Max: math.MaxInt, Doc: "only what the run with that run_id wrote"},
		},
		Result:  "`data` (bin), without times and marks of ours that the file may have; `offset`, where it begins (later than asked for, when that is no longer kept or was dropped); `next`, the offset to go on with; `end`, where what was asked for ends now; `marks`, lists of an offset, the time from which on its bytes came, and the run_id (0: not known).",
		Request: `{"program": "web", "instance": 0, "tail": 1}`,
		Reply:   `{"data": "GET /favicon.ico\n", "offset": 6, "next": 23, "end": 23, "marks": [[0, 1767323044, 5]]}`,
		Handler: logs,
	},
}

func history(ctx context.Context, c *Call) (any, error) {
	name := c.Args.Str("program")
	q := RunQuery{
		Program: name, Instance: c.Args.IntPtr("instance"), Since: c.Args.Time("since"), Until: c.Args.Time("until"),
		Outcome: c.Args.Str("outcome"), Limit: c.Args.Int("limit", 1000),
	}
	if _, ok := Outcomes[q.Outcome]; q.Outcome != "" && !ok {
		return nil, Errorf(CodeBadArgument, "'outcome' must be one of %s, found '%s'", strings.Join(sortedKeys(Outcomes), ", "), q.Outcome)
	}
	runs, err := c.Backend.Runs(ctx, q)
	if err != nil {
		return nil, err
	}
	if len(runs) == 0 { // the program may be gone and its history still there
		if _, err := c.program(name); err != nil {
			return nil, err
		}
	}
	out := make([]Map, len(runs))
	for i := range runs {
		out[i] = c.runMap(&runs[i])
	}
	reply := Map{{"runs", out}}
	if c.Args.Bool("totals") {
		sums, err := c.totals(ctx, q)
		if err != nil {
			return nil, err
		}
		reply = append(reply, Field{"totals", sums})
	}
	return reply, nil
}

func (c *Call) runMap(r *Run) Map {
	m := Map{{"run_id", uint64(r.Run)}, {"program", r.ID.Program}, {"instance", r.ID.Index}, {"pid", r.PID}, {"start", r.Start}}
	if r.Exit == nil {
		m = append(m, Field{"duration", max(c.now().Sub(r.Start), 0)})
	} else {
		m = append(m, runEnd(r)...)
	}
	m = append(m, Map{{"generation", r.Generation}, {"by", requesterMap(r.By)}, {"start_cause", string(r.StartCause)}}...)
	if r.Commit != "" {
		m = append(m, Field{"commit", r.Commit})
	}
	if r.StartedBy != nil {
		m = append(m, Field{"started_by", requesterMap(r.StartedBy)})
	}
	if r.Exit != nil {
		m = append(m, usedMap(r.Exit)...)
	}
	if r.Exit != nil && r.Exit.Error != "" {
		m = append(m, Field{"error", r.Exit.Error})
	}
	if r.Exit != nil && r.Exit.Unknown {
		m = append(m, Field{"exit_unknown", true})
	}
	return m
}

// usedMap is what a run used, and what was done before its stop.
func usedMap(x *reconcile.Exit) (m Map) {
	if x.CPU > 0 {
		m = append(m, Field{"cpu", x.CPU})
	}
	if x.PeakMemory > 0 {
		m = append(m, Field{"peak_memory", x.PeakMemory})
	}
	if d := x.Drain; d != nil {
		m = append(m, Field{"drain", Map{{"ok", d.OK}, {"answer", d.Answer}, {"took", d.Took}}})
	}
	return m
}

func runEnd(r *Run) Map {
	end := r.End
	if end.IsZero() {
		end = r.Exit.At
	}
	code, signal := exitNumbers(r.Exit)
	return Map{
		{"end", end},
		{"duration", r.Exit.Duration},
		{"exitcode", code},
		{"exitsignal", signal},
		{"core", r.Exit.Core},
		{"cause", string(r.Exit.Cause)},
	}
}

// eventChunk is how many events are read at once where a topic chooses among
// them.
const eventChunk = 1000

func events(ctx context.Context, c *Call) (any, error) {
	p := eventPage{next: uint64(c.Args.Int("since", 0)), limit: c.Args.Int("limit", 1000), topic: c.Args.Str("topic"), out: []any{}}
	chunk := p.limit
	if p.topic != "" {
		chunk = eventChunk
	}
	for seen := 0; ; {
		list, err := c.Backend.Events(ctx, p.next, chunk)
		if err != nil {
			return nil, err
		}
		full, err := p.take(list)
		if err != nil {
			return nil, err
		}
		seen += len(list)
		more := full || len(list) >= chunk
		if full || !more || seen >= maxRecords {
			return Map{{"events", p.out}, {"next", p.next}, {"more", more}}, nil
		}
	}
}

// eventPage is a page of events as it fills.
type eventPage struct {
	topic       string
	limit, size int
	out         []any
	next        uint64
}

// take adds what belongs into the page, and reports whether it is full. What was
// not looked at comes after next.
func (p *eventPage) take(list []Event) (full bool, err error) {
	for i := range list {
		e := &list[i]
		if strings.HasPrefix(e.Topic, p.topic) {
			raw, err := rawEvent(e)
			if err != nil {
				return false, err
			}
			p.size += len(raw)
			if len(p.out) > 0 && (len(p.out) >= p.limit || p.size > pageBytes) {
				return true, nil
			}
			p.out = append(p.out, raw)
		}
		p.next = e.Seq
	}
	return len(p.out) >= p.limit, nil
}

func logs(ctx context.Context, c *Call) (any, error) {
	if c.Server.Logs == nil {
		return nil, unavailable("log files")
	}
	q, err := logQuery(c.Args)
	if err != nil {
		return nil, err
	}
	known := c.Backend.View().Program(q.Program) // one that is gone may have left its files
	if known != nil && !hasIndex(known, q.Instance) && q.Offset == nil {
		known = nil
	}
	chunk, err := c.Server.Logs.ReadLog(ctx, q)
	switch {
	case known == nil && (err != nil || len(chunk.Data) == 0 && chunk.Next == 0):
		return nil, Errorf(CodeNotFound, "there is no instance %v, and no output of one",
			reconcile.InstanceID{Program: q.Program, Index: q.Instance})
	case err != nil:
		return nil, err
	}
	data := chunk.Data
	if data == nil {
		data = []byte{}
	}
	if len(chunk.Marks) > maxMarks { // the rest is in the next page
		chunk.Next = chunk.Marks[maxMarks].Offset
		data, chunk.Marks = data[:chunk.Next-chunk.Offset], chunk.Marks[:maxMarks]
	}
	marks := make([]any, len(chunk.Marks))
	for i, m := range chunk.Marks {
		marks[i] = []any{m.Offset, m.Time, m.Run}
	}
	return Map{{"data", data}, {"offset", chunk.Offset}, {"next", chunk.Next}, {"end", chunk.End}, {"marks", marks}}, nil
}

func logQuery(a Args) (LogQuery, error) {
	q := LogQuery{
		Program: a.Str("program"), Instance: a.Int("instance", 0), Stream: a.Str("stream"),
		Limit: a.Int("limit", 256<<10), Tail: a.Int("tail", 0),
		Since: a.Time("since"), Until: a.Time("until"), Run: uint64(a.Int("run", 0)),
	}
	if err := spec.CheckName(q.Program); err != nil { // it becomes part of a path
		return q, noProgram(q.Program)
	}
	if n := a.IntPtr("offset"); n != nil {
		offset := int64(*n)
		q.Offset = &offset
	}
	switch {
	case q.Stream != "" && q.Stream != "stdout" && q.Stream != "stderr":
		return q, Errorf(CodeBadArgument, "'stream' must be stdout or stderr, found '%s'", q.Stream)
	case q.Offset != nil && q.Tail != 0:
		return q, Errorf(CodeBadArgument, "give either 'offset' or 'tail'")
	}
	return q, nil
}
