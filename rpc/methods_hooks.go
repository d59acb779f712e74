package rpc

import (
	"bytes"
	"context"
	"math"
	"slices"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// Hooker may be implemented by a Backend that runs hooks.
type Hooker interface {
	// Hooks lists them, sorted by ID.
	Hooks(ctx context.Context) ([]Hook, error)
	// Beside is what is desired beside the programs: a Spec that has none.
	Beside() spec.Spec
	// RetryHooks makes dead events due again: of one hook, or of all when id is
	// empty; one event, or all when seq is 0. It returns how many, and whether there
	// is such a hook.
	RetryHooks(ctx context.Context, id string, seq uint64) (n int, known bool, err error)
}

// Hook is a hook and how it does.
type Hook struct {
	ID, Event string
	// Program is whose it is, empty for the top level.
	Program string
	// Action is run or webhook; What the command, or scheme and host.
	Action, What string
	// Waiting counts events that are due, Running those at work; Behind is whether
	// there are more of them in the history.
	Waiting, Running int
	Behind           bool
	// Done and Failed count tries since the control process began.
	Done, Failed uint64
	Last         *HookTry
	Dead         []DeadHook
	DeadDropped  uint64
}

// HookTry is what came of one try.
type HookTry struct {
	Seq    uint64
	ID     reconcile.InstanceID
	At     time.Time
	Try    int
	OK     bool
	Answer string
	Took   time.Duration
}

// DeadHook is an event that a hook failed on for good.
type DeadHook struct {
	Seq    uint64
	ID     reconcile.InstanceID
	At     time.Time
	Tries  int
	Answer string
}

var argHook = Arg{Name: "hook", Type: TypeString, Max: 300, Doc: "the hook, as `hooks` names it"}

var hookMethods = []Method{
	{
		Name: "hooks", Access: AccessRead,
		Doc:     "What is done when something happens, and how that goes.",
		Result:  "`hooks`, each: hook, event, program (nil at the top level), action, what (the command, or scheme and host of the webhook), waiting (events that are due), running, behind (more than fit are due), done and failed (tries since the control process began), last (seq, program, instance, at, try, ok, answer, took; nil before the first), dead (events that failed for good: seq, program, instance, at, tries, answer), dead_dropped.",
		Request: `{}`,
		Reply:   `{"hooks": [{"hook": "page", "event": "crashed", "program": null, "action": "run", "what": "/usr/local/bin/page", "waiting": 1, "running": 1, "behind": false, "done": 3, "failed": 4, "last": {"seq": 41, "program": "web", "instance": 1, "at": 1767323045, "try": 1, "ok": true, "answer": "exit code 0", "took": 0.25}, "dead": [{"seq": 12, "program": "web", "instance": 0, "at": 1767323044, "tries": 4, "answer": "exit code 1"}], "dead_dropped": 0}]}`,
		Handler: hooks,
	},
	{
		Name: "hooks_retry", Access: AccessAdmin,
		Doc: "Try again what hooks failed on for good, with the command or webhook that is configured now.",
		Args: []Arg{
			optional(argHook),
			{Name: "seq", Type: TypeInt, Min: 1, Max: math.MaxInt, Doc: "only this event"},
		},
		Result:  "`retried`, how many events are due again.",
		Request: `{"hook": "page"}`,
		Reply:   `{"retried": 1}`,
		Handler: hooksRetry,
	},
	{
		Name: "hooks_output", Access: AccessRead,
		Doc:     "What a hook's commands wrote last, in the order of time.",
		Args:    []Arg{required(argHook)},
		Result:  "`data` (bin): lines that begin with the time they came, where that is known.",
		Request: `{"hook": "page"}`,
		Reply:   `{"data": ""}`,
		Handler: hooksOutput,
	},
}

func (c *Call) hooker() (Hooker, error) {
	h, ok := c.Backend.(Hooker)
	if !ok {
		return nil, unavailable("hooks")
	}
	return h, nil
}

func hooks(ctx context.Context, c *Call) (any, error) {
	h, err := c.hooker()
	if err != nil {
		return nil, err
	}
	list, err := h.Hooks(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Map, len(list))
	for i := range list {
		out[i] = hookMap(&list[i])
	}
	return Map{{"hooks", out}}, nil
}

func hookMap(h *Hook) Map {
	dead := make([]Map, len(h.Dead))
	for i, d := range h.Dead {
		dead[i] = append(aboutMap(d.Seq, d.ID), Map{{"at", d.At}, {"tries", d.Tries}, {"answer", d.Answer}}...)
	}
	var last any
	if l := h.Last; l != nil {
		last = append(aboutMap(l.Seq, l.ID), Map{{"at", l.At}, {"try", l.Try}, {"ok", l.OK}, {"answer", l.Answer}, {"took", l.Took}}...)
	}
	return Map{
		{"hook", h.ID},
		{"event", h.Event},
		{"program", orNil(h.Program)},
		{"action", h.Action},
		{"what", h.What},
		{"waiting", h.Waiting},
		{"running", h.Running},
		{"behind", h.Behind},
		{"done", h.Done},
		{"failed", h.Failed},
		{"last", last},
		{"dead", dead},
		{"dead_dropped", h.DeadDropped},
	}
}

// aboutMap is what an event is about.
func aboutMap(seq uint64, id reconcile.InstanceID) Map {
	m := Map{{"seq", seq}, {"program", orNil(id.Program)}, {"instance", nil}}
	if id.Index >= 0 {
		m[2].Value = id.Index
	}
	return m
}

func hooksRetry(ctx context.Context, c *Call) (any, error) {
	h, err := c.hooker()
	if err != nil {
		return nil, err
	}
	id := c.Args.Str("hook")
	n, known, err := h.RetryHooks(ctx, id, uint64(c.Args.Int("seq", 0)))
	switch {
	case err != nil:
		return nil, err
	case !known:
		return nil, Errorf(CodeNotFound, "there is no hook %s", id)
	}
	return Map{{"retried", n}}, nil
}

// Bounds of what is read of a hook's output: each of its places in the keeper
// has a file.
const (
	hookPlaces    = 4
	maxHookOutput = 64 << 10 // bytes of one file
)

func hooksOutput(ctx context.Context, c *Call) (any, error) {
	if c.Server.Logs == nil {
		return nil, unavailable("log files")
	}
	id := c.Args.Str("hook")
	name := spec.RunName(id)
	if spec.CheckRunName(name) != nil { // it becomes part of a path
		return nil, Errorf(CodeNotFound, "there is no hook %s", id)
	}
	var lines []hookLine
	for n := range hookPlaces {
		chunk, err := c.Server.lastOutput(ctx, LogQuery{Program: name, Instance: n, Limit: maxHookOutput, Tail: 1000})
		if err != nil {
			return nil, err
		}
		lines = append(lines, linesOf(&chunk)...)
	}
	if len(lines) == 0 { // what a hook of yesterday wrote may still be there
		if err := c.checkHook(ctx, id); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(lines, func(a, b hookLine) int { return a.at.Compare(b.at) })
	data := []byte{}
	for _, l := range lines {
		if !l.at.IsZero() {
			data = append(data, clockText(l.at)+" "...)
		}
		data = append(append(data, l.text...), '\n')
	}
	return Map{{"data", data}}, nil
}

// checkHook refuses what no hook is called.
func (c *Call) checkHook(ctx context.Context, id string) error {
	h, err := c.hooker()
	if err != nil {
		return err
	}
	list, err := h.Hooks(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(list, func(h Hook) bool { return h.ID == id }) {
		return Errorf(CodeNotFound, "there is no hook %s", id)
	}
	return nil
}

// hookLine is a line and when it came.
type hookLine struct {
	at   time.Time
	text []byte
}

func linesOf(chunk *LogChunk) (out []hookLine) {
	at, marks := time.Time{}, chunk.Marks
	offset := chunk.Offset
	for line := range bytes.Lines(chunk.Data) {
		for len(marks) > 0 && marks[0].Offset <= offset {
			at, marks = marks[0].Time, marks[1:]
		}
		out = append(out, hookLine{at, bytes.TrimRight(line, "\n")})
		offset += int64(len(line))
	}
	return out
}
