package specfile

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	cuejson "cuelang.org/go/encoding/json"

	"github.com/procnanny/procnanny/spec"
)

// settings are overrides as values at places.
type settings struct {
	leaves  []leaf
	created map[string]map[string]any
}

// leaf is one value of a program that a file defines. A nil value takes it away.
type leaf struct {
	at    *program
	path  []string
	value any
}

// branch holds values below a key, of which others may stay as they are; a
// plain map is all there is below a key.
type branch map[string]any

// settings sorts out which values overrides set. Those of a program that is
// gone are left out: they end by themselves.
func (e *Evaluation) settings(list []spec.Override) *settings {
	s := &settings{created: map[string]map[string]any{}}
	inFile, changed := map[string]*program{}, map[string]branch{}
	for _, p := range e.base.view.programs {
		inFile[p.name] = p
	}
	for _, o := range list {
		if m, ok := decodeJSON(o.Value).(map[string]any); ok && o.Field == spec.FieldProgram && inFile[o.Program] == nil {
			delete(m, "identity")
			s.created[o.Program] = m
		}
	}
	for _, o := range list {
		path := strings.Split(o.Field, ".")
		switch {
		case o.Field == spec.FieldProgram:
		case inFile[o.Program] != nil:
			if changed[o.Program] == nil {
				changed[o.Program] = branch{}
			}
			setIn(changed[o.Program], path, decodeJSON(o.Value))
		case s.created[o.Program] != nil:
			setIn(s.created[o.Program], path, decodeJSON(o.Value))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		s.split(inFile[name], inFile[name].value, nil, changed[name])
	}
	for _, m := range s.created {
		dropNulls(m)
	}
	return s
}

// decodeJSON is a value with every digit of its numbers; nil if it is none.
func decodeJSON(raw []byte) any {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return nil
	}
	return v
}

// setIn sets the value at a path below m. A short form on the way becomes the
// long one; nil stays as the wish to take the value away.
func setIn(m map[string]any, path []string, value any) {
	for n, key := range path[:len(path)-1] {
		switch next := m[key].(type) {
		case branch:
			m = next
		case map[string]any:
			m = next
		case nil:
			b := branch{}
			m[key], m = b, b
		default:
			long := longForm(path[:n+1], next)
			m[key], m = long, long
		}
	}
	m[path[len(path)-1]] = value
}

// longForm is what a short form stands for: a level of ionice, a limit.
func longForm(path []string, short any) map[string]any {
	switch {
	case len(path) == 1 && path[0] == "ionice":
		return map[string]any{"class": "best-effort", "level": short}
	case len(path) == 2 && path[0] == "limits":
		return map[string]any{"soft": short, "hard": short}
	}
	return map[string]any{}
}

func dropNulls(m map[string]any) {
	for key, v := range m {
		switch v := v.(type) {
		case nil:
			delete(m, key)
		case map[string]any:
			dropNulls(v)
		case branch:
			dropNulls(v)
		}
	}
}

// split makes leaves of what is set below a key, next to what the files have
// there: a struct takes the place of a struct key by key, anything else as a
// whole.
func (s *settings) split(p *program, has cue.Value, path []string, set map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(set)) {
		at, there := append(slices.Clone(path), key), lookup(has, key)
		below, all := set[key].(map[string]any)
		part, some := set[key].(branch)
		isStruct := there.Exists() && there.IncompleteKind() == cue.StructKind
		switch {
		case some && there.Exists() && !isStruct:
			s.leaves = append(s.leaves, leaf{p, at, lengthen(there, at, part)})
		case some:
			s.split(p, there, at, part)
		case all && isStruct:
			s.split(p, there, at, withMissing(there, below))
		default:
			s.leaves = append(s.leaves, leaf{p, at, set[key]})
		}
	}
}

// lengthen is the long form of the short value in the files, with part of it
// set.
func lengthen(there cue.Value, path []string, part branch) map[string]any {
	long := map[string]any{}
	if raw, err := there.MarshalJSON(); err == nil {
		long = longForm(path, decodeJSON(raw))
	}
	maps.Copy(long, part)
	dropNulls(long)
	return long
}

// withMissing adds the wish to take away every key of there that set has not.
func withMissing(there cue.Value, set map[string]any) map[string]any {
	out := maps.Clone(set)
	if it, err := there.Fields(); err == nil {
		for it.Next() {
			if key := plain(it.Selector()); !hasKey(set, key) {
				out[key] = nil
			}
		}
	}
	return out
}

func hasKey(m map[string]any, key string) bool {
	_, ok := m[key]
	return ok
}

// file holds the values of all of them, to be unified with the author's files.
func (s *settings) file() (*ast.File, error) {
	programs := map[string]any{}
	for name, m := range s.created {
		programs[name] = m
	}
	for _, l := range s.leaves {
		if l.value == nil {
			continue
		}
		m, ok := programs[l.at.name].(map[string]any)
		if !ok {
			m = map[string]any{}
			programs[l.at.name] = m
		}
		setIn(m, l.path, l.value)
	}
	raw, err := json.Marshal(map[string]any{"programs": programs})
	if err != nil {
		return nil, err
	}
	expr, err := cuejson.Extract(overrideName, raw)
	if err != nil {
		return nil, err
	}
	return exprFile(overrideName, expr)
}
