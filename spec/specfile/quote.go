package specfile

import (
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"
)

// quoteMax is the longest line, in bytes, that a problem quotes: a machine
// writes all of its JSON on one.
const quoteMax = 1000

// quote is a line of a file as a problem may show it: empty when a value of an
// env block stands on it, whatever the problem itself is about, or when it is
// too long for a person.
func (t *tree) quote(file string, n int) string {
	line := t.line(file, n)
	if len(line) > quoteMax || t.secretLines(file)[n] {
		return ""
	}
	return line
}

// secretLines are the lines of a parsed file on which the value of a field env,
// headers or url stands, wherever the field is: templates for programs have secrets as well.
func (t *tree) secretLines(file string) map[int]bool {
	if lines, ok := t.secrets[file]; ok {
		return lines
	}
	f := t.parsed[file]
	if f == nil {
		return nil // not parsed (yet)
	}
	lines := map[int]bool{}
	ast.Walk(f, func(n ast.Node) bool {
		field, ok := n.(*ast.Field)
		if !ok {
			return true
		}
		if name, _, err := ast.LabelName(field.Label); err != nil || !isSecret(name) {
			return true
		}
		ast.Walk(field.Value, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if ok {
				for l := lit.Pos().Line(); l <= max(lit.Pos().Line(), lit.End().Line()); l++ {
					lines[l] = true
				}
			}
			return true
		}, nil)
		return false
	}, nil)
	if t.secrets == nil {
		t.secrets = map[string]map[int]bool{}
	}
	t.secrets[file] = lines
	return lines
}

// definedMax is how many places of one program are named.
const definedMax = 3

// defined says where the root files define programs, as file:line. It looks
// only two levels deep, at names that are written down.
func (t *tree) defined() map[string]string {
	places := map[string][]string{}
	add := func(f *ast.Field, name string) {
		if list := places[name]; len(list) < definedMax {
			if at := lineOf(f.Label.Pos()); !slices.Contains(list, at) {
				places[name] = append(list, at)
			}
		}
	}
	for _, f := range t.root {
		eachField(f.Decls, func(f *ast.Field, name string) {
			if name == "programs" {
				eachField(members(f.Value), add)
			}
		})
	}
	out := make(map[string]string, len(places))
	for name, list := range places {
		out[name] = strings.Join(list, ", ")
	}
	return out
}

func lineOf(pos token.Pos) string { return fmt.Sprintf("%s:%d", pos.Filename(), pos.Line()) }

// eachField visits the fields of decls that have plain names.
func eachField(decls []ast.Decl, visit func(f *ast.Field, name string)) {
	for _, d := range decls {
		if f, ok := d.(*ast.Field); ok {
			if name, _, err := ast.LabelName(f.Label); err == nil {
				visit(f, name)
			}
		}
	}
}

// members are the declarations of the struct literals that expr unifies.
func members(expr ast.Expr) []ast.Decl {
	switch x := expr.(type) {
	case *ast.StructLit:
		return x.Elts
	case *ast.ParenExpr:
		return members(x.X)
	case *ast.BinaryExpr:
		if x.Op == token.AND {
			return append(slices.Clone(members(x.X)), members(x.Y)...)
		}
	}
	return nil
}
