package specfile

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/ast/astutil"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
	"cuelang.org/go/encoding/json"
	"cuelang.org/go/encoding/yaml"
)

// extract are the languages, by the end of a file's name.
var extract = map[string]func(name string, data []byte) (*ast.File, error){
	".cue":  parseCUE,
	".json": parseJSON,
	".yaml": parseYAML,
	".yml":  parseYAML,
}

func parseCUE(name string, data []byte) (*ast.File, error) {
	f, err := parser.ParseFile(name, data, parser.ParseComments, parser.AllErrors)
	if err != nil {
		return nil, err
	}
	for _, d := range f.Decls {
		if a, ok := d.(*ast.Attribute); ok && strings.HasPrefix(a.Text, "@extern") {
			return nil, errors.Newf(a.Pos(), "%s cannot be used: an evaluation opens no file and runs nothing", a.Text)
		}
	}
	return f, nil
}

// byteOrderMark begins the files of some editors; in CUE and YAML it is left out
// by who reads them.
var byteOrderMark = []byte("\ufeff")

func parseJSON(name string, data []byte) (*ast.File, error) {
	if rest, ok := bytes.CutPrefix(data, byteOrderMark); ok { // blanks keep the places
		data = append(bytes.Repeat([]byte(" "), len(byteOrderMark)), rest...)
	}
	expr, err := json.Extract(name, data)
	if err != nil {
		return nil, err
	}
	f, err := exprFile(name, expr)
	if err != nil {
		return nil, err
	}
	return f, duplicates(f)
}

func parseYAML(name string, data []byte) (*ast.File, error) {
	f, err := extractYAML(name, data)
	if err != nil {
		return nil, err
	}
	f.Filename = name
	for _, d := range f.Decls {
		e, ok := d.(*ast.EmbedDecl)
		if !ok || emptyData(e.Expr) {
			continue
		}
		if l, ok := e.Expr.(*ast.ListLit); ok && !l.Pos().IsValid() && len(l.Elts) > 1 {
			return nil, errors.Newf(l.Elts[1].Pos(), "expected one document, found %d", len(l.Elts))
		}
		return nil, errors.Newf(e.Pos(), "expected a mapping with the key programs")
	}
	if err := duplicates(f); err != nil {
		return f, err
	}
	if len(f.Decls) == 1 {
		if e, ok := f.Decls[0].(*ast.EmbedDecl); ok && emptyData(e.Expr) {
			f.Decls = nil
		}
	}
	return f, nil
}

// extractYAML decodes YAML. The decoder counts lines by every line break that YAML
// 1.1 knows and then looks them up among those that end with LF. CR is as good
// (YAML 1.2, 5.4); the others, which are text now, would be folded into a blank
// here and put every later problem on another line: they are refused.
func extractYAML(name string, data []byte) (f *ast.File, err error) {
	if i := bytes.IndexAny(data, "\u0085\u2028\u2029"); i >= 0 {
		return nil, oldBreak(name, data, i)
	}
	defer func() {
		if r := recover(); r != nil {
			f, err = nil, errors.Newf(token.NoPos, "%s: cannot be decoded: %v", name, r)
		}
	}()
	f, err = yaml.Extract(name, loneCR(data))
	if err == nil {
		plainNumbers(f)
	}
	return f, err
}

// plainNumbers undoes what the decoder makes of an integer above 64 bits, and of
// one with the tag !!float: a literal with the text "number & 123", which is none.
func plainNumbers(f *ast.File) {
	const prefix = "number & "
	astutil.Apply(f, func(c astutil.Cursor) bool {
		lit, ok := c.Node().(*ast.BasicLit)
		if !ok || !strings.HasPrefix(lit.Value, prefix) || lit.Kind != token.FLOAT {
			return true
		}
		lit.Kind, lit.Value = token.INT, strings.TrimPrefix(lit.Value[len(prefix):], "+")
		if digits, negative := strings.CutPrefix(lit.Value, "-"); negative {
			lit.Value = digits
			c.Replace(&ast.UnaryExpr{OpPos: lit.ValuePos, Op: token.SUB, X: lit})
			return false
		}
		return true
	}, nil)
}

// loneCR has each CR that ends a line by itself be an LF: no position changes.
func loneCR(data []byte) []byte {
	if bytes.IndexByte(data, '\r') < 0 {
		return data
	}
	data = bytes.Clone(data)
	for i, c := range data {
		if c == '\r' && (i+1 == len(data) || data[i+1] != '\n') {
			data[i] = '\n'
		}
	}
	return data
}

// oldBreak is the error for a line break at i that is none any more.
func oldBreak(name string, data []byte, i int) error {
	file := token.NewFile(name, -1, len(data))
	file.SetLinesForContent(data)
	r, _ := utf8.DecodeRune(data[i:])
	return errors.Newf(file.Pos(i, token.NoRelPos), "expected an LF as the end of a line, found %U: in a text write it as \"\\u%04x\"", r, r)
}

// duplicates reports keys that stand twice in one mapping: a decoder would take
// one of them without a word.
func duplicates(n ast.Node) error {
	var all errors.Error
	ast.Walk(n, func(n ast.Node) bool {
		var decls []ast.Decl
		switch n := n.(type) {
		case *ast.File:
			decls = n.Decls
		case *ast.StructLit:
			decls = n.Elts
		}
		seen := map[string]token.Pos{}
		for _, d := range decls {
			f, ok := d.(*ast.Field)
			if !ok {
				continue
			}
			name, _, err := ast.LabelName(f.Label)
			if err != nil {
				continue
			}
			pos := f.Label.Pos()
			if first, ok := seen[name]; ok {
				all = errors.Append(all, &duplicate{name, pos, first})
			}
			seen[name] = pos
		}
		return true
	}, nil)
	if all == nil {
		return nil
	}
	return all
}

// duplicate is a key that stands a second time.
type duplicate struct {
	key        string
	pos, first token.Pos
}

func (d *duplicate) Error() string               { return fmt.Sprintf("the key %q stands here a second time", d.key) }
func (d *duplicate) Position() token.Pos         { return d.pos }
func (d *duplicate) InputPositions() []token.Pos { return []token.Pos{d.pos, d.first} }
func (d *duplicate) Path() []string              { return nil }
func (d *duplicate) Msg() (string, []any) {
	return "the key %q stands here a second time", []any{d.key}
}

// emptyData reports whether a whole data file says nothing: null, or {}.
func emptyData(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return e.Op == token.OR // *null | _: CUE's word for no document at all
	case *ast.BasicLit:
		return e.Kind == token.NULL
	case *ast.StructLit:
		return len(e.Elts) == 0
	}
	return false
}

func exprFile(name string, expr ast.Expr) (*ast.File, error) {
	s, ok := expr.(*ast.StructLit)
	if !ok {
		return nil, errors.Newf(expr.Pos(), "expected an object with the key programs")
	}
	return &ast.File{Filename: name, Decls: s.Elts}, nil
}
