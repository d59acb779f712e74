package specfile

import (
	"encoding/json"
	"unicode/utf8"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/token"
	"golang.org/x/text/unicode/norm"
)

// datum is plain data, which is all that JSON can say but null. The kind is
// Bottom for what is data all the same, but nothing that a rule would allow: a
// null, two values for one key.
type datum struct {
	kind     cue.Kind
	text     string // of a string; true or false; a number as JSON has it
	elements []datum
	fields   []field // keys are unique
}

type field struct {
	key string
	datum
}

// plainData reads an expression that is a literal through and through, without
// evaluating anything. What is not (a reference, a constraint, a comprehension,
// ...) is not plain.
func plainData(e ast.Expr) (d datum, plain bool) {
	switch x := e.(type) {
	case *ast.BasicLit:
		return literalData(x, ""), true
	case *ast.UnaryExpr:
		l, ok := x.X.(*ast.BasicLit)
		if !ok || x.Op != token.SUB || l.Kind != token.INT && l.Kind != token.FLOAT {
			return d, false
		}
		return literalData(l, "-"), true
	case *ast.ListLit:
		d = datum{kind: cue.ListKind, elements: make([]datum, len(x.Elts))}
		for i, e := range x.Elts {
			if d.elements[i], plain = plainData(e); !plain {
				return d, false
			}
		}
		return d, true
	case *ast.StructLit:
		var all fieldSet
		if !all.add(x.Elts) {
			return d, false
		}
		return all.data()
	}
	return d, false
}

// literalData is the value of a literal with a sign before it.
func literalData(l *ast.BasicLit, sign string) datum {
	switch l.Kind { //nolint:exhaustive // a null is no data
	case token.STRING:
		if s, ok := text(l); ok && utf8.ValidString(s) {
			return datum{kind: cue.StringKind, text: s}
		}
	case token.TRUE, token.FALSE:
		return datum{kind: cue.BoolKind, text: l.Kind.String()}
	case token.INT, token.FLOAT:
		var n literal.NumInfo
		if err := literal.ParseNum(sign+l.Value, &n); err != nil {
			return datum{}
		}
		d := datum{kind: cue.FloatKind, text: n.String()}
		if n.IsInt() {
			d.kind = cue.IntKind
		}
		if d.text == "" || d.text[0] == '.' || d.text == "-0" || !isDecimal(d.text) {
			return datum{} // JSON has another form for it
		}
		return d
	}
	return datum{}
}

// fieldSet is the values that declarations give to keys.
type fieldSet struct {
	keys   []string
	values [][]ast.Expr
	at     map[string]int // made when there are many
}

const manyMembers = 16

func (m *fieldSet) index(key string) int {
	if m.at != nil {
		if i, ok := m.at[key]; ok {
			return i
		}
		return -1
	}
	for i, k := range m.keys {
		if k == key {
			return i
		}
	}
	return -1
}

// add adds declarations, and reports whether they are plain fields, or structs
// of them that are embedded.
func (m *fieldSet) add(decls []ast.Decl) bool {
	for _, d := range decls {
		switch d := d.(type) {
		case *ast.EmbedDecl:
			s, ok := d.Expr.(*ast.StructLit)
			if !ok || !m.add(s.Elts) {
				return false
			}
		case *ast.CommentGroup:
		case *ast.Field:
			key, ok := plainKey(d)
			if !ok {
				return false
			}
			m.put(key, d.Value)
		default:
			return false
		}
	}
	return true
}

func (m *fieldSet) put(key string, value ast.Expr) {
	if i := m.index(key); i >= 0 {
		m.values[i] = append(m.values[i], value)
		return
	}
	m.keys, m.values = append(m.keys, key), append(m.values, []ast.Expr{value})
	if m.at != nil {
		m.at[key] = len(m.keys) - 1
	} else if len(m.keys) > manyMembers {
		m.at = make(map[string]int, 2*manyMembers)
		for i, k := range m.keys {
			m.at[k] = i
		}
	}
}

// plainKey is the name of a regular field without attributes or aliases.
func plainKey(f *ast.Field) (key string, ok bool) {
	if f.Constraint != token.ILLEGAL || f.Alias != nil || len(f.Attrs) > 0 {
		return "", false
	}
	switch l := f.Label.(type) {
	case *ast.Ident:
		key, ok = l.Name, l.Name != "" && l.Name[0] != '_' && l.Name[0] != '#'
	case *ast.BasicLit:
		key, ok = text(l)
	}
	// CUE normalizes keys.
	return key, ok && utf8.ValidString(key) && norm.NFC.IsNormalString(key)
}

// data is all of the fieldSet as one struct.
func (m *fieldSet) data() (d datum, plain bool) {
	d = datum{kind: cue.StructKind, fields: make([]field, len(m.keys))}
	for i, key := range m.keys {
		d.fields[i].key = key
		if d.fields[i].datum, plain = unified(m.values[i]); !plain {
			return d, false
		}
	}
	return d, true
}

// unified is what several values for one key say together.
func unified(values []ast.Expr) (d datum, plain bool) {
	if len(values) == 1 {
		return plainData(values[0])
	}
	var all fieldSet
	for _, v := range values {
		if s, ok := v.(*ast.StructLit); ok {
			if !all.add(s.Elts) {
				return d, false
			}
			continue
		}
		if _, plain := plainData(v); !plain {
			return d, false
		}
		d.text = "conflict"
	}
	out, plain := all.data()
	if d.text != "" {
		return datum{}, plain
	}
	return out, plain
}

// valueData is the data of a value that is concrete through and through.
func valueData(v cue.Value) (d datum, ok bool) {
	v, _ = v.Default()
	switch d.kind = v.Kind(); d.kind {
	case cue.StructKind:
		it, err := v.Fields()
		if err != nil {
			return d, false
		}
		for it.Next() {
			f := field{key: it.Selector().Unquoted()}
			if f.datum, ok = valueData(it.Value()); !ok {
				return d, false
			}
			d.fields = append(d.fields, f)
		}
		return d, true
	case cue.ListKind:
		it, err := v.List()
		if err != nil {
			return d, false
		}
		for it.Next() {
			e, ok := valueData(it.Value())
			if !ok {
				return d, false
			}
			d.elements = append(d.elements, e)
		}
		return d, true
	case cue.StringKind:
		s, err := v.String()
		d.text = s
		return d, err == nil && utf8.ValidString(s)
	case cue.IntKind, cue.FloatKind, cue.BoolKind:
		raw, err := v.MarshalJSON()
		d.text = string(raw)
		return d, err == nil
	default:
		return d, false
	}
}

// appendJSON appends the data as JSON; it has no Bottom in it.
func (d *datum) appendJSON(b []byte) []byte {
	switch d.kind { //nolint:exhaustive // the others have their text
	case cue.StringKind:
		return appendString(b, d.text)
	case cue.ListKind:
		b = append(b, '[')
		for i := range d.elements {
			if i > 0 {
				b = append(b, ',')
			}
			b = d.elements[i].appendJSON(b)
		}
		return append(b, ']')
	case cue.StructKind:
		b = append(b, '{')
		for i := range d.fields {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, d.fields[i].key), ':')
			b = d.fields[i].appendJSON(b)
		}
		return append(b, '}')
	}
	return append(b, d.text...)
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			raw, _ := json.Marshal(s) // a string can be marshalled
			return append(b, raw...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
