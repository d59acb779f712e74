package rpc

import (
	"context"
	"strings"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// resultsDoc describes the reply of 2011 that these methods share.
const resultsDoc = "`results`, by program: for each instance (by integer) `true`, when it is so or on its way, or why not."

var adminMethods = []Method{
	{
		Name: "restart", Access: AccessAdmin,
		Doc:     "Give each instance a new process, at most `update.max_unavailable` at once. What rests or backs off starts now. What is down is skipped and says so.",
		Args:    []Arg{optional(argProgram), argInstance, argTargets, argWait, argTimeout},
		Result:  resultsDoc,
		Request: `{"program": "hello world"}`,
		Reply:   `{"results": {"hello world": {"0": true, "1": true, "2": "it is stopped: start it"}}}`,
		Handler: restart,
	},
	{
		Name: "start", Access: AccessAdmin,
		Doc:     "Want instances up (an override, when they were down), and start at once what finished, gave up or backs off.",
		Args:    []Arg{optional(argProgram), argInstance, argTargets, argUntil, argReason, argWait, argTimeout},
		Result:  resultsDoc,
		Request: `{"targets": ["w*/1"]}`,
		Reply:   `{"results": {"web": {"1": true}}}`,
		Handler: start,
	},
	{
		Name: "stop", Access: AccessAdmin,
		Doc:     "Want instances down: an override, which survives restarts of the daemon and reboots. A stopped program stays so for instances that are added later; a stop of `web/1` ends with that instance.",
		Args:    []Arg{optional(argProgram), argInstance, argTargets, argUntil, argReason, argWait, argTimeout},
		Result:  resultsDoc,
		Request: `{"program": "web", "instance": 1, "until": "boot", "reason": "too loud"}`,
		Reply:   `{"results": {"web": {"1": true}}}`,
		Handler: stop,
	},
	{
		Name: "signal", Access: AccessAdmin,
		Doc: "Send a signal to the main process of each instance. It changes nothing of what is desired.",
		Args: []Arg{
			optional(argProgram), argInstance, argTargets,
			{Name: "signal", Type: TypeSignal, Required: true, Doc: "`HUP`, `SIGHUP`, `RTMIN+3` or `1`"},
		},
		Result:  resultsDoc,
		Request: `{"program": "web", "signal": "HUP"}`,
		Reply:   `{"results": {"web": {"0": true, "1": true}}}`,
		Handler: signal,
	},
}

// maxTargets bounds the work of matching globs.
const maxTargets = 1000

// selections are what program and instance, or targets, mean in v.
func (c *Call) selections(v *View) ([]Selection, error) {
	if !c.Args.Has("targets") {
		name := c.Args.Str("program")
		switch {
		case !c.Args.Has("program"):
			return nil, Errorf(CodeMissingArgument, "Message is missing 'program' field")
		case Target{Program: name}.Glob() || name == "":
			return nil, noProgram(name) // exactly, never by pattern
		}
		return Resolve(v, []Target{{Program: name, Index: c.Args.IntPtr("instance")}})
	}
	if c.Args.Has("program") || c.Args.Has("instance") {
		return nil, Errorf(CodeBadArgument, "give either 'program' and 'instance', or 'targets'")
	}
	texts := c.Args.Strings("targets")
	if len(texts) == 0 || len(texts) > maxTargets {
		return nil, Errorf(CodeBadArgument, "'targets' must name 1 to %d targets, found %d", maxTargets, len(texts))
	}
	targets := make([]Target, len(texts))
	for i, text := range texts {
		var err error
		if targets[i], err = ParseTarget(text); err != nil {
			return nil, err
		}
	}
	return Resolve(v, targets)
}

func allIDs(all []Selection) []reconcile.InstanceID {
	var ids []reconcile.InstanceID
	for _, s := range all {
		ids = append(ids, s.IDs()...)
	}
	return ids
}

// results is the reply of 2011. Each instance without a reason not to is true.
func results(all []Selection, outcomes []reconcile.Outcome) Map {
	why := make(map[reconcile.InstanceID]string, len(outcomes))
	for _, o := range outcomes {
		why[o.ID] = o.Reason
	}
	out := make(Map, len(all))
	for n, s := range all {
		m := make(IntMap, len(s.Indexes))
		for i, id := range s.IDs() {
			m[i] = IntField{Key: id.Index, Value: true}
			if r := why[id]; r != "" {
				m[i].Value = r
			}
		}
		out[n] = Field{s.Program.Name, m}
	}
	return Map{{"results", out}}
}

// accepted are the instances that a command did not turn down.
func accepted(outcomes []reconcile.Outcome) []reconcile.InstanceID {
	var ids []reconcile.InstanceID
	for _, o := range outcomes {
		if o.Reason == "" {
			ids = append(ids, o.ID)
		}
	}
	return ids
}

// command hands a command about what all means to the core.
func (c *Call) command(ctx context.Context, all []Selection, cmd reconcile.Command) ([]reconcile.Outcome, error) {
	cmd.Targets, cmd.By = allIDs(all), c.by()
	if len(cmd.Targets) == 0 {
		return nil, nil // a program scaled to nothing
	}
	return c.Backend.Command(ctx, cmd)
}

func restart(ctx context.Context, c *Call) (any, error) {
	v := c.Backend.View()
	all, err := c.selections(v)
	if err != nil {
		return nil, err
	}
	from := runsFrom(v, allIDs(all), true)
	outcomes, err := c.command(ctx, all, reconcile.Command{Kind: reconcile.CommandRestart})
	if err != nil {
		return nil, err
	}
	if err := c.awaitInstances(ctx, accepted(outcomes), judgeUp(from)); err != nil {
		return nil, err
	}
	return results(all, outcomes), nil
}

func start(ctx context.Context, c *Call) (any, error) {
	v := c.Backend.View()
	all, err := c.selections(v)
	if err != nil {
		return nil, err
	}
	from := runsFrom(v, allIDs(all), false)
	if err := c.want(ctx, all, false); err != nil {
		return nil, err
	}
	outcomes, err := c.command(ctx, all, reconcile.Command{Kind: reconcile.CommandStart})
	if err != nil {
		return nil, err
	}
	if err := c.awaitInstances(ctx, accepted(outcomes), judgeUp(from)); err != nil {
		return nil, err
	}
	return results(all, outcomes), nil
}

func stop(ctx context.Context, c *Call) (any, error) {
	all, err := c.selections(c.Backend.View())
	if err != nil {
		return nil, err
	}
	if err := c.want(ctx, all, true); err != nil {
		return nil, err
	}
	if err := c.awaitInstances(ctx, allIDs(all), judgeStopped); err != nil {
		return nil, err
	}
	return results(all, nil), nil
}

func signal(ctx context.Context, c *Call) (any, error) {
	sig, err := spec.ParseSignal(c.Args.Str("signal"))
	if err != nil {
		return nil, Errorf(CodeBadArgument, "'signal': %v", err)
	}
	all, err := c.selections(c.Backend.View())
	if err != nil {
		return nil, err
	}
	outcomes, err := c.command(ctx, all, reconcile.Command{Kind: reconcile.CommandSignal, Signal: sig})
	if err != nil {
		return nil, err
	}
	return results(all, outcomes), nil
}

// want sets admin overrides, where they say something new.
func (c *Call) want(ctx context.Context, all []Selection, down bool) error {
	var os []spec.Override
	for _, s := range all {
		p := s.Program
		if !p.Defined {
			continue // it is on its way out, and nobody can want it back this way
		}
		admin := p.Spec.Admin
		if s.Whole {
			if down || admin.Down || len(admin.Index) > 0 {
				os = append(os, c.stamped(spec.AdminOverride(p.Name, nil, down)))
			}
			continue
		}
		for _, index := range s.Indexes {
			if index < desired(p) && (down || admin.IsDown(index)) {
				os = append(os, c.stamped(spec.AdminOverride(p.Name, &index, down)))
			}
		}
	}
	if len(os) == 0 {
		return nil
	}
	return c.Backend.Override(ctx, os)
}

// stamped adds who, when, until when and why. What the file says (Replaced) is
// the Backend's to fill in: it has the files.
func (c *Call) stamped(o spec.Override) spec.Override {
	o.By, o.At, o.Reason = c.by(), c.now(), strings.TrimSpace(c.Args.Str("reason"))
	switch until := c.Args["until"].(type) {
	case string:
		o.UntilBoot = true
	case time.Duration:
		o.Until = o.At.Add(until)
	}
	return o
}
