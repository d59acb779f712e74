package specfile

import (
	"slices"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"

	"github.com/procnanny/procnanny/spec"
)

// idsApart reports whether nothing in some files can depend on a program's uid
// and gid but the rules for these keys themselves. Then a program is the same
// with its ids and without, and the rules can be asked alone. What is in doubt
// depends on them.
func idsApart(files map[string]*ast.File) bool {
	for _, f := range files {
		if f != nil && !apart(f) {
			return false
		}
	}
	return true
}

// idWords are those that can refer to a program's ids.
var idWords = []string{"uid", "gid", "self"}

// typeNames are words for scalars.
var typeNames = []string{"string", "int", "number", "float", "bool", "bytes", "uint", "_"}

func apart(root ast.Node) bool {
	ok := true
	ast.Walk(root, func(n ast.Node) bool {
		if !ok {
			return false
		}
		switch n := n.(type) {
		case *ast.Field:
			ok = n.Alias == nil && labelApart(n.Label) && apart(n.Value)
			return false
		case *ast.Ident:
			ok = !slices.Contains(idWords, n.Name)
		case *ast.BasicLit:
			s, _ := text(n)
			ok = !slices.Contains(idWords, s)
		case *ast.BinaryExpr: // a disjunct could be chosen by its ids
			ok = n.Op != token.OR || scalar(n.X) && scalar(n.Y)
		default:
			ok = harmless(n)
		}
		return ok
	}, nil)
	return ok
}

// harmless reports whether a node by itself cannot look at a whole struct, as
// comprehensions, aliases and calls can.
func harmless(n ast.Node) bool {
	switch n.(type) {
	case *ast.File, *ast.Package, *ast.ImportDecl, *ast.ImportSpec, *ast.CommentGroup, *ast.Comment, *ast.EmbedDecl,
		*ast.StructLit, *ast.ListLit, *ast.Ellipsis, *ast.Interpolation, *ast.UnaryExpr, *ast.ParenExpr, *ast.SelectorExpr, *ast.IndexExpr:
		return true
	}
	return false
}

// labelApart is apart for the label of a field, which may be named uid, and may
// name the name that it stands for.
func labelApart(l ast.Label) bool {
	switch l := l.(type) {
	case *ast.Ident, *ast.BasicLit:
		return true
	case *ast.ListLit:
		if len(l.Elts) == 1 {
			if a, ok := l.Elts[0].(*ast.Alias); ok {
				return apart(a.Expr)
			}
		}
		return apart(l)
	case *ast.ParenExpr, *ast.Interpolation:
		return apart(l)
	}
	return false
}

// scalar reports whether an expression is one, or a list of such, whatever it
// refers to.
func scalar(e ast.Expr) bool {
	switch x := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.Ident:
		return slices.Contains(typeNames, x.Name)
	case *ast.ParenExpr:
		return scalar(x.X)
	case *ast.UnaryExpr:
		return scalar(x.X)
	case *ast.BinaryExpr:
		return scalar(x.X) && scalar(x.Y)
	case *ast.Ellipsis:
		return x.Type == nil || scalar(x.Type)
	case *ast.ListLit:
		return !slices.ContainsFunc(x.Elts, func(e ast.Expr) bool { return !scalar(e) })
	}
	return false
}

// acceptApart accepts a program that does not depend on its ids, by the rules.
func (p *program) acceptApart() bool {
	if p.value.Validate(cue.Concrete(true)) != nil {
		return false
	}
	d, ok := valueData(p.value)
	if !ok {
		return false
	}
	if p.accepted, ok = accept(&d); !ok {
		return false
	}
	p.asked, p.hooks = askedFor(&p.program), hooksOf(p.program.On, p.program.Stop.Before)
	return true
}

// idsAllowed reports whether the files' rules for uid and gid allow them. A
// program that has no such keys, because it is made of a definition, needs none:
// see closedTo.
func (e *Evaluation) idsAllowed(p *program, ids cue.Value) bool {
	for _, key := range []string{"uid", "gid"} {
		rule := p.value.LookupPath(cue.MakePath(cue.Str(key).Optional()))
		if rule.Exists() && rule.Unify(lookup(ids, key)).Validate(cue.Concrete(true)) != nil {
			return false
		}
	}
	return true
}

// fits reports whether ids are in range, and those that were asked for.
func (a asked) fits(id spec.Identity) bool {
	return id.UID <= maxID && id.GID <= maxID && (a.uid == nil || *a.uid == id.UID) && (a.gid == nil || *a.gid == id.GID)
}
