package specfile

import (
	"slices"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"
)

// edits are changes of the syntax trees that can be taken back.
type edits []func()

func (e edits) undo() {
	for _, u := range slices.Backward(e) {
		u()
	}
}

// home is where a field stands in its file: below which labels.
type home struct {
	path    []string
	pattern bool // a rule for many: [string]: ...
	dynamic bool // a label is computed, or the field stands in a comprehension
}

// edit takes the values that leaves replace out of the syntax trees: a literal
// goes, a constraint stays.
func (e *Evaluation) edit(leaves []leaf) edits {
	var done edits
	homes := e.tree.homes()
	defer e.tree.unbind()
	for _, l := range leaves {
		v := l.at.value
		for _, key := range l.path {
			v = lookup(v, key)
		}
		mine := append([]string{"programs", l.at.name}, l.path...)
		e.tree.eachConjunct(v, 0, func(c cue.Value, f *ast.Field) {
			h := homes[f]
			if h.pattern || f.Constraint != token.ILLEGAL {
				return
			}
			value, constraint := f.Value, f.Constraint
			own := !h.dynamic && slices.Equal(h.path, mine)
			done = append(done, func() { f.Value, f.Constraint = value, constraint })
			f.Value = without(value, c, own)
			if own && l.value == nil {
				f.Constraint = token.OPTION
			}
		})
	}
	return done
}

// unbind forgets what each reference refers to: CUE binds them anew when the
// files are built, and would not find what is no longer there.
func (t *tree) unbind() {
	for _, f := range t.parsed {
		if f == nil {
			continue
		}
		f.Unresolved = nil
		ast.Walk(f, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && !id.IsPredeclared() {
				id.Node, id.Scope = nil, nil
			}
			return true
		}, nil)
	}
}

// homes says of every field where it stands.
func (t *tree) homes() map[*ast.Field]home {
	out := map[*ast.Field]home{}
	for _, f := range t.parsed {
		if f != nil {
			for _, d := range f.Decls {
				addHomes(out, d, home{})
			}
		}
	}
	return out
}

func addHomes(out map[*ast.Field]home, n ast.Node, in home) {
	ast.Walk(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Comprehension:
			in.dynamic = true
		case *ast.Field:
			h := in.under(n.Label)
			out[n] = h
			addHomes(out, n.Value, h)
			return false
		}
		return true
	}, nil)
}

func (h home) under(l ast.Label) home {
	if _, ok := l.(*ast.ListLit); ok {
		h.pattern = true
	}
	name, _, err := ast.LabelName(l)
	h.dynamic = h.dynamic || err != nil
	h.path = append(slices.Clone(h.path), name)
	return h
}

// without is expr, whose value is v, without its literals. What stands there
// for one program alone goes; what others share becomes a default, so that they
// keep it.
func without(expr ast.Expr, v cue.Value, own bool) ast.Expr {
	switch x := expr.(type) {
	case *ast.ParenExpr:
		return &ast.ParenExpr{X: without(x.X, v, own)}
	case *ast.Alias:
		return &ast.Alias{Ident: x.Ident, Expr: without(x.Expr, v, own)}
	case *ast.BinaryExpr:
		if x.Op == token.AND {
			left, right := v, v
			if op, args := v.Expr(); op == cue.AndOp && len(args) == 2 {
				left, right = args[0], args[1]
			}
			return &ast.BinaryExpr{X: without(x.X, left, own), Op: token.AND, Y: without(x.Y, right, own)}
		}
	}
	if !v.IsConcrete() || isRule(expr) {
		return expr
	}
	if own {
		return ast.NewIdent("_")
	}
	return &ast.BinaryExpr{X: &ast.UnaryExpr{Op: token.MUL, X: expr}, Op: token.OR, Y: ast.NewIdent("_")}
}

// isRule reports whether an expression is a constraint whatever its value: a
// bound, a disjunction (perhaps with a default), a list that is left open.
func isRule(expr ast.Expr) bool {
	switch x := expr.(type) {
	case *ast.UnaryExpr:
		return x.Op != token.ADD && x.Op != token.SUB
	case *ast.BinaryExpr:
		return x.Op == token.OR
	case *ast.ListLit:
		return slices.ContainsFunc(x.Elts, func(e ast.Expr) bool { _, open := e.(*ast.Ellipsis); return open })
	}
	return false
}
