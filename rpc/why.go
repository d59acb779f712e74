package rpc

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// reason explains one instance.
type reason struct {
	id       reconcile.InstanceID
	program  *ProgramView
	instance *InstanceView // nil: not in the world yet
	now      time.Time
	view     *View
	pinned   uint64 // the generation that rollback pinned; 0: none
}

func (r reason) reply(ends []Map) Map {
	want, because := r.wanted()
	state, since, pid := reconcile.StateNew, time.Time{}, 0
	if r.instance != nil {
		state, since, pid = r.instance.State, r.instance.Since, mainPID(r.instance)
	}
	waits, until := r.waitsFor()
	return Map{
		{"desired", want},
		{"because", because},
		{"state", state.String()},
		{"since", since},
		{"pid", pid},
		{"waits_for", orNil(waits)},
		{"until", until},
		{"last_ends", ends},
		{"can_do", r.canDo(want)},
		{"text", r.text(want, because, state, since, waits, until)},
	}
}

// wanted says what is desired of it, and why.
func (r reason) wanted() (want, because string) {
	switch p := r.program; {
	case !p.Defined:
		return "gone", "the program is no longer defined"
	case r.id.Index >= desired(p):
		return "gone", fmt.Sprintf("%d instances are desired", desired(p))
	case p.Spec.Admin.IsDown(r.id.Index):
		return "down", r.override(spec.FieldAdmin, "somebody stopped it")
	case r.instance != nil && r.instance.Finished == finishedDone && failed(r.instance):
		return "up", "`restart.when` does not start it again"
	case r.instance != nil && r.instance.Finished == finishedDone:
		return "up", "it did what it was to do, and `restart.when` does not start it again"
	case r.instance != nil && r.instance.Finished != "":
		return "up", "it " + r.instance.Finished + ": `restart.give_up` does not start it again"
	}
	return "up", r.override("instances", r.override(spec.FieldProgram, fmt.Sprintf("%s %d", r.source(), desired(r.program))))
}

// source is what says how many there shall be, where no person did.
func (r reason) source() string {
	if r.pinned != 0 {
		return fmt.Sprintf("generation %d, which is pinned, desires", r.pinned)
	}
	return "the files desire"
}

// override tells who set field, or else what otherwise is the reason.
func (r reason) override(field, otherwise string) string {
	var found *spec.Override
	for n, o := range r.program.Overrides {
		if o.Field == field && (o.Index == nil && found == nil || o.Index != nil && *o.Index == r.id.Index) {
			found = &r.program.Overrides[n]
		}
	}
	if found == nil {
		return otherwise
	}
	text := fmt.Sprintf("%s %s over %s at %s", who(found.By), deed(found), found.By.How, clockText(found.At))
	if found.Reason != "" {
		text += ": " + found.Reason
	}
	switch {
	case found.UntilBoot:
		text += " (until boot)"
	case !found.Until.IsZero():
		text += " (until " + clockText(found.Until) + ")"
	}
	return text
}

func who(by spec.Requester) string {
	if by.Key != "" {
		return "key " + by.Key
	}
	return fmt.Sprintf("uid %d", by.UID)
}

// deed is what somebody did with an override, in words.
func deed(o *spec.Override) string {
	switch {
	case o.Field == spec.FieldProgram:
		return "created it"
	case o.Field == spec.FieldAdmin && string(o.Value) == `"down"`:
		return "stopped it"
	case o.Field == spec.FieldAdmin:
		return "started it"
	}
	return fmt.Sprintf("set %s to %s", o.Field, Redact(o.Field, o.Value))
}

func clockText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// waitsFor is what has to happen next, and by when at the latest.
func (r reason) waitsFor() (what string, until time.Time) {
	i := r.instance
	if i == nil {
		return "its first start", until
	}
	switch i.State {
	case reconcile.StateStarting:
		return fmt.Sprintf("having lived for %v (start.min_uptime)", r.program.Spec.Start.MinUptime), i.Until
	case reconcile.StateStopping:
		return r.stopWaitsFor(), i.Until
	case reconcile.StateBackoff:
		return "its next start", i.Until
	case reconcile.StateRunning:
		if i.Cycle && len(r.program.Spec.Start.After) > 0 {
			return "its turn to be restarted, and for " + r.after(sortedKeys(r.program.Spec.Start.After)), i.Until
		}
		if i.Cycle && r.program.Held == "" { // else no turn comes: what holds the roll is waited for
			return "its turn to be restarted", i.Until
		}
	default: // nothing but others, or a roll, can be waited for
	}
	if i.Waits != "" {
		if names := r.after(reconcile.Awaited(i.Waits)); names != "" {
			return names, time.Time{}
		}
		return i.Waits, time.Time{}
	}
	if r.program.Held != "" {
		return "the roll, which is held: " + r.program.Held, time.Time{}
	}
	return "", time.Time{}
}

// stopWaitsFor is the next step of a stop under way.
func (r reason) stopWaitsFor() string {
	stop := r.program.Spec.Stop
	switch i := r.instance; {
	case i.Draining:
		return "the answer to stop.before; then " + stop.Signal.String() + " follows, also without one"
	case i.Escalated && !i.Until.IsZero():
		return fmt.Sprintf("its end after %v; then KILL follows", stop.Escalate)
	case i.Escalated:
		return "the kernel to end what is left of it after the last signal"
	}
	return fmt.Sprintf("its end after %v; then %v follows", stop.Signal, stop.Escalate)
}

// after says of the programs named in start.after how each has to be.
func (r reason) after(names []string) string {
	var parts []string
	for _, name := range sortedKeys(r.program.Spec.Start.After) {
		if !slices.Contains(names, name) {
			continue
		}
		part := name + " to be " + r.program.Spec.Start.After[name]
		if p := r.view.Program(name); p == nil || !p.Defined {
			part = name + ", which is not defined, to be " + r.program.Spec.Start.After[name]
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, " and ") + " (start.after)"
}

// canDo names the methods that make sense now.
func (r reason) canDo(want string) []string {
	var out []string
	i := r.instance
	switch {
	case want == "gone":
	case want == "down":
		out = append(out, "start")
	case i != nil && (i.State == reconcile.StateBackoff || i.Finished != ""):
		out = append(out, "start", "restart", "stop", "logs", "history")
	case i != nil && i.Alive():
		out = append(out, "restart", "stop", "signal", "logs")
	default:
		out = append(out, "stop")
	}
	if r.program.Held != "" {
		out = append(out, "apply", "rollback")
	}
	created := slices.ContainsFunc(r.program.Overrides, func(o spec.Override) bool { return o.Field == spec.FieldProgram })
	if created {
		out = append(out, "delete")
	}
	if len(r.program.Overrides) > 1 || len(r.program.Overrides) == 1 && !created {
		out = append(out, "reset")
	}
	return out
}

func (r reason) text(want, because string, state reconcile.State, since time.Time, waits string, until time.Time) string {
	is := fmt.Sprintf("%v is in state %s", r.id, state.String())
	if !since.IsZero() {
		is += fmt.Sprintf(" for %v", max(r.now.Sub(since), 0).Round(time.Second))
	}
	if r.instance != nil && mainPID(r.instance) > 0 {
		is += fmt.Sprintf(" (pid %d)", r.instance.PID)
	}
	shall := fmt.Sprintf("It shall be %s, because %s", want, because)
	if r.instance != nil && r.instance.Finished != "" && want == "up" {
		shall = "It rests, because " + because
	}
	if waits != "" {
		waits = "It waits for " + waits
		if !until.IsZero() {
			waits += fmt.Sprintf(", at %s", clockText(until))
		}
	}
	return sentence(is, shall, waits, r.ended(), r.troubles())
}

// ended tells the last end.
func (r reason) ended() string {
	if r.instance == nil || r.instance.LastExit == nil {
		return ""
	}
	e := r.instance.LastExit
	return fmt.Sprintf("Its last run %s at %s, after %v (%s)", endText(e), clockText(e.At), e.Duration.Round(time.Millisecond), e.Cause)
}

// flaps says so, with the ends that it was judged by.
func (r reason) flaps() string {
	ends := r.instance.Ends
	if len(ends) == 0 {
		return "it flaps"
	}
	return fmt.Sprintf("it flaps: %d unplanned ends from %s to %s (restart.flap: %d within %v)",
		len(ends), clockText(ends[0]), clockText(ends[len(ends)-1]), r.program.Spec.Restart.Flap.Count, r.program.Spec.Restart.Flap.Within)
}

// troubles are what else is not as it should be.
func (r reason) troubles() string {
	if r.instance == nil {
		return ""
	}
	var parts []string
	if r.instance.Flapping {
		parts = append(parts, r.flaps())
	}
	if o := r.instance.Output; o.Fault != "" {
		parts = append(parts, o.Fault)
	} else if o.Dropped > 0 {
		parts = append(parts, fmt.Sprintf("%d bytes of its output were dropped", o.Dropped))
	}
	for _, k := range sortedKeys(r.instance.Pending) {
		parts = append(parts, fmt.Sprintf("%s is pending: %s", k, r.instance.Pending[k]))
	}
	for _, k := range sortedKeys(r.instance.Drift) {
		parts = append(parts, r.instance.Drift[k])
	}
	if len(parts) == 0 {
		return ""
	}
	return "Also: " + strings.Join(parts, "; ")
}
