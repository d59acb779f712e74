package control

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/runtime/engine"
	"github.com/procnanny/procnanny/runtime/store"
	"github.com/procnanny/procnanny/runtime/watch"
	"github.com/procnanny/procnanny/spec"
)

// deskLen is how many may wait for the desk; the next one waits to be let in.
const deskLen = 64

// desk owns desired state. All of its methods run on its goroutine, but do.
type desk struct {
	c    *Control
	ops  chan func()
	eval *watch.Evaluator

	// current is the generation that is desired: the newest, or the pinned one.
	// The shelf has its Spec, source its Source.
	current store.Generation
	shelf   shelf
	source  packed
	// newest is the last one that the files gave, without Spec and Source.
	newest    store.Generation
	pinned    uint64
	overrides []spec.Override
	config    reconcile.ConfigView
	booted    bool // overrides until boot have not been ended yet
	wanted    bool // something was desired
	ready     bool // and the world was told that we answer
	waiting   bool // the files are good, but nobody has said apply
	tries     int  // in a row, at files that nobody could judge
}

func newDesk(c *Control, found store.Recovered) *desk {
	d := &desk{
		c: c, ops: make(chan func(), deskLen), eval: &watch.Evaluator{Path: c.cfg.Eval},
		overrides: found.Overrides, pinned: found.Pinned, booted: found.Rebooted,
	}
	return d
}

// recall loads the generations that were desired last.
func (d *desk) recall(kept []store.Generation) error {
	if len(kept) == 0 {
		return nil
	}
	d.newest = kept[len(kept)-1]
	wanted, name := d.newest.Number, "last good"
	if d.pinned != 0 {
		wanted, name = d.pinned, "pinned"
	}
	g, err := d.c.store.Generation(wanted)
	if err != nil {
		return fmt.Errorf("cannot load the %s generation: %w", name, err)
	}
	d.hold(g)
	return nil
}

// do runs op on the desk and returns when it is done.
func (d *desk) do(ctx context.Context, op func()) error {
	done := make(chan struct{})
	select {
	case d.ops <- func() {
		defer close(done)
		op()
		op = nil // it may hold files, and who waits for the next one still holds this one
	}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run serves the desk until ctx ends; late is what begin returned. The timer is for
// overrides that end by themselves.
func (d *desk) run(ctx context.Context, late <-chan time.Time) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	for {
		if at := nextEnd(d.overrides); !at.IsZero() {
			timer.Reset(time.Until(at))
		}
		select {
		case op := <-d.ops:
			op()
		case <-timer.C:
			if d.settle() && d.wanted {
				d.desire(ctx)
			}
		case <-late:
			d.begun(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// nextEnd is when the next override ends by itself.
func nextEnd(overrides []spec.Override) time.Time {
	var at time.Time
	for _, o := range overrides {
		if !o.Until.IsZero() && (at.IsZero() || o.Until.Before(at)) {
			at = o.Until
		}
	}
	return at
}

// take is a settled reading of the files.
func (d *desk) take(ctx context.Context, r watch.Reading) {
	switch {
	case len(r.Problems.Errors()) > 0:
		d.reject(ctx, r.Problems)
	case d.sameAsAccepted(r):
		d.accepted(ctx, r)
	case d.c.cfg.Place.Apply == "manual" && d.newest.Number > 0:
		d.wait(ctx, r)
	default:
		if result, err := d.accept(ctx, r, spec.Requester{How: howFile}, false); err != nil {
			d.refused(ctx, r, result.Unjudged, err)
		} else {
			d.tries = 0
		}
	}
	d.begun(ctx)
}

// sameAsAccepted reports whether the files say what the newest generation says
// already.
func (d *desk) sameAsAccepted(r watch.Reading) bool {
	return d.newest.Number > 0 && r.Fingerprint.Digest == d.newest.Digest
}

// accepted: the files are (again) what the newest generation is. Nothing is
// evaluated.
func (d *desk) accepted(ctx context.Context, r watch.Reading) {
	rejected := d.config.State == "rejected"
	d.waiting = false
	d.config = reconcile.ConfigView{State: "ok", Ahead: d.pinned != 0}
	d.committed(r.Commit)
	if !d.wanted {
		d.settle()
		d.desire(ctx)
		return
	}
	d.show(ctx)
	if rejected {
		d.c.emit("config", rpc.Map{{Key: "event", Value: "restored"}, {Key: "generation", Value: d.current.Number}, {Key: "digest", Value: d.current.Digest}})
	}
}

// wait: the files are ahead, and a person must say apply. What is wrong with them
// is told at once.
func (d *desk) wait(ctx context.Context, r watch.Reading) {
	if result, err := d.good(ctx, r, false); err != nil {
		d.refused(ctx, r, result.Unjudged, err)
		return
	}
	d.tries, d.waiting = 0, true
	d.config = reconcile.ConfigView{State: "ok", Ahead: true}
	d.desireOnce(ctx)
	d.show(ctx)
	d.c.emit("config", rpc.Map{
		{Key: "event", Value: "ahead"}, {Key: "generation", Value: d.current.Number}, {Key: "digest", Value: r.Fingerprint.Digest},
	})
}

// reject keeps everything as it is and says why.
func (d *desk) reject(ctx context.Context, problems spec.Problems) {
	first := problems.Errors()[0]
	d.c.log.Warn("config rejected", "reason", first.Error(), "problems", len(problems.Errors()), "generation", d.current.Number)
	d.config = reconcile.ConfigView{State: "rejected", Error: first.Error(), Problems: problems, Ahead: true}
	if d.current.Number == 0 {
		d.c.refuse(texts(problems))
		return
	}
	d.desireOnce(ctx)
	d.show(ctx)
	d.c.emit("config", rpc.Map{
		{Key: "event", Value: "rejected"},
		{Key: "generation", Value: d.current.Number},
		{Key: "error", Value: first.Error()},
		{Key: "problems", Value: len(problems.Errors())},
	})
}

func texts(problems spec.Problems) string {
	var out strings.Builder
	out.WriteString("the files cannot be used, and there is no earlier configuration that was good:")
	for _, p := range problems.Errors() {
		out.WriteString("\n" + p.Text())
	}
	return out.String()
}

// desireOnce desires the last good generation if nothing was desired yet.
func (d *desk) desireOnce(ctx context.Context) {
	if !d.wanted && d.current.Number > 0 {
		d.settle()
		d.desire(ctx)
	}
}

// judge evaluates a source with overrides and adds what only this host knows.
func (d *desk) judge(ctx context.Context, src spec.Source, overrides []spec.Override) (spec.EvalResult, error) {
	result, err := d.eval.Evaluate(ctx, src, overrides, false)
	if err != nil {
		return result, fmt.Errorf("cannot evaluate %s: %w", filepath.Join(src.Root, src.Single), err)
	}
	if problems := result.Problems.Errors(); len(problems) > 0 || result.Spec == nil {
		return result, result.Problems
	}
	if p := d.c.overBudget(*result.Spec); p != nil {
		p.File = src.Root
		return result, spec.Problems{*p}
	}
	return result, nil
}

// good judges a reading, also as what would follow on what is accepted now.
func (d *desk) good(ctx context.Context, r watch.Reading, allowEmpty bool) (spec.EvalResult, error) {
	result, err := d.judge(ctx, r.Source, d.overrides)
	if err == nil && !allowEmpty {
		if p := d.empties(r.Source, *result.Spec); p != nil {
			err = spec.Problems{*p}
		}
	}
	return result, err
}

// empties is what is said of files that suddenly hold no program.
func (d *desk) empties(src spec.Source, s spec.Spec) *spec.Problem {
	if len(s.Programs) > 0 || len(d.shelf.programs) == 0 {
		return nil
	}
	return &spec.Problem{
		File:    filepath.Join(src.Root, src.Single),
		Message: "the configuration holds no program at all; if everything shall be stopped: procnanny apply --allow-empty",
	}
}

// accept makes a reading the newest generation and desires it. An error changes
// nothing; it is a spec.Problems when the files are to blame.
func (d *desk) accept(ctx context.Context, r watch.Reading, by spec.Requester, allowEmpty bool) (spec.EvalResult, error) {
	crashpoint.Here(crashpoint.ReloadRead)
	result, err := d.good(ctx, r, allowEmpty)
	if err != nil {
		return result, err
	}
	gen := store.Generation{
		Digest: r.Fingerprint.Digest, Commit: r.Commit, At: time.Now(), By: by, Spec: *result.Spec, Source: r.Source, Defined: result.Defined,
	}
	kept := shelve(gen.Spec, d.shelf)
	gen.Shared, result.Spec = kept.programs, nil // large: what follows from here on needs room
	crashpoint.Here(crashpoint.ReloadJudged)
	if gen, err = d.c.store.AddGeneration(gen); err != nil {
		return result, fmt.Errorf("cannot keep the new generation: %w", err)
	}
	crashpoint.Here(crashpoint.ReloadKept)
	if err := d.unpin(); err != nil {
		return result, err
	}
	d.holdOn(gen, kept)
	d.newest = gen
	d.newest.Spec, d.newest.Shared, d.newest.Source = spec.Spec{}, nil, spec.Source{}
	gen = d.newest
	d.waiting = false
	d.config = reconcile.ConfigView{State: "ok", Problems: result.Problems}
	d.drop(refusedOverrides(d.overrides, result.Refused))
	d.settle()
	d.desireBy(ctx, asker(by))
	crashpoint.Here(crashpoint.ReloadDesired)
	d.c.log.Info("config accepted", "generation", gen.Number, "programs", gen.Programs, "commit", gen.Commit)
	d.c.emit("config", rpc.Map{
		{Key: "event", Value: "accepted"},
		{Key: "generation", Value: gen.Number},
		{Key: "digest", Value: gen.Digest},
		{Key: "commit", Value: orNil(gen.Commit)},
		{Key: "by", Value: byMap(by)},
	})
	return result, nil
}

func (d *desk) unpin() error {
	if d.pinned == 0 {
		return nil
	}
	if err := d.c.store.SetPinned(0); err != nil {
		return fmt.Errorf("cannot unpin generation %d: %w", d.pinned, err)
	}
	d.pinned = 0
	return nil
}

// refusedOverrides are those that the files' new constraints do not allow.
func refusedOverrides(overrides []spec.Override, refused map[string]spec.Problems) []spec.EndedOverride {
	var out []spec.EndedOverride
	for _, o := range overrides {
		if ps := refused[o.Key()]; len(ps) > 0 {
			out = append(out, spec.EndedOverride{Override: o, Why: "the files no longer allow it: " + ps[0].Error()})
		}
	}
	return out
}

// settle ends the overrides that no longer hold, and says whether there were any:
// then somebody has to desire what is left.
func (d *desk) settle() bool {
	_, ended := spec.Settle(d.said(), d.overrides, time.Now(), d.booted)
	d.booted = false
	return d.drop(ended)
}

// drop takes ended overrides away, and those that say nothing without them or of
// what is desired now, durably: a stop that ended with its index must not come back
// with us. It says why, and whether there were any.
func (d *desk) drop(ended []spec.EndedOverride) bool {
	gone := map[string]bool{}
	for _, e := range ended {
		gone[e.Key()] = true
	}
	keep := slices.DeleteFunc(slices.Clone(d.overrides), func(o spec.Override) bool { return gone[o.Key()] })
	if keep = prune(d.said(), keep); len(keep) == len(d.overrides) {
		return false
	}
	d.overrides = keep
	if err := d.c.store.SetOverrides(d.overrides); err != nil {
		d.c.log.Error("cannot write down that overrides ended", "error", err)
	}
	for _, e := range ended {
		d.c.log.Info("override ended", "program", e.Program, "field", e.Field, "why", e.Why)
		d.c.emit(programTopic("override", e.Program), overrideFields("override-ended", e.Override, e.Why))
	}
	return true
}

// desire hands what shall be to the engine.
func (d *desk) desire(ctx context.Context) { d.desireBy(ctx, nil) }

// desireBy is desire when it is a person's wish.
func (d *desk) desireBy(ctx context.Context, by *spec.Requester) {
	d.wanted = true
	d.stamp()
	defined := d.current.Defined
	d.c.defined.Store(&defined)
	wanted := d.said().With(d.overrides)
	d.c.exitWhen.wish(wanted)
	d.c.tail.expect(ctx, wanted.Programs)
	d.c.trim.later()
	d.c.stall.soon()
	if err := d.c.hooks.Set(ctx, wanted); err != nil && ctx.Err() == nil { // before anything happens because of it
		d.c.log.Error("cannot set hooks", "error", err)
	}
	err := d.c.engine.Desire(ctx, engine.Desired{
		Spec: wanted, Shared: d.shelf.without(d.overrides), Generation: d.current.Number, Overrides: slices.Clone(d.overrides), Config: d.config, By: by,
		Ending: d.c.cfg.Hello.Asked == spec.SIGTERM,
	})
	if err != nil && ctx.Err() == nil {
		d.c.log.Error("cannot desire", "error", err)
	}
	d.c.look.desired()
}

// show changes what status says of the configuration, and nothing else.
func (d *desk) show(ctx context.Context) {
	d.stamp()
	if err := d.c.engine.SetConfig(ctx, d.config); err != nil && ctx.Err() == nil {
		d.c.log.Error("cannot show the configuration", "error", err)
	}
}

// stamp fills in what every config picture says.
func (d *desk) stamp() {
	d.config.Generation, d.config.Digest, d.config.Pinned = d.current.Number, d.current.Digest, d.pinned
	d.config.Commit, d.config.Stalled = d.current.Commit, d.c.stall.stalled()
}
