package rpc

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/procnanny/procnanny/spec"
)

var overrideMethods = []Method{
	{
		Name: "scale", Access: AccessAdmin,
		Doc: "Want that many instances: an override of `instances`, within what the files allow.",
		Args: []Arg{
			argProgram,
			{Name: "instances", Type: TypeInt, Required: true, Max: MaxIndex, Doc: "how many"},
			argUntil, argReason, argWait, argTimeout,
		},
		Result:  "`program`; `instances`, now desired; `was`, desired before; `override`, as in `overrides`.",
		Request: `{"program": "web", "instances": 4, "until": "2h"}`,
		Reply:   `{"program": "web", "instances": 4, "was": 2, "override": {"program": "web", "field": "instances", "value": 4, "replaced": 1, "by": {"how": "rpc", "uid": 0, "gid": 0, "pid": 42}, "at": 1767323045, "until": 1767330245, "reason": null}}`,
		Handler: scale,
	},
	{
		Name: "set", Access: AccessAdmin,
		Doc: "Set any keys of a program on top of the files, within what they allow: all that are given, or none.",
		Args: []Arg{
			argProgram,
			{Name: "field", Type: TypeString, Max: 1000, Doc: "a key, with dots into maps: `nice`, `limits.nofile`, `env.LANG`"},
			{Name: "value", Type: TypeAny, Doc: "as in a file; nil gives the key its default"},
			{Name: "fields", Type: TypeMap, Doc: "instead of field and value: several keys, each with its value; they are one change"},
			argUntil, argReason, argWait, argTimeout,
		},
		Result:  "`program`; `field`; `was`, the value before; `override`, as in `overrides`. With `fields`: `program`, and `set`, a list of field, was, override.",
		Request: `{"program": "web", "field": "limits.nofile", "value": 1024}`,
		Reply:   `{"program": "web", "field": "limits.nofile", "was": null, "override": {"program": "web", "field": "limits.nofile", "value": 1024, "replaced": null, "by": {"how": "rpc", "uid": 0, "gid": 0, "pid": 42}, "at": 1767323045, "until": null, "reason": null}}`,
		Handler: set,
	},
	{
		Name: "create", Access: AccessAdmin,
		Doc: "Make a program that no file defines, and start it. It lasts until `delete`, or until the files define it.",
		Args: []Arg{
			{Name: "program", Type: TypeString, Required: true, Doc: "the new program's name"},
			{Name: "command", Type: TypeString, Required: true, Doc: "the executable"},
			{Name: "args", Type: TypeStrings, Doc: "its arguments"},
			argUntil, argReason, argWait, argTimeout,
		},
		AnyKey:  "every other key of a program, as in a file: `instances`, `nice`, `env`, ...; an unknown one is an error",
		Result:  "`created`, the name; `generation`, the configuration it starts under.",
		Request: `{"program": "sleeper", "command": "sleep", "args": ["1000"], "nice": 10}`,
		Reply:   `{"created": "sleeper", "generation": 7}`,
		Handler: create,
	},
	{
		Name: "delete", Access: AccessAdmin,
		Doc:     "Stop a program that `create` made, and forget it and its overrides. What a file defines is refused: take it out of the file.",
		Args:    []Arg{argProgram, argWait, argTimeout},
		Result:  "`deleted`, the name.",
		Request: `{"program": "sleeper"}`,
		Reply:   `{"deleted": "sleeper"}`,
		Handler: remove,
	},
	{
		Name: "reset", Access: AccessAdmin,
		Doc: "Take overrides away, so that the files' values hold again. Programs that `create` made stay (see `delete`).",
		Args: []Arg{
			optional(argProgram),
			{Name: "field", Type: TypeString, Doc: "only this one: `instances`, `nice`, `admin` (stops and starts), ..."},
			{Name: "all", Type: TypeBool, Doc: "instead of program: those of every program"},
			argWait, argTimeout,
		},
		Result:  "`reset`, the overrides that were taken away, as in `overrides`.",
		Request: `{"program": "web", "field": "instances"}`,
		Reply:   `{"reset": [{"program": "web", "field": "instances", "value": 2, "replaced": 1, "by": {"how": "rpc", "uid": 1000, "gid": 1000, "pid": 4711}, "at": 1767315845, "until": 1767326645, "reason": "Friday"}]}`,
		Handler: reset,
	},
	{
		Name: "overrides", Access: AccessRead, Quick: true,
		Doc:     "What was set over RPC on top of the files, by whom, when and why. Values of env are hidden.",
		Args:    []Arg{{Name: "program", Type: TypeString, Doc: "only those of this program"}},
		Result:  "`overrides`, each: program, instance (of a stop or start of one), field, value, replaced (what the file said), by (how, uid, gid, pid), at, until (a time, `boot`, or nil), reason.",
		Request: `{"program": "web"}`,
		Reply:   `{"overrides": [{"program": "web", "field": "instances", "value": 2, "replaced": 1, "by": {"how": "rpc", "uid": 1000, "gid": 1000, "pid": 4711}, "at": 1767315845, "until": 1767326645, "reason": "Friday"}]}`,
		Handler: overrides,
	},
}

func scale(ctx context.Context, c *Call) (any, error) {
	p, err := c.program(c.Args.Str("program"))
	if err != nil {
		return nil, err
	}
	n := c.Args.Int("instances", 0)
	value, err := toJSON("instances", int64(n))
	if err != nil {
		return nil, err
	}
	o, err := c.override(ctx, p, change{"instances", value})
	if o == nil {
		return nil, err
	}
	return Map{{"program", p.Name}, {"instances", n}, {"was", p.Spec.Instances}, {"override", o[0]}}, err
}

func set(ctx context.Context, c *Call) (any, error) {
	p, err := c.program(c.Args.Str("program"))
	if err != nil {
		return nil, err
	}
	fields, err := wishedFields(c.Args)
	if err != nil {
		return nil, err
	}
	var changes []change
	for _, field := range sortedKeys(fields) {
		if err := checkField(field); err != nil {
			return nil, err
		}
		if n := len(changes); n > 0 && strings.HasPrefix(field, changes[n-1].field+".") {
			return nil, Errorf(CodeBadArgument, "'%s' is a part of '%s': set one of them", field, changes[n-1].field)
		}
		value, err := toJSON(field, fields[field])
		if err != nil {
			return nil, err
		}
		changes = append(changes, change{field, value}) // whose type the files' schema judges
	}
	kept, err := c.override(ctx, p, changes...)
	if kept == nil {
		return nil, err
	}
	set := make([]Map, len(kept))
	for i, o := range kept {
		field := changes[i].field
		set[i] = Map{{"field", field}, {"was", Redact(field, p.Spec.Get(field))}, {"override", o}}
	}
	if c.Args.Has("fields") {
		return Map{{"program", p.Name}, {"set", set}}, err
	}
	return append(Map{{"program", p.Name}}, set[0]...), err
}

// wishedFields are the keys to set, with their values.
func wishedFields(a Args) (map[string]any, error) {
	if !a.Has("fields") {
		for _, name := range []string{"field", "value"} {
			if !a.Has(name) {
				return nil, Errorf(CodeMissingArgument, "Message is missing '%s' field", name)
			}
		}
		return map[string]any{a.Str("field"): a["value"]}, nil
	}
	given, _ := a["fields"].(map[any]any)
	out := make(map[string]any, len(given))
	for k, v := range given {
		field, ok := k.(string)
		if !ok {
			return nil, Errorf(CodeBadArgument, "'fields' must have keys of a program, found %s", describe(k))
		}
		out[field] = v
	}
	switch {
	case len(out) == 0:
		return nil, Errorf(CodeBadArgument, "'fields' is empty")
	case a.Has("field") || a.Has("value"):
		return nil, Errorf(CodeBadArgument, "give either 'fields' or 'field' and 'value'")
	}
	return out, nil
}

// checkField refuses what is no dotted path of a program's keys.
func checkField(field string) error {
	parts := strings.Split(field, ".")
	if slices.Contains(parts, "") {
		return Errorf(CodeBadArgument, "'field' must be a key such as nice or limits.nofile, found '%s'", field)
	}
	return checkKey(parts[0])
}

// checkKey refuses what is no key of a program, and says what may be meant.
func checkKey(key string) error {
	if slices.Contains(spec.Keys(), key) {
		return nil
	}
	hint := ""
	if near := spec.Nearest(key, spec.Keys()); near != "" {
		hint = " (did you mean '" + near + "'?)"
	}
	return Errorf(CodeBadArgument, "a program has no key '%s'%s", key, hint)
}

func create(ctx context.Context, c *Call) (any, error) {
	name := c.Args.Str("program")
	if err := spec.CheckName(name); err != nil {
		return nil, Errorf(CodeBadArgument, "'program': %v", err)
	}
	// One of that name that is on its way out makes room first.
	if p := c.Backend.View().Program(name); p != nil && p.Defined {
		return nil, Errorf(CodeConflict, "cannot create %s: %s", name, c.whose(p))
	}
	value, err := programValue(c.Args)
	if err != nil {
		return nil, err
	}
	o := c.stamped(spec.Override{Program: name, Field: spec.FieldProgram, Value: value})
	if err := c.Backend.Override(ctx, []spec.Override{o}); err != nil {
		return nil, err
	}
	if err := c.awaitSettled(ctx, one(name, o.At, spec.FieldProgram)); err != nil {
		return nil, err
	}
	return Map{{"created", name}, {"generation", c.Backend.View().Config.Generation}}, nil
}

// programValue is the specification that the request of create holds, as JSON.
func programValue(args Args) (json.RawMessage, error) {
	doc := map[string]json.RawMessage{}
	other, _ := args[otherKeys].(map[string]any)
	values := map[string]any{"command": args.Str("command")}
	if args.Has("args") {
		list := []any{}
		for _, a := range args.Strings("args") {
			list = append(list, a)
		}
		values["args"] = list
	}
	for _, key := range sortedKeys(other) {
		if err := checkKey(key); err != nil {
			return nil, err
		}
		values[key] = other[key]
	}
	for _, key := range sortedKeys(values) {
		raw, err := toJSON(key, values[key])
		if err != nil {
			return nil, err
		}
		doc[key] = raw
	}
	return json.Marshal(doc) // whose types the files' schema judges
}

// created reports whether create made p, and no file.
func created(p *ProgramView) bool {
	return slices.ContainsFunc(p.Overrides, func(o spec.Override) bool { return o.Field == spec.FieldProgram })
}

// Definer may be implemented by a Backend that knows where its files define a
// program: file:line, or "" when it cannot tell.
type Definer interface {
	DefinedIn(program string) string
}

// whose says who defines p.
func (c *Call) whose(p *ProgramView) string {
	if created(p) {
		return "it was created before"
	}
	if d, ok := c.Backend.(Definer); ok {
		if place := d.DefinedIn(p.Name); place != "" {
			return "the configuration defines it, in " + place
		}
	}
	return "the configuration files define it"
}

func remove(ctx context.Context, c *Call) (any, error) {
	p, err := c.program(c.Args.Str("program"))
	if err != nil {
		return nil, err
	}
	switch {
	case !p.Defined: // it is on its way out already
	case !created(p):
		return nil, Errorf(CodeConflict, "cannot delete %s: %s", p.Name, c.whose(p))
	default:
		if _, err := c.Backend.Reset(ctx, p.Name, spec.FieldProgram, c.by()); err != nil {
			return nil, err
		}
	}
	err = c.await(ctx, func(v *View) (d verdict) {
		if p := v.Program(p.Name); p != nil {
			d.wait("%s is still being stopped", p.Name)
		}
		return d
	})
	return Map{{"deleted", p.Name}}, err
}

func overrides(_ context.Context, c *Call) (any, error) {
	name, some := c.Args.Str("program"), c.Args.Has("program")
	out := []Map{}
	for _, o := range c.Backend.Overrides() {
		if !some || o.Program == name {
			out = append(out, overrideMap(o))
		}
	}
	if some && len(out) == 0 {
		if _, err := c.program(name); err != nil {
			return nil, err
		}
	}
	return Map{{"overrides", out}}, nil
}

func reset(ctx context.Context, c *Call) (any, error) {
	name, field := c.Args.Str("program"), c.Args.Str("field")
	switch {
	case c.Args.Has("program") && c.Args.Bool("all"):
		return nil, Errorf(CodeBadArgument, "give either 'program' or 'all'")
	case !c.Args.Has("program") && !c.Args.Bool("all"):
		return nil, Errorf(CodeMissingArgument, "Message is missing 'program' field")
	case field == spec.FieldProgram:
		return nil, Errorf(CodeBadArgument, "a program that was created is taken away by delete")
	case field != "" && field != spec.FieldAdmin && checkField(field) != nil:
		return nil, checkField(field)
	case c.Args.Has("program"):
		if _, err := c.program(name); err != nil {
			return nil, err
		}
	}
	start := c.now()
	taken, err := c.Backend.Reset(ctx, name, field, c.by())
	if err != nil {
		return nil, err
	}
	out, what := []Map{}, changed{map[string][]string{}, start}
	for _, o := range taken {
		out = append(out, overrideMap(o))
		what.keys[o.Program] = append(what.keys[o.Program], o.Field)
	}
	return Map{{"reset", out}}, c.awaitSettled(ctx, what)
}
