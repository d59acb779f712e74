package specfile

import (
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"
)

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
