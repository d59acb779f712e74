package control

import (
	"cmp"
	"context"
	"fmt"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/output"
	"github.com/procnanny/procnanny/runtime/sink"
	"github.com/procnanny/procnanny/runtime/store"
	"github.com/procnanny/procnanny/spec"
)

var (
	_ rpc.Backend = (*Control)(nil)
	_ rpc.Definer = (*Control)(nil)
	_ rpc.Hooker  = (*Control)(nil)
	_ rpc.Tallier = (*Control)(nil)
)

// View implements rpc.Backend.
func (c *Control) View() *rpc.View { return c.engine.View() }

// Fresh implements rpc.Backend.
func (c *Control) Fresh(ctx context.Context) (*rpc.View, error) {
	if err := c.look.now(ctx); err != nil {
		return nil, err
	}
	return c.engine.View(), nil
}

// Wait implements rpc.Backend.
func (c *Control) Wait(ctx context.Context, ok func(*rpc.View) bool) (*rpc.View, error) {
	return c.engine.Wait(ctx, ok)
}

// Command implements rpc.Backend.
func (c *Control) Command(ctx context.Context, cmd reconcile.Command) ([]reconcile.Outcome, error) {
	out, err := c.engine.Command(ctx, cmd)
	if err == nil {
		c.emit("command", commandFields(cmd))
	}
	return out, err
}

// Override implements rpc.Backend.
func (c *Control) Override(ctx context.Context, list []spec.Override) error {
	return c.onDesk(ctx, func() error { return c.desk.override(ctx, list) })
}

// Reset implements rpc.Backend.
func (c *Control) Reset(ctx context.Context, program, field string, by spec.Requester) (took []spec.Override, err error) {
	err = c.onDesk(ctx, func() (err error) {
		took, err = c.desk.reset(ctx, program, field, by)
		return err
	})
	return took, err
}

// onDesk runs op on the desk and returns its error.
func (c *Control) onDesk(ctx context.Context, op func() error) error {
	var failed error
	if err := c.desk.do(ctx, func() { failed = op() }); err != nil {
		return err
	}
	return failed
}

// Overrides implements rpc.Backend.
func (c *Control) Overrides() []spec.Override {
	var out []spec.Override
	for _, p := range c.engine.View().Programs {
		out = append(out, p.Overrides...)
	}
	return out
}

// Plan implements rpc.Backend.
func (c *Control) Plan(ctx context.Context, src *spec.Source) (reply rpc.PlanReply, err error) {
	err = c.onDesk(ctx, func() (err error) {
		reply, _, err = c.desk.plan(ctx, src)
		return err
	})
	return reply, err
}

// Apply implements rpc.Backend.
func (c *Control) Apply(ctx context.Context, o rpc.ApplyOptions) (reply rpc.ApplyReply, err error) {
	err = c.onDesk(ctx, func() (err error) {
		reply, err = c.desk.apply(ctx, o)
		return err
	})
	return reply, err
}

// Rollback implements rpc.Backend.
func (c *Control) Rollback(ctx context.Context, n uint64, by spec.Requester) (reply rpc.ApplyReply, err error) {
	err = c.onDesk(ctx, func() (err error) {
		reply, err = c.desk.rollback(ctx, n, by)
		return err
	})
	return reply, err
}

// Generations implements rpc.Backend.
func (c *Control) Generations() ([]rpc.Generation, error) {
	kept := c.store.Generations()
	out := make([]rpc.Generation, len(kept))
	for i, g := range kept {
		out[i] = rpc.Generation{
			Number: g.Number, Digest: g.Digest, Commit: g.Commit, At: g.At, By: g.By, Programs: g.Programs, Instances: g.Instances,
		}
	}
	return out, nil
}

// GenerationSpec implements rpc.Backend.
func (c *Control) GenerationSpec(n uint64) (spec.Spec, error) {
	g, err := c.generation(n)
	return g.Spec, err
}

func (c *Control) generation(n uint64) (store.Generation, error) {
	for _, g := range c.store.Generations() {
		if g.Number == n {
			return c.store.Generation(n)
		}
	}
	return store.Generation{}, rpc.Errorf(rpc.CodeNotFound, "generation %d is not kept", n)
}

// Runs implements rpc.Backend.
func (c *Control) Runs(_ context.Context, q rpc.RunQuery) ([]rpc.Run, error) {
	runs, err := c.store.Runs(store.RunQuery{Program: q.Program, Instance: q.Instance, Since: q.Since, Until: q.Until, Limit: q.Limit, Select: outcome(q.Outcome)})
	if err != nil {
		return nil, fmt.Errorf("cannot read the history: %w", err)
	}
	out := make([]rpc.Run, len(runs))
	for i, r := range runs {
		out[i] = rpc.Run{
			ID: r.ID, Run: r.Run, PID: r.PID, Start: r.Start, End: r.End, Exit: r.Exit, StartCause: r.StartCause,
			Generation: r.Generation, Commit: r.Commit, By: cmp.Or(r.EndBy, r.By),
		}
		if r.EndBy != nil {
			out[i].StartedBy = r.By
		}
	}
	return out, nil
}

// Tallies implements rpc.Tallier.
func (c *Control) Tallies(_ context.Context, program string, instance *int) ([]rpc.Tally, error) {
	kept, err := c.store.Tallies(program, instance)
	if err != nil {
		return nil, fmt.Errorf("cannot read the history: %w", err)
	}
	out := make([]rpc.Tally, len(kept))
	for i, t := range kept {
		out[i] = rpc.Tally{
			Index: t.Index, Since: t.Since, Up: t.Up, Until: t.Until, CPU: t.CPU, Starts: t.Starts, Ends: t.Ends, Crashes: t.Crashes, Living: t.Living,
		}
	}
	return out, nil
}

// outcome selects runs by the cause of their end; nil selects all.
func outcome(name string) func(*store.Run) bool {
	if name == "" {
		return nil
	}
	is := rpc.Outcomes[name]
	return func(r *store.Run) bool { return is(r.Exit) }
}

// Events implements rpc.Backend.
func (c *Control) Events(_ context.Context, since uint64, limit int) ([]rpc.Event, error) {
	events, err := c.store.Events(since, limit)
	if err != nil {
		return nil, fmt.Errorf("cannot read the events: %w", err)
	}
	out := make([]rpc.Event, len(events))
	for i, e := range events {
		out[i] = rpc.Event{Seq: e.Seq, Prev: e.Prev, Time: e.Time, Topic: e.Topic, Body: e.Body}
	}
	return out, nil
}

// Hooks implements rpc.Hooker.
func (c *Control) Hooks(ctx context.Context) ([]rpc.Hook, error) {
	list, err := c.hooks.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot list the hooks: %w", err)
	}
	out := make([]rpc.Hook, len(list))
	for i, s := range list {
		out[i] = hookOf(s)
	}
	return out, nil
}

func hookOf(s sink.Status) rpc.Hook {
	h := rpc.Hook{
		ID: s.ID, Event: s.Event, Program: s.Program, Action: s.Action, What: s.What, Waiting: s.Waiting, Running: s.Running, Behind: s.Behind,
		Done: s.Done, Failed: s.Failed, DeadDropped: s.DeadDropped,
	}
	if l := s.Last; l != nil {
		h.Last = &rpc.HookTry{Seq: l.Seq, ID: l.ID, At: s.LastAt, Try: l.Try, OK: l.OK, Answer: l.Answer, Took: l.Took}
	}
	for _, d := range s.Dead {
		h.Dead = append(h.Dead, rpc.DeadHook{Seq: d.Seq, ID: d.ID, At: d.At, Tries: d.Tries, Answer: d.Answer})
	}
	return h
}

// RetryHooks implements rpc.Hooker.
func (c *Control) RetryHooks(ctx context.Context, id string, seq uint64) (n int, known bool, err error) {
	if n, known, err = c.hooks.Retry(ctx, id, seq); err != nil {
		return 0, false, fmt.Errorf("cannot retry hooks: %w", err)
	}
	return n, known, nil
}

// DefinedIn implements rpc.Definer.
func (c *Control) DefinedIn(program string) string {
	if at := c.defined.Load(); at != nil {
		return (*at)[program]
	}
	return ""
}

// Upgrade implements rpc.Backend: this process ends, and the keeper executes
// itself anew and then starts the control that is installed now.
func (c *Control) Upgrade(ctx context.Context) error {
	if err := c.cfg.CheckUpgrade(ctx); err != nil {
		return rpc.Errorf(rpc.CodeRefused, "cannot upgrade: %v; nothing was changed", err)
	}
	c.emit("command", rpc.Map{{Key: "event", Value: "upgrade"}})
	c.finish(ending{err: ErrUpgrade})
	return nil
}

// Shutdown implements rpc.Backend. The keeper is told, so that it holds also when
// this process dies before everything is stopped.
func (c *Control) Shutdown(_ context.Context, by spec.Requester) error {
	c.emit("command", rpc.Map{{Key: "event", Value: "shutdown"}, {Key: "by", Value: byMap(by)}})
	c.finish(ending{stop: true, by: by})
	if err := c.cfg.Keeper.Send([]keeper.Order{{Kind: keeper.OrderStop}}); err != nil {
		return fmt.Errorf("cannot tell the keeper to shut down: %w", err)
	}
	return nil
}

// logReader reads what the keeper wrote.
type logReader struct{ dir *output.Dir }

// ReadLog implements rpc.LogReader.
func (l logReader) ReadLog(_ context.Context, q rpc.LogQuery) (rpc.LogChunk, error) {
	chunk, err := l.dir.Read(output.Query{
		Program: q.Program, Index: q.Instance, Stream: q.Stream, Offset: q.Offset, Limit: q.Limit, TailLines: q.Tail,
		Since: q.Since, Until: q.Until, Run: q.Run,
	})
	marks := make([]rpc.LogMark, len(chunk.Marks))
	for i, m := range chunk.Marks {
		marks[i] = rpc.LogMark(m)
	}
	return rpc.LogChunk{Data: chunk.Data, Offset: chunk.Offset, Next: chunk.Next, End: chunk.End, Marks: marks}, err
}
