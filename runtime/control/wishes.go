package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/runtime/proc"
	"github.com/procnanny/procnanny/runtime/watch"
	"github.com/procnanny/procnanny/spec"
)

// override puts overrides on top of the files: all of them or none.
func (d *desk) override(ctx context.Context, list []spec.Override) error {
	if d.current.Number == 0 {
		return rpc.Errorf(rpc.CodeUnavailable, "the daemon has not read its files yet")
	}
	set, judge := slices.Clone(list), false
	for n, o := range list {
		if p, ok := d.shelf.programs[o.Program]; ok && o.Field != spec.FieldAdmin && o.Field != spec.FieldProgram {
			set[n].Replaced = p.Get(o.Field)
		}
		judge = judge || o.Field != spec.FieldAdmin
	}
	all := spec.Put(d.overrides, set...)
	if judge {
		if err := d.allowed(ctx, all, list); err != nil {
			return err
		}
	}
	all = prune(d.said(), all)
	crashpoint.Here(crashpoint.OverrideJudged)
	if err := d.c.store.SetOverrides(all); err != nil {
		return fmt.Errorf("cannot keep the override: %w", err)
	}
	crashpoint.Here(crashpoint.OverrideKept)
	d.overrides = all
	d.desireBy(ctx, &list[0].By) // all of one request
	crashpoint.Here(crashpoint.OverrideDesired)
	for _, o := range list {
		d.c.emit(programTopic("override", o.Program), overrideFields("override", o, ""))
	}
	return nil
}

// allowed judges overrides against the files' own constraints, and notes in
// each who its program runs as.
func (d *desk) allowed(ctx context.Context, all, added []spec.Override) error {
	source, err := d.source.unpack()
	if err != nil {
		return err
	}
	result, err := d.eval.Evaluate(ctx, source, all, false)
	if err != nil {
		return fmt.Errorf("cannot judge the override: %w", err)
	}
	if ps := result.Problems.Errors(); len(ps) > 0 {
		return &rpc.Error{Code: rpc.CodeRefused, Message: "the configuration is not good without the override either: " + ps[0].Error(), Problems: ps}
	}
	for _, o := range added {
		if ps := result.Refused[o.Key()]; len(ps) > 0 {
			return &rpc.Error{Code: rpc.CodeRefused, Message: fmt.Sprintf("cannot %s: %s", deed(o), ps[0].Error()), Problems: ps}
		}
	}
	wanted := d.said().With(all)
	for _, o := range added {
		if at := wanted.Programs[o.Program].Unresolved(); at != "" {
			return rpc.Errorf(rpc.CodeRefused, "cannot %s: a command of %s names a user, which only the files can", deed(o), at)
		}
	}
	for n, o := range all {
		if id, ok := result.Identities[o.Program]; ok && o.Identifies() {
			all[n].Identity = &id
		}
	}
	if p := d.c.overBudget(wanted); p != nil {
		return &rpc.Error{Code: rpc.CodeRefused, Message: p.Error(), Problems: spec.Problems{*p}}
	}
	return nil
}

// deed is what an override does, in words.
func deed(o spec.Override) string {
	if o.Field == spec.FieldProgram {
		return "create " + o.Program
	}
	return fmt.Sprintf("set %s of %s", o.Field, o.Program)
}

// reset takes overrides away.
func (d *desk) reset(ctx context.Context, program, field string, by spec.Requester) ([]spec.Override, error) {
	var keep, took []spec.Override
	for _, o := range d.overrides {
		if (program == "" || o.Program == program) && takes(field, o.Field) {
			took = append(took, o)
		} else {
			keep = append(keep, o)
		}
	}
	if len(took) == 0 {
		return nil, nil
	}
	if err := d.c.store.SetOverrides(keep); err != nil {
		return nil, fmt.Errorf("cannot take overrides away: %w", err)
	}
	crashpoint.Here(crashpoint.ResetKept)
	d.overrides = keep
	d.settle() // what sat on a created program goes with it
	d.desireBy(ctx, &by)
	for _, o := range took {
		o.By = by
		d.c.emit(programTopic("override", o.Program), overrideFields("override-ended", o, "reset"))
	}
	return took, nil
}

// takes reports whether a reset of field takes an override of another away: see
// rpc.Backend.
func takes(field, other string) bool {
	switch field {
	case "":
		return other != spec.FieldProgram
	case spec.FieldProgram:
		return true
	default:
		return field == other
	}
}

// howFile is how a generation came about that nobody asked for: by a save.
const howFile = "file"

// asker is the person who asked; a save is nobody's wish but the files'.
func asker(by spec.Requester) *spec.Requester {
	if by.How == howFile {
		return nil
	}
	return &by
}

// files reads and judges what applying means: the daemon's own files as they
// are now, or src.
func (d *desk) files(ctx context.Context, src *spec.Source) (watch.Reading, spec.EvalResult, error) {
	if src != nil {
		result, err := d.judge(ctx, *src, d.overrides)
		return watch.Reading{Source: *src}, result, err
	}
	r := d.c.watch.Look(ctx)
	if ps := r.Problems.Errors(); len(ps) > 0 {
		return r, spec.EvalResult{}, ps
	}
	result, err := d.judge(ctx, r.Source, d.overrides)
	return r, result, err
}

// plan says what applying src would do, by the function that would do it.
func (d *desk) plan(ctx context.Context, src *spec.Source) (rpc.PlanReply, watch.Reading, error) {
	r, result, err := d.files(ctx, src)
	if err != nil {
		return rpc.PlanReply{}, r, err
	}
	if p := d.empties(r.Source, *result.Spec); p != nil {
		p.Warning = true
		result.Problems = append(result.Problems, *p)
	}
	keep, _ := spec.Settle(*result.Spec, d.overrides, time.Now(), false)
	keep = slices.DeleteFunc(keep, func(o spec.Override) bool { return len(result.Refused[o.Key()]) > 0 })
	wanted := result.Spec.With(keep)
	p, err := d.c.engine.Plan(ctx, wanted)
	if err != nil {
		return rpc.PlanReply{}, r, err
	}
	digest, err := planDigest(p, wanted)
	d.foretell(p.Changes, wanted)
	return rpc.PlanReply{Digest: digest, Changes: p.Changes, Problems: result.Problems, Generation: d.current.Number}, r, err
}

// foretell adds to live changes what the kernel is known to refuse.
func (d *desk) foretell(changes []reconcile.Change, wanted spec.Spec) {
	view := d.c.View()
	for n := range changes {
		c := &changes[n]
		pid := pidOf(view, c.ID)
		if c.What != "live" || pid == 0 {
			continue
		}
		refused := proc.Foretell(pid, wanted.Programs[c.ID.Program].Tuning)
		for _, key := range slices.Sorted(maps.Keys(refused)) {
			c.Reason += "; " + key + " " + refused[key]
		}
	}
}

// pidOf is the process of an instance; 0 is none.
func pidOf(v *rpc.View, id reconcile.InstanceID) int {
	for _, p := range v.Programs {
		if p.Name != id.Program {
			continue
		}
		for _, i := range p.Instances {
			if i.ID == id && i.Alive() {
				return i.PID
			}
		}
	}
	return 0
}

// planDigest names a plan: what is wanted, and what has to change for it. Run
// ids are left out: they tell of other programs' lives.
func planDigest(p reconcile.Plan, wanted spec.Spec) (string, error) {
	changes := slices.Clone(p.Changes)
	for i := range changes {
		changes[i].Run = 0
	}
	raw, err := json.Marshal(struct {
		Wanted  spec.Digest
		Changes []reconcile.Change
	}{wanted.Digest(), changes})
	if err != nil {
		return "", fmt.Errorf("cannot name the plan: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// apply applies what the files say now, also when saving does not.
func (d *desk) apply(ctx context.Context, o rpc.ApplyOptions) (rpc.ApplyReply, error) {
	plan, r, err := d.plan(ctx, nil)
	if err != nil {
		return rpc.ApplyReply{}, err
	}
	if o.Digest != "" && o.Digest != plan.Digest {
		return rpc.ApplyReply{}, rpc.Errorf(rpc.CodeStalePlan, "the plan is stale: it was made of other files than the daemon has now, or programs have changed since; nothing was done")
	}
	reply := rpc.ApplyReply{Changes: plan.Changes, Changed: len(plan.Changes) > 0}
	if r.Fingerprint.Digest != d.newest.Digest || d.pinned != 0 {
		if _, err := d.accept(ctx, r, o.By, o.AllowEmpty); err != nil {
			return rpc.ApplyReply{}, err
		}
		reply.Changed = true
	} else if d.committed(r.Commit); r.Commit != "" {
		d.show(ctx)
	}
	if o.Force {
		if _, err := d.c.Command(ctx, reconcile.Command{Kind: reconcile.CommandForce, By: o.By}); err != nil {
			return rpc.ApplyReply{}, err
		}
	}
	reply.Generation, reply.Digest = d.current.Number, d.current.Digest
	return reply, nil
}

// rollback pins a generation until the files change.
func (d *desk) rollback(ctx context.Context, n uint64, by spec.Requester) (rpc.ApplyReply, error) {
	g, err := d.c.generation(n)
	if err != nil {
		return rpc.ApplyReply{}, err
	}
	pin := n
	if n == d.newest.Number {
		pin = 0 // the files say the same: there is nothing to pin
	}
	keep, ended := spec.Settle(g.Spec, d.overrides, time.Now(), false)
	p, err := d.c.engine.Plan(ctx, g.Spec.With(keep))
	if err != nil {
		return rpc.ApplyReply{}, err
	}
	if err := d.c.store.SetPinned(pin); err != nil {
		return rpc.ApplyReply{}, fmt.Errorf("cannot pin generation %d: %w", n, err)
	}
	crashpoint.Here(crashpoint.RollbackPinned)
	d.pinned = pin
	d.hold(g)
	d.drop(ended)
	d.config.Ahead = pin != 0 || d.waiting || d.config.State == "rejected"
	d.desireBy(ctx, &by)
	d.c.emit("config", rpc.Map{
		{Key: "event", Value: "rollback"}, {Key: "generation", Value: n}, {Key: "digest", Value: g.Digest}, {Key: "by", Value: byMap(by)},
	})
	return rpc.ApplyReply{Generation: n, Digest: g.Digest, Changes: p.Changes, Changed: len(p.Changes) > 0}, nil
}

// prune leaves out admin wishes that say nothing: an up where nothing says
// down, and those of an index that is no longer desired.
func prune(files spec.Spec, overrides []spec.Override) (keep []spec.Override) {
	effective := files.With(overrides)
	for _, o := range overrides {
		if o.Field == spec.FieldAdmin && idle(effective.Programs[o.Program], o) {
			continue
		}
		keep = append(keep, o)
	}
	return keep
}

func idle(p spec.Program, o spec.Override) bool {
	up := string(o.Value) == `"up"`
	if o.Index == nil {
		return up
	}
	return *o.Index >= p.Instances || up && !p.Admin.Down
}
