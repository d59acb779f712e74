package rpc

import (
	"encoding/json"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

func configMap(c *ConfigView) Map {
	m := Map{
		{"state", c.State},
		{"generation", c.Generation},
		{"digest", c.Digest},
		{"error", orNil(c.Error)},
		{"commit", orNil(c.Commit)},
		{"pinned", orNil(c.Pinned)},
		{"ahead", c.Ahead},
	}
	if len(c.Problems) > 0 {
		m = append(m, Field{"problems", problemMaps(c.Problems)})
	}
	if !c.Stalled.IsZero() {
		m = append(m, Field{"keeper_stalled", Epoch(c.Stalled)})
	}
	return m
}

// orNil makes a zero value nil: there is none.
func orNil[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

func problemMaps(ps spec.Problems) []Map {
	out := make([]Map, len(ps))
	for i, p := range ps {
		out[i] = Map{
			{"file", p.File},
			{"line", p.Line},
			{"column", p.Column},
			{"path", p.Path},
			{"message", p.Message},
			{"source_line", p.SourceLine},
			{"also", p.Also},
			{"hint", p.Hint},
			{"warning", p.Warning},
		}
	}
	return out
}

// encode writes one program: first the keys of 2011 in their order. Instances
// that are the same in from, where they are known, are copied from there.
func (e *encoded) encode(p *ProgramView, from *encoded, known []piece) error {
	ionice := effectiveIONice(p)
	head := Map{
		{"command", p.Spec.Command},
		{"args", p.Spec.Args},
		{"uid", p.Spec.Identity.UID},
		{"gid", p.Spec.Identity.GID},
		{"nice", effectiveNice(p)},
		{"ionice", ionice.Level},
		{"active", active(p)},
	}
	tail := Map{
		{"ionice_class", ionice.Class},
		{"generation", p.Generation},
		{"flapping", p.Flapping},
		{"overrides", overrideMarks(p.Overrides)},
		{"desired", desired(p)},
	}
	if !p.Defined {
		tail = append(tail, Field{"defined", false})
	}
	if p.Held != "" {
		tail = append(tail, Field{"held", p.Held})
	}
	b := appendMapLen(appendStr(e.bytes, p.Name), len(head)+1+len(tail))
	b, err := appendPairs(b, head)
	if err != nil {
		return err
	}
	e.bytes = appendMapLen(appendStr(b, "instances"), len(p.Instances))
	for _, i := range p.Instances {
		for len(known) > 0 && known[0].view.ID.Index < i.ID.Index {
			known = known[1:]
		}
		var old piece
		if len(known) > 0 && known[0].view == i {
			old = known[0]
		}
		if err := e.instance(i, from, old); err != nil {
			return err
		}
	}
	e.bytes, err = appendPairs(e.bytes, tail)
	return err
}

// instance adds one instance; old is where it is in from, if it has a view.
func (e *encoded) instance(i *InstanceView, from *encoded, old piece) (err error) {
	b := appendInt(e.bytes, int64(i.ID.Index))
	k := piece{view: i, from: len(b)}
	if old.view != nil {
		k = old.moved(len(b) - old.from)
		e.bytes = append(b, from.bytes[old.from:old.to]...)
	} else if e.bytes, k.uptime, err = appendInstance(b, i); err != nil {
		return err
	}
	k.to = len(e.bytes)
	e.pieces = append(e.pieces, k)
	return nil
}

func appendPairs(b []byte, m Map) ([]byte, error) {
	return appendEach(b, m, func(b []byte, f Field) ([]byte, error) { return Append(appendStr(b, f.Key), f.Value) })
}

// appendInstance writes one instance and says where its uptime is; 0 is nowhere.
func appendInstance(b []byte, i *InstanceView) (_ []byte, uptimeAt int, err error) {
	code, signal := exitNumbers(i.LastExit)
	m := Map{
		{"pid", mainPID(i)},
		{"state", i.State.String()},
		{"exitcode", code},
		{"exitsignal", signal},
		{"admin_state", adminState(i.Down)},
		{"run_id", uint64(i.Run)},
		{"since", i.Since},
		{"uptime", 0.0},
		{"starts", i.Starts},
		{"last_exit", lastExit(i.LastExit)},
		{"next_start", nextStart(i)},
		{"containment", i.Containment},
		{"pending", pending(i.Pending)},
	}
	if i.LastExit != nil && i.LastExit.Unknown {
		m = append(m, Field{"exit_unknown", true})
	}
	if len(i.Drift) > 0 {
		m = append(m, Field{"drift", i.Drift})
	}
	if i.Output.Fault != "" {
		m = append(m, Field{"output_fault", i.Output.Fault})
	}
	if i.Output.Dropped > 0 {
		m = append(m, Field{"output_dropped", i.Output.Dropped})
	}
	if i.Flapping {
		m = append(m, Field{"flapping", true})
	}
	if i.Finished != "" {
		m = append(m, Field{"finished", i.Finished})
	}
	if i.Waits != "" {
		m = append(m, Field{"waits", i.Waits})
	}
	b = appendMapLen(b, len(m))
	for _, f := range m {
		b = appendStr(b, f.Key)
		if f.Key == "uptime" && mainPID(i) > 0 && !i.StartedAt.IsZero() {
			uptimeAt = len(b) + 1
		}
		if b, err = Append(b, f.Value); err != nil {
			return nil, 0, err
		}
	}
	return b, uptimeAt, nil
}

// mainPID is the pid of the main process, 0 when there is none: the number of
// one that has ended may be another program's by now. The history keeps it.
func mainPID(i *InstanceView) int {
	if !i.Alive() || i.MainGone {
		return 0
	}
	return i.PID
}

// exitNumbers are exitcode and exitsignal: 0 and 0 before the first exit, nil
// and nil when the kernel could not tell.
func exitNumbers(e *reconcile.Exit) (code, signal any) {
	switch {
	case e == nil:
		return 0, 0
	case e.Unknown:
		return nil, nil
	}
	return e.Code, int(e.Signal)
}

func lastExit(e *reconcile.Exit) any {
	if e == nil {
		return nil
	}
	m := append(exitFields(e), Map{{"at", e.At}, {"duration", e.Duration}, {"cause", string(e.Cause)}}...)
	if e.Unknown {
		m = append(m, Field{"exit_unknown", true})
	}
	if e.Error != "" {
		m = append(m, Field{"error", e.Error})
	}
	return m
}

// exitFields are code, signal (its name, or nil) and core.
func exitFields(e *reconcile.Exit) Map {
	code, _ := exitNumbers(e)
	var signal any
	if e.Signal != 0 {
		signal = e.Signal.String()
	}
	return Map{{"code", code}, {"signal", signal}, {"core", e.Core}}
}

// nextStart is when an instance in backoff starts again, or nil.
func nextStart(i *InstanceView) any {
	if i.State == reconcile.StateBackoff {
		return i.Until
	}
	return nil
}

func pending(m map[string]string) any {
	if len(m) == 0 {
		return nil
	}
	return m
}

func adminState(down bool) string {
	if down {
		return "down"
	}
	return "up"
}

// active: shall run, and is not wholly stopped.
func active(p *ProgramView) bool {
	for n := range desired(p) {
		if !p.Spec.Admin.IsDown(n) {
			return true
		}
	}
	return false
}

// effectiveNice is what the spec sets, else what the kernel says, else 0.
func effectiveNice(p *ProgramView) int {
	if p.Spec.Nice != nil {
		return *p.Spec.Nice
	}
	n := 0
	if raw := observed(p, "nice"); raw != nil && json.Unmarshal(raw, &n) != nil {
		return 0
	}
	return n
}

// effectiveIONice is the same for ionice; the kernel's own default is class
// none, which it serves as level 4.
func effectiveIONice(p *ProgramView) spec.IONice {
	if p.Spec.IONice != nil {
		return *p.Spec.IONice
	}
	n := spec.IONice{Class: "none", Level: 4}
	if raw := observed(p, "ionice"); raw != nil {
		if v := (spec.IONice{}); json.Unmarshal(raw, &v) == nil && v.Class != "none" && v.Class != "" {
			return v
		}
	}
	return n
}

// observed is a value of the first living instance that was looked at.
func observed(p *ProgramView, key string) json.RawMessage {
	for _, i := range p.Instances {
		if raw, ok := i.Observed[key]; ok {
			return raw
		}
	}
	return nil
}
