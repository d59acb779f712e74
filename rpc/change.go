package rpc

import (
	"context"
	"encoding/json"

	"github.com/procnanny/procnanny/spec"
)

// override changes a defined program, all of it or nothing, and returns each
// override as it was stored: with what it replaced.
func (c *Call) override(ctx context.Context, p *ProgramView, changes ...change) ([]Map, error) {
	if !p.Defined {
		return nil, Errorf(CodeConflict, "%s is being removed", p.Name)
	}
	list := make([]spec.Override, len(changes))
	for i, f := range changes {
		list[i] = c.stamped(spec.Override{Program: p.Name, Field: f.field, Value: f.value})
	}
	if err := c.Backend.Override(ctx, list); err != nil {
		return nil, err
	}
	all, out := c.Backend.Overrides(), make([]Map, len(list))
	for i, o := range list {
		for _, kept := range all {
			if kept.Key() == o.Key() {
				o = kept
			}
		}
		out[i] = overrideMap(o)
	}
	return out, c.awaitSettled(ctx, one(p.Name, list[0].At, fieldsOf(changes)...))
}

// change is a key of a program and its new value.
type change struct {
	field string
	value json.RawMessage
}

func fieldsOf(changes []change) []string {
	out := make([]string, len(changes))
	for i, f := range changes {
		out[i] = f.field
	}
	return out
}
