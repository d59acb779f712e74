package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// CUE prints s as a configuration file: every key that differs from its default,
// in the order of the reference. Evaluating it gives s again. It says nothing of
// Admin and Identity, which no file says.
func CUE(s Spec) string {
	if len(s.Programs) == 0 && len(s.On) == 0 && s.ExitWhen == "" {
		return "programs: {}\n"
	}
	names := make([]string, 0, len(s.Programs))
	for name := range s.Programs {
		names = append(names, name)
	}
	slices.Sort(names)
	defaults := asTree(Defaults())
	var b strings.Builder
	if s.ExitWhen != "" {
		b.WriteString("exit_when: " + quote(s.ExitWhen) + "\n")
	}
	if len(s.On) > 0 {
		b.WriteString("on: ")
		printTree(&b, unhooked(asTree(s.On), ""), 0, false)
		b.WriteByte('\n')
	}
	var out object
	for _, name := range names {
		p, _ := asTree(s.Programs[name]).(object)
		p = slices.DeleteFunc(p, func(m member) bool { return m.key == "identity" })
		p, _ = difference(p, defaults).(object)
		for n, m := range p {
			if m.key == "on" || m.key == "stop" {
				p[n].value = unhooked(m.value, m.key)
			}
		}
		out = append(out, member{name, p})
	}
	if len(out) == 0 {
		b.WriteString("programs: {}\n")
		return b.String()
	}
	b.WriteString("programs: {\n")
	for _, m := range out {
		b.WriteString("\t" + label(m.key) + ": ")
		printTree(&b, m.value, 1, false)
		b.WriteByte('\n')
	}
	b.WriteString("}\n")
	return b.String()
}

// object is a JSON object that keeps its order.
type object []member

type member struct {
	key   string
	value any // object, []any, string, json.Number, bool or nil
}

// hookDefaults are keys of hooks with their default, by what they stand in.
var hookDefaults = map[string]member{
	"run": {"timeout", Seconds(hookRunTimeout).String()}, "webhook": {"timeout", Seconds(webhookTimeout).String()},
	"[]": {"retries", json.Number(strconv.Itoa(hookRetries))},
}

// unhooked is v without what its hooks need not say: resolved identities and
// defaults.
func unhooked(v any, in string) any {
	switch v := v.(type) {
	case object:
		out := object{}
		for _, m := range v {
			if isDefault := (in == "run" || in == "webhook" || in == "[]") && m == hookDefaults[in]; m.key == "identity" || isDefault {
				continue
			}
			if m.key != "env" && m.key != "headers" { // their keys are the author's
				m.value = unhooked(m.value, m.key)
			}
			out = append(out, m)
		}
		return out
	case []any:
		for i := range v {
			v[i] = unhooked(v[i], "[]")
		}
	}
	return v
}

func asTree(p any) any {
	raw, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("cannot marshal %T: %v", p, err)) // our own plain types only
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	return nextTree(dec)
}

// nextTree reads one value of what encoding/json itself wrote: no token of it
// can fail.
func nextTree(dec *json.Decoder) any {
	tok, _ := dec.Token()
	switch tok {
	case json.Delim('{'):
		var o object
		for dec.More() {
			key, _ := dec.Token()
			name, _ := key.(string)
			o = append(o, member{name, nextTree(dec)})
		}
		_, _ = dec.Token()
		return o
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			list = append(list, nextTree(dec))
		}
		_, _ = dec.Token()
		return list
	}
	return tok
}

// difference is v without what the defaults say as well; nil if that is all.
func difference(v, defaults any) any {
	o, ok := v.(object)
	d, ok2 := defaults.(object)
	if !ok || !ok2 {
		if equalTree(v, defaults) {
			return nil
		}
		return v
	}
	out := object{}
	for _, m := range o {
		i := slices.IndexFunc(d, func(x member) bool { return x.key == m.key })
		if i < 0 || m.key == "command" {
			out = append(out, m)
		} else if left := difference(m.value, d[i].value); left != nil {
			out = append(out, member{m.key, left})
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func equalTree(a, b any) bool {
	var x, y strings.Builder
	printTree(&x, a, 0, false)
	printTree(&y, b, 0, false)
	return x.String() == y.String()
}

// printTree prints a value. A struct with one key is written on one line; short
// says that this is below such a key.
func printTree(b *strings.Builder, v any, depth int, short bool) {
	switch v := v.(type) {
	case object:
		if len(v) == 1 && (short || depth > 1) {
			b.WriteString(label(v[0].key) + ": ")
			printTree(b, v[0].value, depth, true)
			return
		}
		b.WriteString("{")
		for _, m := range v {
			b.WriteString("\n" + strings.Repeat("\t", depth+1) + label(m.key) + ": ")
			printTree(b, m.value, depth+1, false)
		}
		if len(v) > 0 {
			b.WriteString("\n" + strings.Repeat("\t", depth))
		}
		b.WriteString("}")
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			if o, ok := e.(object); ok && len(o) == 1 { // braces, unlike below a key
				b.WriteString("{" + label(o[0].key) + ": ")
				printTree(b, o[0].value, depth, true)
				b.WriteByte('}')
				continue
			}
			printTree(b, e, depth, false)
		}
		b.WriteByte(']')
	case string:
		b.WriteString(quote(v))
	default:
		fmt.Fprint(b, v)
	}
}

var identifier = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)

// keywords are words that are not bare labels everywhere in CUE.
var keywords = []string{"package", "import", "for", "in", "if", "let", "true", "false", "null", "func", "else", "try", "fallback", "otherwise", "self"}

func label(key string) string {
	if identifier.MatchString(key) && !slices.Contains(keywords, key) {
		return key
	}
	return quote(key)
}

// quote writes a string so that it looks like what it is: what cannot be
// printed, or changes the direction of text, is escaped.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == ' ' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
