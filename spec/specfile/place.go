package specfile

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"

	"github.com/procnanny/procnanny/spec"
)

// Names of what is evaluated beside the files. Their positions are never shown.
const (
	schemaName   = "(schema)"
	identityName = "(identity)"
	overrideName = "(override)"
)

// shown reports whether pos is in one of the user's files.
func (t *tree) shown(pos token.Pos) bool {
	_, ok := t.files[pos.Filename()]
	return ok && pos.IsValid()
}

// problemAt is a problem with a place and its source line, and no message yet.
func (t *tree) problemAt(pos token.Pos) spec.Problem {
	if !t.shown(pos) {
		return spec.Problem{}
	}
	p := spec.Problem{File: pos.Filename(), Line: pos.Line(), Column: pos.Column()}
	p.SourceLine = t.quote(p.File, p.Line)
	if c := p.Column; path.Ext(p.File) == ".json" && c > 1 {
		if line := t.line(p.File, p.Line); c <= len(line) && line[c-2] == '"' && line[c-1] != ',' {
			p.Column-- // CUE's reader of JSON counts a key from behind its quote
		}
	}
	return p
}

// line is one line of a file. Many are asked for, and a file may be long: where
// its lines begin is looked up once.
func (t *tree) line(file string, n int) string {
	data := t.files[file]
	begins, ok := t.begins[file]
	if !ok {
		begins = []int{0}
		for i, c := range data {
			if c == '\n' {
				begins = append(begins, i+1)
			}
		}
		if t.begins == nil {
			t.begins = map[string][]int{}
		}
		t.begins[file] = begins
	}
	if n < 1 || n > len(begins) {
		return ""
	}
	line, _, _ := bytes.Cut(data[begins[n-1]:], []byte("\n"))
	return strings.TrimRight(string(line), "\r")
}

// add keeps a problem at path, without what is secret.
func (t *tree) add(ps *spec.Problems, p spec.Problem, path []string) {
	p.Path = dotted(path)
	if secret(path) {
		p.SourceLine, p.Path = "", dotted(withoutValues(path))
	}
	p.Message = t.withoutSecrets(p)
	*ps = append(*ps, p)
}

// dotted joins a path, quoting what is no plain word.
func dotted(path []string) string {
	var b strings.Builder
	for i, p := range path {
		if strings.HasPrefix(p, "[") {
			b.WriteString(p)
			continue
		}
		if i > 0 {
			b.WriteByte('.')
		}
		if !ast.IsValidIdent(p) {
			p = fmt.Sprintf("%q", p)
		}
		b.WriteString(p)
	}
	return b.String()
}

// plain is a selector as an element of a path.
func plain(sel cue.Selector) string {
	switch {
	case sel.LabelType() == cue.StringLabel && sel.ConstraintType() != cue.PatternConstraint:
		return sel.Unquoted()
	case sel.LabelType() == cue.IndexLabel:
		return fmt.Sprintf("[%d]", sel.Index())
	}
	return sel.String()
}

// conjuncts are the fields in the files that v comes from.
func (t *tree) conjuncts(v cue.Value) []*ast.Field {
	var out []*ast.Field
	t.eachConjunct(v, 0, func(c cue.Value, f *ast.Field) { out = append(out, f) })
	return out
}

// eachConjunct calls visit for each field in the files that says something
// about v.
func (t *tree) eachConjunct(v cue.Value, depth int, visit func(c cue.Value, f *ast.Field)) {
	if f, ok := v.Source().(*ast.Field); ok && t.shown(f.Pos()) {
		visit(v, f)
		return
	}
	op, args := v.Expr()
	if op != cue.AndOp || depth > 64 {
		return
	}
	for _, a := range args {
		t.eachConjunct(a, depth+1, visit)
	}
}

// parts are the values that v is unified from.
func parts(v cue.Value, depth int) []cue.Value {
	op, args := v.Expr()
	if op != cue.AndOp || depth > 64 {
		return []cue.Value{v}
	}
	var out []cue.Value
	for _, a := range args {
		out = append(out, parts(a, depth+1)...)
	}
	return out
}

// labelPos is where the field v is written, as opposed to its value.
func (t *tree) labelPos(v cue.Value) token.Pos {
	for _, f := range t.conjuncts(v) {
		return f.Label.Pos()
	}
	return t.anyPos(v)
}

// written is where the longest beginning of a path of CUE's is written in the
// files, or no place.
func (t *tree) written(path []string) token.Pos {
	pos, most := token.NoPos, 0
	for f, h := range t.homes() {
		n := 0
		for n < min(len(h.path), len(path)) && h.path[n] == path[n] {
			n++
		}
		at := f.Label.Pos()
		if n == len(h.path) && (n > most || n == most && n > 0 && at.Compare(pos) < 0) {
			pos, most = at, n
		}
	}
	return pos
}

// valuePos is where the value that v has is written; bad picks among several.
func (t *tree) valuePos(v cue.Value, bad func(cue.Value) bool) token.Pos {
	pos := token.NoPos
	t.eachConjunct(v, 0, func(c cue.Value, f *ast.Field) {
		if p := f.Value.Pos(); t.shown(p) && (!pos.IsValid() || bad != nil && bad(c)) {
			pos = p
			if bad != nil && bad(c) {
				bad = nil
			}
		}
	})
	if pos.IsValid() {
		return pos
	}
	return t.anyPos(v)
}

func (t *tree) anyPos(v cue.Value) token.Pos {
	if t.shown(v.Pos()) {
		return v.Pos()
	}
	if _, args := v.Expr(); len(args) > 0 {
		for _, a := range args {
			if t.shown(a.Pos()) {
				return a.Pos()
			}
		}
	}
	return token.NoPos
}

// positions are the places in the user's files that an error names, the most
// telling first.
func (t *tree) positions(err errors.Error) []token.Pos {
	var out []token.Pos
	add := func(p token.Pos) {
		if !t.shown(p) {
			return
		}
		for _, o := range out {
			if o.Filename() == p.Filename() && o.Line() == p.Line() && o.Column() == p.Column() {
				return
			}
		}
		out = append(out, p)
	}
	if t.shown(err.Position()) && len(err.InputPositions()) == 0 {
		add(err.Position())
	}
	for _, p := range err.InputPositions() {
		add(p)
	}
	add(err.Position())
	for _, p := range errors.Positions(err) {
		add(p)
	}
	return out
}
