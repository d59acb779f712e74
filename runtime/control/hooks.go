package control

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/proc"
	"github.com/procnanny/procnanny/runtime/sink"
	"github.com/procnanny/procnanny/runtime/store"
	"github.com/procnanny/procnanny/spec"
)

// hooks joins the sink with the events it reads and the keeper that runs its
// commands.
type hooks struct {
	*sink.Hooks
	c *Control

	on atomic.Pointer[spec.Hooks] // beside the programs

	mu sync.Mutex
	// ends are commands whose main process has ended: told once nobody is left.
	ends map[uint64]sink.Ended
}

func newHooks(c *Control, held []keeper.Run, notes map[string][]byte) *hooks {
	h := &hooks{c: c, ends: map[uint64]sink.Ended{}}
	h.Hooks = sink.New(sink.Config{
		Read: h.read, Last: c.store.Seq, Keeper: h, Save: c.store.SetNotes, Saved: notes, Held: h.held(held), Tell: h.tell,
		Version: c.cfg.Version, Log: c.log,
	})
	return h
}

// Set takes what is desired from now on.
func (h *hooks) Set(ctx context.Context, s spec.Spec) error {
	on := s.On // a pointer into s would keep all of its programs
	h.on.Store(&on)
	return h.Hooks.Set(ctx, s)
}

// Beside implements rpc.Hooker.
func (c *Control) Beside() (s spec.Spec) {
	if on := c.hooks.on.Load(); on != nil {
		s.On = *on
	}
	if w := c.exitWhen.want.Load(); w != nil {
		s.ExitWhen = w.program
	}
	return s
}

// held is what the keeper runs of a control before us.
func (h *hooks) held(runs []keeper.Run) []sink.Held {
	out := make([]sink.Held, len(runs))
	for i := range runs {
		r := &runs[i]
		out[i] = sink.Held{Name: r.Program, Index: r.Index, Run: r.Run, At: proc.Wall(r.StartedNS)}
		switch e := endOf(&r.Exit); {
		case r.Ended && r.Emptied:
			out[i].Ended = &e
		case r.Ended:
			h.ends[r.Run] = e
			h.Kill(r.Program, r.Index, r.Run)
		}
	}
	return out
}

func endOf(f *keeper.Fact) sink.Ended {
	e := sink.Ended{Code: f.Code, Signal: f.Signal, At: proc.Wall(f.AtNS)}
	if f.Kind == keeper.FactStartFailed {
		e.Failed = f.Reason
	}
	return e
}

// take hears what became of commands.
func (h *hooks) take(ctx context.Context, facts []keeper.Fact) {
	for i := range facts {
		f := &facts[i]
		switch f.Kind {
		case keeper.FactStartFailed:
			_ = h.Ended(ctx, f.Run, endOf(f)) // it fails only at our end
		case keeper.FactExited:
			h.mu.Lock()
			h.ends[f.Run] = endOf(f)
			h.mu.Unlock()
			if f.Left > 0 {
				h.Kill(f.Program, f.Index, f.Run) // what it leaves behind
			}
		case keeper.FactEmptied:
			h.mu.Lock()
			e, ok := h.ends[f.Run]
			delete(h.ends, f.Run)
			h.mu.Unlock()
			if ok {
				_ = h.Ended(ctx, f.Run, e)
			}
		default:
		}
	}
}

func (h *hooks) send(orders ...keeper.Order) {
	if err := h.c.cfg.Keeper.Send(orders); err != nil {
		h.c.log.Error("cannot send the orders of a hook to the keeper", "error", err)
	}
}

// Start implements sink.Keeper.
func (h *hooks) Start(c sink.Command) {
	vars := make(map[string]string, len(c.Vars)+len(c.Event.Vars))
	maps.Copy(vars, c.Event.Vars)
	maps.Copy(vars, c.Vars)
	order, err := h.c.proc.StartHook(proc.Hook{
		Name: c.Name, Index: c.Index, Run: c.Run, ID: c.Event.ID, Command: c.Hook, Identity: c.Identity, Vars: vars, Input: string(c.Event.JSON),
	})
	if err != nil { // apart, for the sink does not hear while it starts
		go func() { _ = h.Ended(context.Background(), c.Run, sink.Ended{At: time.Now(), Failed: err.Error()}) }()
		return
	}
	h.send(order)
}

// Kill implements sink.Keeper.
func (h *hooks) Kill(name string, index int, run uint64) {
	h.send(keeper.Order{Kind: keeper.OrderKill, Run: run, Program: name, Index: index, Signal: spec.SIGKILL})
}

// Forget implements sink.Keeper.
func (h *hooks) Forget(name string, index int, run uint64) {
	h.send(keeper.Order{Kind: keeper.OrderAck, Run: run, Program: name, Index: index})
}

// Drop implements sink.Keeper.
func (h *hooks) Drop(name string, index int) {
	h.send(keeper.Order{Kind: keeper.OrderForget, Program: name, Index: index})
}

// tell publishes what came of a try. No hook is about it.
func (h *hooks) tell(o sink.Outcome) {
	outcome := "failed"
	switch {
	case o.OK:
		outcome = "done"
	case o.Dead:
		outcome = "dead"
	}
	m := rpc.Map{{Key: "event", Value: "hook"}}
	if o.ID.Program != "" {
		m = append(m, rpc.Field{Key: "program", Value: o.ID.Program})
	}
	if o.ID.Index >= 0 {
		m = append(m, rpc.Field{Key: "instance", Value: o.ID.Index})
	}
	h.c.emit(programTopic("hook", o.Hook), append(m, rpc.Map{
		{Key: "hook", Value: o.Hook},
		{Key: "outcome", Value: outcome},
		{Key: "about", Value: o.Event},
		{Key: "about_seq", Value: o.Seq},
		{Key: "try", Value: o.Try},
		{Key: "answer", Value: o.Answer},
		{Key: "took", Value: o.Took},
	}...))
}

// read is the sink's view of the events.
func (h *hooks) read(since uint64, limit int, wanted func(string) bool) (out []sink.Event, next uint64, err error) {
	events, err := h.c.store.Events(since, limit)
	next = since
	for i := range events {
		next = events[i].Seq
		if ev, ok := hookEvent(&events[i], wanted); ok {
			out = append(out, ev)
		}
	}
	return out, next, err
}

// kindNames are what hooks can call the events of a kind of topic.
var kindNames = map[string][]string{
	"state":    {"starting", "running", "stopping", "exited", "crashed", "backoff", "gave_up", "done"},
	"flapping": {"flapping", "stable"}, "held": {"held", "resumed"}, "pending": {"pending"}, "drift": {"drift"}, "drain": {"drained"},
	"override": {"override", "override_ended"}, "config": {"accepted", "rejected", "rollback"},
}

// hookEvent is an event as hooks see it; false when nobody wants it.
func hookEvent(e *store.Event, wanted func(string) bool) (sink.Event, bool) {
	kind, _, _ := strings.Cut(e.Topic, ".")
	asked := false
	for _, name := range kindNames[kind] {
		asked = asked || wanted(name)
	}
	if !asked {
		return sink.Event{}, false
	}
	v, err := rpc.DecodeValue(e.Body)
	fields, ok := v.(map[string]any)
	if err != nil || !ok {
		return sink.Event{}, false
	}
	ev := sinkEvent(fields)
	ev.Seq, ev.Names = e.Seq, namesOf(kind, fields)
	return ev, slices.ContainsFunc(ev.Names, wanted)
}

// namesOf is what hooks call an event.
func namesOf(kind string, fields map[string]any) []string {
	name := text(fields["event"])
	if kind != "state" {
		return []string{strings.ReplaceAll(name, "-", "_")}
	}
	var names []string
	if hasExit(fields) {
		names = append(names, "exited")
		if reconcile.Cause(text(fields["cause"])).Crash() {
			names = append(names, "crashed")
		}
	}
	if name != "exited" {
		return append(names, name)
	}
	if detail := text(fields["detail"]); detail == "gave up" || detail == "done" {
		names = append(names, strings.ReplaceAll(detail, " ", "_"))
	}
	return names
}

func hasExit(fields map[string]any) bool {
	_, code := fields["code"]
	_, signal := fields["signal"]
	return code || signal
}

func text(v any) string { s, _ := v.(string); return s }

func number(v any) int { n, _ := v.(int64); return int(n) }

// sinkEvent is a map of fields as hooks see it.
func sinkEvent(fields map[string]any) sink.Event {
	ev := sink.Event{ID: reconcile.InstanceID{Program: text(fields["program"]), Index: -1}, Ended: hasExit(fields), Code: -1, Attempt: number(fields["attempt"])}
	if n, ok := fields["instance"].(int64); ok {
		ev.ID.Index = int(n)
	}
	if n, ok := fields["code"].(int64); ok {
		ev.Code = int(n)
	}
	if s, err := spec.ParseSignal(text(fields["signal"])); err == nil {
		ev.Signal = s
	}
	ev.JSON, ev.Vars = jsonOf(fields), map[string]string{}
	for key, v := range fields {
		if v != nil {
			ev.Vars["PROCNANNY_EVENT_"+strings.ToUpper(key)] = plain(v)
		}
	}
	return ev
}

func jsonOf(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil { // only plain values
		return []byte(strconv.Quote(fmt.Sprint(v)))
	}
	return raw
}

// plain is a value as a variable has it: text as it is, times and numbers
// without an exponent, the rest as JSON.
func plain(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return string(jsonOf(v))
}

// executor carries the engine's orders out: what comes before a stop is the
// hooks' business.
type executor struct{ c *Control }

// Do implements engine.Executor.
func (x executor) Do(orders []reconcile.Order) {
	x.c.proc.Do(slices.DeleteFunc(orders, func(o reconcile.Order) bool {
		drains := o.Kind == reconcile.ActionDrain
		if drains {
			go x.c.hooks.drain(o)
		}
		return drains
	}))
	crashpoint.Here(crashpoint.OrdersSent)
}

// drain does what comes before a stop, and says so.
func (h *hooks) drain(o reconcile.Order) {
	fields := map[string]any{
		"event": "stopping", "state": "stopping", "program": o.ID.Program, "instance": int64(o.ID.Index), "run_id": int64(o.Run),
		"cause": string(o.Cause), "generation": int64(o.Generation), "time": float64(time.Now().UnixMicro()) / 1e6,
	}
	if i := h.c.instance(o.ID); i != nil && i.Run == o.Run {
		fields["pid"] = int64(i.PID)
	}
	ev := sinkEvent(fields)
	d := sink.Drain{ID: o.ID, Before: o.Before, Event: &ev, Identity: h.c.identity(o)}
	answered := func(came reconcile.Drain) {
		_ = h.c.engine.Facts(context.Background(), []reconcile.Fact{{Kind: reconcile.FactDrained, ID: o.ID, Run: o.Run, At: time.Now(), Drain: &came}})
	}
	if err := h.Drain(context.Background(), d, answered); err != nil {
		answered(reconcile.Drain{Answer: err.Error()})
	}
}

// identity is who a program runs as, also one that is gone from desired.
func (c *Control) identity(o reconcile.Order) spec.Identity {
	if o.Program != nil {
		return o.Program.Identity
	}
	if p := c.engine.View().Program(o.ID.Program); p != nil {
		return p.Spec.Identity
	}
	return spec.Identity{}
}

func (c *Control) instance(id reconcile.InstanceID) *reconcile.InstanceView {
	if p := c.engine.View().Program(id.Program); p != nil {
		return p.Instance(id.Index)
	}
	return nil
}

// hookGrace is how long hooks have after the last program has ended.
const hookGrace = 5 * time.Second

// finishHooks lets hooks do what is due at the end.
func (c *Control) finishHooks(ctx context.Context) {
	grace := hookGrace
	if t := c.cfg.Place.ShutdownTimeout; t > 0 {
		grace = min(grace, t/4)
	}
	c.hooks.Finish(ctx, grace)
}
