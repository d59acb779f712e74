package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/procnanny/procnanny/spec"
)

func diff(_ context.Context, c *Call) (any, error) {
	v := c.Backend.View()
	n := v.Config.Generation
	switch {
	case c.Args.Has("generation"):
		var err error
		if n, err = c.kept(c.Args.Int("generation", 0)); err != nil {
			return nil, err
		}
	case v.Config.Pinned != 0: // what runs is not what the files said last
		list, err := c.Backend.Generations()
		if err != nil {
			return nil, err
		}
		if len(list) > 0 {
			n = list[len(list)-1].Number
		}
	}
	old := spec.Spec{}
	if n > 0 {
		var err error
		if old, err = c.Backend.GenerationSpec(n); err != nil {
			return nil, err
		}
	}
	now, known := c.desired(v)
	if !known {
		old.On, old.ExitWhen = nil, ""
	}
	list, err := differences(now, old)
	if err != nil {
		return nil, err
	}
	return Map{{"generation", n}, {"differences", list}}, nil
}

// differences lists where two specifications differ, key by key.
func differences(now, old spec.Spec) ([]Map, error) {
	names := sortedKeys(now.Programs)
	for name := range old.Programs {
		if _, ok := now.Programs[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	out, err := besideDifferences(now, old)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		list, err := programDifferences(name, now, old)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

// besideDifferences are those of what is said beside the programs.
func besideDifferences(now, old spec.Spec) ([]Map, error) {
	out := []Map{}
	keys := func(s spec.Spec) (map[string]json.RawMessage, error) {
		s.Programs = nil
		return keysOf(s)
	}
	va, err := keys(now)
	if err != nil {
		return nil, err
	}
	vb, err := keys(old)
	if err != nil {
		return nil, err
	}
	for _, key := range sortedKeys(union(va, vb)) {
		if !bytes.Equal(va[key], vb[key]) {
			out = append(out, difference(nil, key, Redact(key, va[key]), Redact(key, vb[key])))
		}
	}
	return out, nil
}

func programDifferences(name string, now, old spec.Spec) ([]Map, error) {
	a, inNow := now.Programs[name]
	b, inOld := old.Programs[name]
	va, err := programKeys(a, inNow)
	if err != nil {
		return nil, err
	}
	vb, err := programKeys(b, inOld)
	if err != nil {
		return nil, err
	}
	if !inNow || !inOld {
		return []Map{difference(name, spec.FieldProgram, wholeProgram(a, inNow), wholeProgram(b, inOld))}, nil
	}
	out := adminDifferences(name, a.Admin, b.Admin)
	for _, key := range sortedKeys(union(va, vb)) {
		if !bytes.Equal(va[key], vb[key]) {
			out = append(out, difference(name, key, Redact(key, va[key]), Redact(key, vb[key])))
		}
	}
	return out, nil
}

// difference is one; program is nil for what is said beside them.
func difference(program any, field string, now, old any) Map {
	return Map{{"program", program}, {"field", field}, {"desired", now}, {"generation", old}}
}

func wholeProgram(p spec.Program, there bool) any {
	if !there {
		return nil
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return nil
	}
	return Redact(spec.FieldProgram, raw)
}

// programKeys are the values of a program by key; env by variable.
func programKeys(p spec.Program, there bool) (map[string]json.RawMessage, error) {
	if !there {
		return map[string]json.RawMessage{}, nil
	}
	out, err := keysOf(p)
	if err != nil {
		return nil, err
	}
	delete(out, "identity")
	delete(out, "env")
	for name, value := range p.Env {
		if out["env."+name], err = json.Marshal(value); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// keysOf are the values of a struct by key.
func keysOf(v any) (map[string]json.RawMessage, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	out := map[string]json.RawMessage{}
	return out, json.Unmarshal(raw, &out)
}

func union[V any](a, b map[string]V) map[string]V {
	out := make(map[string]V, len(a)+len(b))
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// adminDifferences: generations know no stops, so most often old is all up.
func adminDifferences(name string, now, old spec.Admin) []Map {
	var out []Map
	if now.Down != old.Down {
		out = append(out, difference(name, spec.FieldAdmin, adminState(now.Down), adminState(old.Down)))
	}
	indexes := []int{}
	for index, down := range now.Index {
		if down != old.IsDown(index) {
			indexes = append(indexes, index)
		}
	}
	slices.Sort(indexes)
	for _, index := range indexes {
		d := difference(name, spec.FieldAdmin, adminState(now.IsDown(index)), adminState(old.IsDown(index)))
		out = append(out, slices.Insert(d, 1, Field{"instance", index}))
	}
	return out
}
