package rpc

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/procnanny/procnanny/spec"
)

// MaxIndex is the highest instance index.
const MaxIndex = 100_000

// Type is what an argument must be.
type Type string

// The types.
const (
	TypeString   Type = "a string"
	TypeInt      Type = "an integer"
	TypeBool     Type = "a boolean"
	TypeStrings  Type = "a list of strings"
	TypeMap      Type = "a map"
	TypeAny      Type = "anything"
	TypeDuration Type = "a duration such as \"10s\" or a number of seconds"
	TypeUntil    Type = "a duration such as \"10s\", or \"boot\""
	TypeTime     Type = "seconds since 1970"
	TypeSignal   Type = "a signal's name or number"
)

// Arg is one argument of a method.
type Arg struct {
	Name     string
	Type     Type
	Required bool
	Doc      string
	// Min and Max bound a TypeInt, Max the bytes of a TypeString and the seconds
	// of a TypeDuration; Max 0 is no bound.
	Min, Max int
	// Admin marks an argument that only administrators may give.
	Admin bool
}

func (a Arg) typeText() string {
	switch {
	case a.Type == TypeInt && a.Max >= math.MaxInt32:
		return fmt.Sprintf("an integer, %d or more", a.Min)
	case a.Type == TypeInt && a.Max > 0:
		return fmt.Sprintf("an integer from %d to %d", a.Min, a.Max)
	case a.Type == TypeDuration && a.Max > 0:
		return fmt.Sprintf("%s, at most %v", a.Type, time.Duration(a.Max)*time.Second)
	case a.Type == TypeString && a.Max > 0:
		return fmt.Sprintf("a string of at most %d bytes", a.Max)
	}
	return string(a.Type)
}

// Args are the checked arguments of a request: each value has the Go type of
// its Type.
type Args map[string]any

// Has reports whether the argument was given.
func (a Args) Has(name string) bool { _, ok := a[name]; return ok }

// Str returns a string argument, or "".
func (a Args) Str(name string) string { v, _ := a[name].(string); return v }

// Bool returns a boolean argument, or false.
func (a Args) Bool(name string) bool { v, _ := a[name].(bool); return v }

// Strings returns a list of strings, or nil.
func (a Args) Strings(name string) []string { v, _ := a[name].([]string); return v }

// Int returns an integer argument, or def.
func (a Args) Int(name string, def int) int {
	if v, ok := a[name].(int); ok {
		return v
	}
	return def
}

// IntPtr returns an integer argument, or nil.
func (a Args) IntPtr(name string) *int {
	if v, ok := a[name].(int); ok {
		return &v
	}
	return nil
}

// Duration returns a duration argument, or def.
func (a Args) Duration(name string, def time.Duration) time.Duration {
	if v, ok := a[name].(time.Duration); ok {
		return v
	}
	return def
}

// Time returns a time argument, or zero.
func (a Args) Time(name string) time.Time { v, _ := a[name].(time.Time); return v }

// checkArgs gives each argument its type, or says what is wrong with it.
func (m *Method) checkArgs(request map[any]any, admin bool) (Args, error) {
	if err := m.misspelt(request); err != nil {
		return nil, err
	}
	out := Args{}
	for _, arg := range m.Args {
		v := request[arg.Name]
		if v == nil {
			if _, given := request[arg.Name]; !given || arg.Type != TypeAny {
				if arg.Required {
					return nil, Errorf(CodeMissingArgument, "Message is missing '%s' field", arg.Name)
				}
				continue
			}
		}
		if arg.Admin && !admin {
			return nil, Errorf(CodeForbidden, "only %s may %s with '%s'", admins, m.Name, arg.Name)
		}
		typed, ok := converters[arg.Type](v, arg)
		if !ok {
			return nil, Errorf(CodeBadArgument, "'%s' must be %s, found %s", arg.Name, arg.typeText(), describe(v))
		}
		out[arg.Name] = typed
	}
	return out, nil
}

// misspelt refuses an argument of a change that is nearly one of the method's:
// without `intance` a stop is one of the whole program. Others are the client's own.
func (m *Method) misspelt(request map[any]any) error {
	if m.Access == AccessRead || m.AnyKey != "" {
		return nil
	}
	known := []string{"request"}
	for _, arg := range m.Args {
		known = append(known, arg.Name)
	}
	for k := range request {
		key, ok := asString(k)
		if !ok || slices.Contains(known, key) {
			continue
		}
		if near := spec.Nearest(key, known); near != "" {
			return Errorf(CodeBadArgument, "unknown argument '%s': did you mean '%s'?", key, near)
		}
	}
	return nil
}

// converters is keyed by type; each returns the value as the Go type that the
// getters of Args read.
var converters = map[Type]func(v any, a Arg) (any, bool){
	TypeString:   convertString,
	TypeBool:     func(v any, _ Arg) (any, bool) { b, ok := v.(bool); return b, ok },
	TypeAny:      func(v any, _ Arg) (any, bool) { return v, true },
	TypeInt:      convertInt,
	TypeStrings:  func(v any, _ Arg) (any, bool) { return asStrings(v) },
	TypeMap:      func(v any, _ Arg) (any, bool) { m, ok := v.(map[any]any); return m, ok },
	TypeDuration: convertDuration,
	TypeUntil: func(v any, _ Arg) (any, bool) {
		if s, ok := asString(v); ok && s == "boot" {
			return s, true
		}
		d, ok := asDuration(v)
		return d, ok && d > 0 // one that is over at once would be a stop and a start
	},
	TypeTime: func(v any, _ Arg) (any, bool) {
		f, ok := asFloat(v)
		return FromEpoch(f), ok && f >= 0 && f < 1e11
	},
	TypeSignal: func(v any, _ Arg) (any, bool) {
		if n, ok := asInt(v); ok {
			return fmt.Sprint(n), true
		}
		return asString(v)
	},
}

func convertString(v any, a Arg) (any, bool) {
	s, ok := asString(v)
	return s, ok && (a.Max == 0 || len(s) <= a.Max)
}

func convertDuration(v any, a Arg) (any, bool) {
	d, ok := asDuration(v)
	return d, ok && (a.Max == 0 || d <= time.Duration(a.Max)*time.Second)
}

func convertInt(v any, a Arg) (any, bool) {
	n, ok := asInt(v)
	return n, ok && n >= a.Min && (a.Max == 0 || n <= a.Max)
}

func asString(v any) (string, bool) {
	if b, ok := v.([]byte); ok {
		return string(b), utf8.Valid(b)
	}
	s, ok := v.(string)
	return s, ok
}

func asInt(v any) (int, bool) {
	switch v := v.(type) {
	case int64:
		return int(v), true
	case uint64:
		return int(v), v <= math.MaxInt
	case float64: // JSON has no other numbers, and many clients begin with JSON
		return int(v), v == math.Trunc(v) && math.Abs(v) < 1<<53
	}
	return 0, false
}

func asFloat(v any) (float64, bool) {
	if f, ok := v.(float64); ok {
		return f, !math.IsNaN(f)
	}
	n, ok := asInt(v)
	return float64(n), ok
}

func asStrings(v any) ([]string, bool) {
	list, ok := v.([]any)
	out := make([]string, len(list))
	for i, e := range list {
		s, isString := asString(e)
		out[i], ok = s, ok && isString
	}
	return out, ok
}

// maxDuration keeps a time.Duration from overflowing.
const maxDuration = 100 * 365 * 24 * time.Hour

func asDuration(v any) (time.Duration, bool) {
	if s, ok := asString(v); ok {
		d, err := time.ParseDuration(s)
		return d, err == nil && d >= 0 && d <= maxDuration
	}
	f, ok := asFloat(v)
	if !ok || f < 0 || f > maxDuration.Seconds() {
		return 0, false
	}
	return time.Duration(f * float64(time.Second)), true
}

// describe names what was found where something else was expected.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case bool:
		return fmt.Sprint(v)
	case int64, uint64, float64:
		return fmt.Sprint(v)
	case string:
		return quoted(v)
	case []byte:
		return "bytes"
	case []any:
		return listText(v)
	}
	return "a map"
}

// quotedBytes is how much of a string is repeated.
const quotedBytes = 40

func quoted(s string) string {
	if len(s) > quotedBytes || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == utf8.RuneError }) {
		return "a string"
	}
	return `"` + s + `"`
}

// listText says what of a list is no string, where all have to be.
func listText(list []any) string {
	for i, v := range list {
		if _, ok := asString(v); !ok {
			return fmt.Sprintf("a list with %s at %d", describe(v), i)
		}
	}
	return "a list"
}

// toJSON is a decoded msgpack value as JSON, the form of files.
func toJSON(name string, v any) (json.RawMessage, error) {
	plain, err := jsonable(v)
	if err == nil {
		var b []byte
		if b, err = json.Marshal(plain); err == nil {
			return b, nil
		}
	}
	return nil, Errorf(CodeBadArgument, "'%s' cannot be a value of a file: %v", name, err)
}

func jsonable(v any) (any, error) {
	switch v := v.(type) {
	case []byte: // a file has no other strings
		return jsonable(string(v))
	case string:
		if !utf8.ValidString(v) {
			return nil, errors.New("its text must be UTF-8") // json.Marshal would change it silently
		}
		return v, nil
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			p, err := jsonable(e)
			if err != nil {
				return nil, err
			}
			out[i] = p
		}
		return out, nil
	case map[any]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			key, ok := k.(string)
			if !ok || !utf8.ValidString(key) {
				return nil, fmt.Errorf("its keys must be strings, found %s", describe(k))
			}
			p, err := jsonable(e)
			if err != nil {
				return nil, err
			}
			out[key] = p
		}
		return out, nil
	}
	return v, nil
}
