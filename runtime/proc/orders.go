package proc

import (
	"fmt"
	"syscall"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/launch"
	"github.com/procnanny/procnanny/spec"
)

// maker turns an action into the keeper's order.
type maker func(p *Proc, o reconcile.Order) (keeper.Order, error)

// makers has a row for every action.
var makers = map[reconcile.ActionKind]maker{
	reconcile.ActionStart:     (*Proc).makeStart,
	reconcile.ActionSignal:    signalAs(keeper.OrderSignal),
	reconcile.ActionKill:      signalAs(keeper.OrderKill),
	reconcile.ActionSweep:     signalAs(keeper.OrderSweep),
	reconcile.ActionPoke:      signalAs(keeper.OrderPoke),
	reconcile.ActionTune:      (*Proc).makeTune,
	reconcile.ActionPreflight: (*Proc).makePreflight,
	reconcile.ActionForget:    (*Proc).makeForget,
}

func signalAs(kind keeper.OrderKind) maker {
	return func(_ *Proc, o reconcile.Order) (keeper.Order, error) {
		return keeper.Order{Kind: kind, Run: uint64(o.Run), Program: o.ID.Program, Index: o.ID.Index, Signal: o.Signal}, nil
	}
}

// errNoProgram should not happen: the core starts and tunes only what is desired.
func errNoProgram(o reconcile.Order) error {
	return &launch.StepError{Step: "looking up program " + o.ID.Program, Errno: syscall.ENOENT}
}

func (p *Proc) makeStart(o reconcile.Order) (keeper.Order, error) {
	if o.Program == nil {
		return keeper.Order{}, errNoProgram(o)
	}
	request, err := p.request(o)
	if err != nil {
		return keeper.Order{}, err
	}
	output := outputOf(o.Program)
	k := keeper.Order{Kind: keeper.OrderStart, Run: uint64(o.Run), Program: o.ID.Program, Index: o.ID.Index, Start: &keeper.Start{
		Program: o.ID.Program, Index: o.ID.Index, Run: uint64(o.Run), Launch: request, Output: output,
		LaunchDigest: o.Launch, TuningDigest: o.Tuning, Generation: o.Generation,
	}}
	if err := fits(&k); err != nil {
		return keeper.Order{}, err
	}
	p.mu.Lock()
	r := p.remember(o.ID, o.Run)
	r.output, r.tuning = output, &o.Program.Tuning
	p.mu.Unlock()
	return k, nil
}

// fits reports why a start is too large for a message to the keeper. The kernel
// itself would take arguments and environment of a quarter of the stack's limit.
func fits(k *keeper.Order) error {
	r := &k.Start.Launch
	n := len(k.Start.Input) + len(r.Dir) + len(r.Stdin) + len(r.Mode.File) + len(r.Tuning.CPUs)
	for _, list := range [][]string{r.Candidates, r.Argv, r.Env} {
		for _, s := range list {
			n += len(s) + 8
		}
	}
	if n < keeper.MaxFrame/2 { // what else there is never comes near
		return nil
	}
	if n = keeper.Size(k); n > keeper.MaxFrame {
		return &launch.StepError{
			Step: fmt.Sprintf("passing arguments and environment of %d bytes, at most %d", n, keeper.MaxFrame), Errno: syscall.E2BIG,
		}
	}
	return nil
}

func (p *Proc) makePreflight(o reconcile.Order) (keeper.Order, error) {
	if o.Program == nil {
		return keeper.Order{}, errNoProgram(o)
	}
	o.ID.Index = max(o.ID.Index, 0) // program-wide: index 0 speaks for all
	request, err := p.request(o)
	if err != nil {
		return keeper.Order{}, err
	}
	k := keeper.Order{Kind: keeper.OrderPreflight, Program: o.ID.Program, Index: o.ID.Index, Digest: o.Launch, Start: &keeper.Start{
		Program: o.ID.Program, Index: o.ID.Index, Launch: request, LaunchDigest: o.Launch,
	}}
	return k, fits(&k)
}

func (p *Proc) makeTune(o reconcile.Order) (keeper.Order, error) {
	if o.Program == nil {
		return keeper.Order{}, errNoProgram(o)
	}
	p.mu.Lock()
	tuning := o.Program.Tuning
	if r := p.runs[o.Run]; r != nil {
		tuning = p.retune(r, &o.Program.Tuning)
		fix := r.fixes()
		fix.tunes = append(fix.tunes, false)
		clear(fix.corrected) // what drifts from the new values may be corrected again
		clear(fix.refused)
	}
	p.mu.Unlock()
	return keeper.Order{Kind: keeper.OrderTune, Run: uint64(o.Run), Program: o.ID.Program, Index: o.ID.Index, Tuning: &tuning, Digest: o.Tuning}, nil
}

// retune is what makes r be as if it had been started with want, also where
// want no longer sets what the run has.
func (p *Proc) retune(r *run, want *spec.Tuning) spec.Tuning {
	old, fix := r.tuning, r.fixes()
	if fix.asked != nil {
		old = fix.asked // nobody knows yet what of it is refused
	}
	out := *want
	if old != nil {
		var err error
		if out, err = launch.Retune(*old, *want); err != nil {
			p.c.Log.Error("cannot take back what a run no longer shall have", "instance", r.id.String(), "error", err)
			out = *want
		}
	}
	r.tuning, fix.asked = want, &out
	return out
}

func (p *Proc) makeForget(o reconcile.Order) (keeper.Order, error) {
	if o.Program == nil {
		p.cacheMu.Lock()
		delete(p.cache, o.ID.Program)
		p.cacheMu.Unlock()
		p.users.forget(o.ID.Program)
	}
	p.mu.Lock()
	delete(p.runs, o.Run)
	delete(p.faulty, o.ID)
	p.mu.Unlock()
	return keeper.Order{Kind: keeper.OrderForget, Run: uint64(o.Run), Program: o.ID.Program, Index: o.ID.Index}, nil
}

// wholeProgram is the index of what is about no single instance.
const wholeProgram = -1

// failed is the fact that an order could not even be given.
func failed(o reconcile.Order, err error) (reconcile.Fact, bool) {
	f := reconcile.Fact{ID: o.ID, Run: o.Run, At: now(), Reason: err.Error()}
	if step, ok := err.(*launch.StepError); ok { //nolint:errorlint // our own, never wrapped
		f.Step, f.Errno = step.Step, int(step.Errno)
	}
	switch o.Kind {
	case reconcile.ActionStart:
		f.Kind = reconcile.FactStartFailed
	case reconcile.ActionPreflight:
		f.Kind, f.Launch, f.ID.Index = reconcile.FactPreflight, o.Launch, wholeProgram
	default:
		return f, false
	}
	return f, true
}

func (p *Proc) logFailed(o reconcile.Order, err error) {
	p.c.Log.Error("cannot carry out an order", "kind", fmt.Sprint(o.Kind), "instance", o.ID.String(), "error", err)
}
