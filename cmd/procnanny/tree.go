package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"

	"gopkg.in/yaml.v3"
)

// normal makes a decoded reply a tree of what JSON knows: keys become strings,
// whatever integer or string they were, and bytes become base64 when printed.
func normal(v any) any {
	switch v := v.(type) {
	case map[any]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[keyText(k)] = normal(e)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = normal(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = normal(e)
		}
		return out
	case float64:
		return finite(v)
	case float32:
		return finite(float64(v))
	}
	return v
}

// finite keeps JSON possible: it has no NaN and no infinity.
func finite(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return f
}

func keyText(k any) string {
	switch k := k.(type) {
	case string:
		return k
	case []byte:
		return string(k)
	}
	return fmt.Sprint(k)
}

// into reads a tree into a typed value for a text view.
func into(tree, target any) error {
	raw, err := json.Marshal(tree)
	if err == nil {
		err = json.Unmarshal(raw, target)
	}
	if err != nil {
		return fmt.Errorf("cannot read the daemon's answer: %w", err)
	}
	return nil
}

// writeJSON prints a tree, indented.
func writeJSON(w io.Writer, tree any) error { return encodeJSON(w, tree, "  ") }

// writeLine prints a tree as JSON on one line, as streams do.
func writeLine(w io.Writer, tree any) error { return encodeJSON(w, tree, "") }

func encodeJSON(w io.Writer, tree any, indent string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(tree); err != nil {
		return err
	}
	_, err := io.WriteString(w, quoteHidden(b.String(), jsonBeyond))
	return err
}

// quoteHidden writes what a reader cannot see (and a terminal might obey) as
// escapes. In JSON, and in YAML's double quotes, only strings can hold such
// characters. The two languages differ in how they escape those beyond 16 bits.
func quoteHidden(text string, beyond func(r rune) string) string {
	if plain(strings.ReplaceAll(text, "\n", "")) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || visible(r):
			b.WriteRune(r)
		case r > 0xffff:
			b.WriteString(beyond(r))
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func jsonBeyond(r rune) string {
	hi, lo := utf16.EncodeRune(r)
	return fmt.Sprintf(`\u%04x\u%04x`, hi, lo)
}

func yamlBeyond(r rune) string { return fmt.Sprintf(`\U%08x`, r) }

// writeYAML prints a tree with the same keys, values and order as writeJSON.
func writeYAML(w io.Writer, tree any) error {
	raw, err := json.Marshal(tree)
	if err != nil {
		return err
	}
	var doc yaml.Node // JSON is YAML: only the style must change
	if err := yaml.Unmarshal([]byte(quoteHidden(string(raw), yamlBeyond)), &doc); err != nil {
		return err
	}
	restyle(&doc)
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	_, err = io.WriteString(w, quoteHidden(b.String(), yamlBeyond))
	return err
}

// restyle makes a parsed JSON document block YAML; only strings with something
// to escape stay quoted (and those that begin with a blank, which the library's
// block style loses), and what is empty stays on its line.
func restyle(n *yaml.Node) {
	hidden := strings.ContainsFunc(n.Value, func(r rune) bool { return !visible(r) && r != '\n' }) ||
		strings.TrimLeftFunc(n.Value, unicode.IsSpace) != n.Value
	if !hidden && (n.Kind == yaml.ScalarNode || len(n.Content) > 0) {
		n.Style = 0
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && !hidden && ambiguous(n.Value) {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		restyle(c)
	}
}

// ambiguous reports whether a plain scalar would be read as something else
// than a string, by this library or by one that knows YAML 1.1 only, as Ruby's
// and Python's do: yes is true there, 12:30 a number, = a tag of its own, and <<
// as a key something else again.
func ambiguous(text string) bool {
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		return true
	}
	if _, ok := v.(string); !ok || text == "=" || text == "<<" {
		return true
	}
	raw, err := yaml.Marshal(text) // of a plain string, unlike of a node, it minds 1.1
	return err != nil || strings.HasPrefix(string(raw), `"`)
}

// value reads an argument as people type it: JSON if it is JSON, else the text
// itself. Integers stay integers.
func value(text string) any {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return text
	}
	if _, err := dec.Token(); err != io.EOF {
		return text
	}
	return numbers(v)
}

// numbers replaces each json.Number by the narrowest Go number.
func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return n
		}
		if n, err := strconv.ParseUint(v.String(), 10, 64); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for k, e := range v {
			v[k] = numbers(e)
		}
	case []any:
		for i, e := range v {
			v[i] = numbers(e)
		}
	}
	return v
}
