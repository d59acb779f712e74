package control

import (
	"strconv"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
)

func programTopic(kind, program string) string { return kind + "." + rpc.EscapeTopic(program) }

func instanceTopic(kind string, id reconcile.InstanceID) string {
	return kind + "." + rpc.EscapeTopic(id.Program) + "." + strconv.Itoa(id.Index)
}

// rows say what is published of each event of the core: under which topic, and
// with which keys beyond event, program and instance. A run's end is told by
// the state event that carries the exit.
var rows = map[reconcile.EventKind]struct {
	topic  func(ev *reconcile.Event) string
	fields func(m rpc.Map, ev *reconcile.Event) rpc.Map
}{
	reconcile.EventState:    {func(ev *reconcile.Event) string { return instanceTopic("state", ev.ID) }, stateFields},
	reconcile.EventFlapping: {func(ev *reconcile.Event) string { return programTopic("flapping", ev.ID.Program) }, flapFields},
	reconcile.EventStable:   {func(ev *reconcile.Event) string { return programTopic("flapping", ev.ID.Program) }, flapFields},
	reconcile.EventHeld:     {func(ev *reconcile.Event) string { return programTopic("held", ev.ID.Program) }, detailFields},
	reconcile.EventResumed:  {func(ev *reconcile.Event) string { return programTopic("held", ev.ID.Program) }, detailFields},
	reconcile.EventIgnored:  {func(ev *reconcile.Event) string { return instanceTopic("ignored", ev.ID) }, detailFields},
	reconcile.EventPending:  {func(ev *reconcile.Event) string { return instanceTopic("pending", ev.ID) }, detailFields},
	reconcile.EventDrained:  {func(ev *reconcile.Event) string { return instanceTopic("drain", ev.ID) }, drainFields},
}

// usualFields is room for the keys of an event, all but those of few.
const usualFields = 16

// topicFor is the topic of an event of the core; empty is that it is not published.
func topicFor(ev *reconcile.Event) string {
	if row, ok := rows[ev.Kind]; ok {
		return row.topic(ev)
	}
	return ""
}

// describe appends to m what is published of an event of the core.
func describe(m rpc.Map, ev *reconcile.Event) rpc.Map {
	name := string(ev.Kind)
	if ev.Kind == reconcile.EventState {
		name = ev.State.String()
	}
	m = append(m, rpc.Field{Key: "event", Value: name}, rpc.Field{Key: "program", Value: ev.ID.Program})
	if ev.ID.Index >= 0 {
		m = append(m, rpc.Field{Key: "instance", Value: ev.ID.Index})
	}
	return rows[ev.Kind].fields(m, ev)
}

// stateFields begin as the daemon of 2011 had them: state, then code or signal
// on the exit itself.
func stateFields(m rpc.Map, ev *reconcile.Event) rpc.Map {
	m = append(m, rpc.Field{Key: "state", Value: ev.State.String()})
	if ev.Exit != nil {
		m = exitFields(m, ev.Exit)
	}
	m = append(
		m,
		rpc.Field{Key: "from", Value: ev.From.String()},
		rpc.Field{Key: "run_id", Value: uint64(ev.Run)},
		rpc.Field{Key: "pid", Value: ev.PID},
		rpc.Field{Key: "generation", Value: ev.Generation},
		rpc.Field{Key: "cause", Value: string(ev.Cause)},
	)
	if ev.Detail != "" {
		m = append(m, rpc.Field{Key: "detail", Value: ev.Detail})
	}
	if ev.Attempt > 0 {
		m = append(m, rpc.Field{Key: "attempt", Value: ev.Attempt})
	}
	return m
}

// flapFields are the verdict and the numbers it was judged by.
func flapFields(m rpc.Map, ev *reconcile.Event) rpc.Map {
	m = detailFields(m, ev)
	if f := ev.Flap; f != nil {
		ends := make([]any, len(f.Ends))
		for i, at := range f.Ends {
			ends[i] = at
		}
		m = append(
			m,
			rpc.Field{Key: "ends", Value: ends}, rpc.Field{Key: "window", Value: f.Window},
			rpc.Field{Key: "count", Value: f.Count}, rpc.Field{Key: "within", Value: f.Within},
		)
	}
	return m
}

func drainFields(m rpc.Map, ev *reconcile.Event) rpc.Map {
	m = detailFields(append(m, rpc.Field{Key: "cause", Value: string(ev.Cause)}), ev)
	if d := ev.Drain; d != nil {
		m = append(m, rpc.Field{Key: "ok", Value: d.OK}, rpc.Field{Key: "answer", Value: d.Answer}, rpc.Field{Key: "took", Value: d.Took})
	}
	return m
}

func exitFields(m rpc.Map, e *reconcile.Exit) rpc.Map {
	switch {
	case e.Unknown:
		m = append(m, rpc.Field{Key: "code", Value: nil}, rpc.Field{Key: "exit_unknown", Value: true})
	case e.Signal != 0:
		m = append(m, rpc.Field{Key: "signal", Value: e.Signal.String()}, rpc.Field{Key: "core", Value: e.Core})
	case e.Error != "":
		m = append(m, rpc.Field{Key: "code", Value: nil}, rpc.Field{Key: "error", Value: e.Error})
	default:
		m = append(m, rpc.Field{Key: "code", Value: e.Code})
	}
	return append(m, rpc.Field{Key: "duration", Value: e.Duration})
}

func detailFields(m rpc.Map, ev *reconcile.Event) rpc.Map {
	m = append(m, rpc.Field{Key: "run_id", Value: uint64(ev.Run)}, rpc.Field{Key: "generation", Value: ev.Generation})
	if ev.Detail != "" {
		m = append(m, rpc.Field{Key: "detail", Value: ev.Detail})
	}
	return m
}
