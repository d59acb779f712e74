package engine

import (
	"context"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// message is one thing that can happen to the loop; take runs in a turn.
type message interface{ take(l *loop) }

// await waits for what the loop answers, or closes, when it has taken a message.
func await[T any](ctx context.Context, e *Engine, answer <-chan T) (T, error) {
	var none T
	select {
	case a := <-answer:
		return a, nil
	case <-e.stopped:
		return none, ErrStopped
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

type factsMessage []reconcile.Fact

func (m factsMessage) take(l *loop) {
	now := l.at()
	for _, f := range m {
		l.apply(l.rebased(f), now)
	}
}

// lendMost is how many facts of one message their sender may take itself. A
// thousand ends that come together are better taken beside the reading of more.
const lendMost = 4

// Facts hands facts to the loop. It waits only when the inbox is full, or makes the
// turn itself.
func (e *Engine) Facts(ctx context.Context, facts []reconcile.Fact) error {
	m := factsMessage(facts)
	if len(facts) <= lendMost && e.lend(m) {
		return nil
	}
	return e.send(ctx, m)
}

type commandMessage struct {
	command reconcile.Command
	reply   chan []reconcile.Outcome
}

func (m commandMessage) take(l *loop) {
	w, events, actions, outcomes := reconcile.Execute(l.world, m.command, l.at())
	l.world = w
	l.note(events)
	l.order(actions)
	for _, id := range m.command.Targets {
		l.touch(id)
	}
	if len(m.command.Targets) == 0 {
		l.touchAll()
	}
	l.afterwards(func() { m.reply <- outcomes })
}

// Command hands a person's command to the loop and returns what it will do.
// The picture shows what follows from it when Command returns.
func (e *Engine) Command(ctx context.Context, c reconcile.Command) ([]reconcile.Outcome, error) {
	m := commandMessage{c, make(chan []reconcile.Outcome, 1)}
	if err := e.send(ctx, m); err != nil {
		return nil, err
	}
	return await(ctx, e, m.reply)
}

type desireMessage struct {
	desired Desired
	done    chan struct{}
}

func (m desireMessage) take(l *loop) {
	l.desire(m.desired)
	done := m.done // m holds all that is desired
	l.afterwards(func() { close(done) })
}

// Desire makes d what shall be. The picture shows what follows from it when
// Desire returns.
func (e *Engine) Desire(ctx context.Context, d Desired) error {
	m := desireMessage{d, make(chan struct{})}
	if err := e.send(ctx, m); err != nil {
		return err
	}
	_, err := await(ctx, e, m.done)
	return err
}

type configMessage reconcile.ConfigView

func (m configMessage) take(l *loop) { l.config, l.redrawn = reconcile.ConfigView(m), true }

// SetConfig changes what the picture says about the configuration.
func (e *Engine) SetConfig(ctx context.Context, c reconcile.ConfigView) error {
	return e.send(ctx, configMessage(c))
}

type planMessage struct {
	spec  spec.Spec
	reply chan reconcile.Plan
}

func (m planMessage) take(l *loop) { m.reply <- reconcile.Diff(m.spec, l.world, l.at()) }

// Plan says what desiring s would do, by the function that would do it.
func (e *Engine) Plan(ctx context.Context, s spec.Spec) (reconcile.Plan, error) {
	m := planMessage{s, make(chan reconcile.Plan, 1)}
	if err := e.send(ctx, m); err != nil {
		return reconcile.Plan{}, err
	}
	return await(ctx, e, m.reply)
}

type observeMessage struct {
	at   time.Time
	list []reconcile.Observation
	done chan struct{}
}

func (m observeMessage) take(l *loop) {
	for _, o := range m.list {
		l.observe(o)
	}
	l.observedAt, l.redrawn = m.at, true
	l.afterwards(func() { close(m.done) })
}

// Observe puts observed values into the picture. It shows them when Observe
// returns.
func (e *Engine) Observe(ctx context.Context, at time.Time, list []reconcile.Observation) error {
	m := observeMessage{at, list, make(chan struct{})}
	if err := e.send(ctx, m); err != nil {
		return err
	}
	_, err := await(ctx, e, m.done)
	return err
}
