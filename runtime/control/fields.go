package control

import (
	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/spec"
)

func byMap(by spec.Requester) rpc.Map {
	return rpc.RequesterMap(by)
}

// orNil is a text, or nil where there is none: as replies say it.
func orNil(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func driftFields(o reconcile.Observation, key, how string) rpc.Map {
	return rpc.Map{
		{Key: "event", Value: "drift"},
		{Key: "program", Value: o.ID.Program},
		{Key: "instance", Value: o.ID.Index},
		{Key: "run_id", Value: uint64(o.Run)},
		{Key: "key", Value: key},
		{Key: "detail", Value: how},
	}
}

// overrideFields tell of an override that begins or ends. Secrets in its value
// are hidden, and a created program is not repeated whole.
func overrideFields(event string, o spec.Override, why string) rpc.Map {
	m := rpc.Map{{Key: "event", Value: event}, {Key: "program", Value: o.Program}}
	if o.Index != nil {
		m = append(m, rpc.Field{Key: "instance", Value: *o.Index})
	}
	m = append(m, rpc.Field{Key: "field", Value: o.Field})
	if o.Field != spec.FieldProgram {
		m = append(m, rpc.Field{Key: "value", Value: rpc.Redact(o.Field, o.Value)})
	}
	m = append(m, rpc.Field{Key: "by", Value: byMap(o.By)})
	switch {
	case o.UntilBoot:
		m = append(m, rpc.Field{Key: "until", Value: "boot"})
	case !o.Until.IsZero():
		m = append(m, rpc.Field{Key: "until", Value: o.Until})
	}
	if why != "" {
		m = append(m, rpc.Field{Key: "detail", Value: why})
	}
	if o.Reason != "" {
		m = append(m, rpc.Field{Key: "reason", Value: o.Reason})
	}
	return m
}

func commandFields(c reconcile.Command) rpc.Map {
	targets := make([]string, len(c.Targets))
	for i, id := range c.Targets {
		targets[i] = id.String()
	}
	m := rpc.Map{{Key: "event", Value: "command"}, {Key: "command", Value: c.Kind.String()}, {Key: "targets", Value: targets}}
	if c.Signal != 0 {
		m = append(m, rpc.Field{Key: "signal", Value: c.Signal.String()})
	}
	return append(m, rpc.Field{Key: "by", Value: byMap(c.By)})
}
