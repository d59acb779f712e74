package specfile

import (
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"sync"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
)

// rule reports whether plain data is what one place of the schema allows. It may
// refuse what CUE would allow, never the other way round: what it refuses, CUE
// is asked about.
type rule func(d *datum) bool

// rules are the schema's own text as rules, for programs and for hooks. Only the
// part of CUE that schema.cue is written in is understood; a test says so when
// that is no longer all of it, and nothing is accepted by rules then.
var rules = sync.OnceValues(func() (map[string]rule, error) {
	f, err := parser.ParseFile(schemaName, schemaText)
	if err != nil {
		return nil, err
	}
	r := &ruler{defs: map[string]ast.Expr{}, made: map[string]rule{}}
	for _, d := range f.Decls {
		if f, ok := d.(*ast.Field); ok {
			if name, _, err := ast.LabelName(f.Label); err == nil {
				r.defs[name] = f.Value
			}
		}
	}
	out := map[string]rule{}
	for _, name := range []string{"#Program", "#Hooks"} {
		out[name] = r.named(name)
	}
	return out, r.err
})

// ruler makes rules of the schema's syntax.
type ruler struct {
	defs map[string]ast.Expr
	made map[string]rule
	err  error // the first expression that is not understood
}

func never(*datum) bool { return false }

func (r *ruler) fail(n ast.Node) rule {
	if r.err == nil {
		r.err = fmt.Errorf("cannot make a rule of %T at %v", n, n.Pos())
	}
	return never
}

var basicKinds = map[string]cue.Kind{"string": cue.StringKind, "int": cue.IntKind, "number": cue.NumberKind, "bool": cue.BoolKind}

// named is the rule of a type or a definition.
func (r *ruler) named(name string) rule {
	if kind, ok := basicKinds[name]; ok {
		return func(d *datum) bool { return d.kind&kind != 0 }
	}
	if made, ok := r.made[name]; ok {
		return made
	}
	def, ok := r.defs[name]
	if !ok {
		return r.fail(ast.NewIdent(name))
	}
	r.made[name] = never // a definition in itself is not understood
	r.made[name] = r.expr(def)
	return r.made[name]
}

func (r *ruler) expr(e ast.Expr) rule {
	switch x := e.(type) {
	case *ast.ParenExpr:
		return r.expr(x.X)
	case *ast.Ident:
		return r.named(x.Name)
	case *ast.BasicLit:
		if want, ok := text(x); ok {
			return func(d *datum) bool { return d.kind == cue.StringKind && d.text == want }
		}
	case *ast.UnaryExpr:
		return r.bound(x)
	case *ast.BinaryExpr:
		return r.both(x)
	case *ast.ListLit:
		return r.list(x)
	case *ast.StructLit:
		return r.structure(x)
	case *ast.CallExpr:
		if f, ok := x.Fun.(*ast.Ident); ok && f.Name == "error" {
			return never // the words for when no other alternative fits
		}
	}
	return r.fail(e)
}

// both is the rule of a & b and of a | b.
func (r *ruler) both(x *ast.BinaryExpr) rule {
	a, b := r.expr(x.X), r.expr(x.Y)
	switch x.Op { //nolint:exhaustive // the others are not understood
	case token.AND:
		return func(d *datum) bool { return a(d) && b(d) }
	case token.OR:
		return func(d *datum) bool { return a(d) || b(d) }
	}
	return r.fail(x)
}

// text is the value of a literal that is a string.
func text(l *ast.BasicLit) (string, bool) {
	if l.Kind != token.STRING {
		return "", false
	}
	info, start, _, err := literal.ParseQuotes(l.Value, l.Value)
	if err != nil || !info.IsDouble() {
		return "", false
	}
	s, err := info.Unquote(l.Value[start:])
	return s, err == nil
}

// bound is the rule of !="", =~"...", >=n and <=n.
func (r *ruler) bound(x *ast.UnaryExpr) rule {
	lit, sign := x.X, ""
	if u, ok := lit.(*ast.UnaryExpr); ok && u.Op == token.SUB {
		lit, sign = u.X, "-"
	}
	l, ok := lit.(*ast.BasicLit)
	if !ok {
		return r.fail(x)
	}
	want, isText := text(l)
	switch {
	case isText && x.Op == token.NEQ:
		return func(d *datum) bool { return d.kind == cue.StringKind && d.text != want }
	case isText && x.Op == token.MAT:
		return matching(want)
	}
	var n literal.NumInfo
	if err := literal.ParseNum(sign+l.Value, &n); err != nil || !n.IsInt() {
		return r.fail(x)
	}
	limit, ok := new(big.Int).SetString(n.String(), 10)
	if !ok {
		return r.fail(x)
	}
	switch x.Op { //nolint:exhaustive // the others are not understood
	case token.GEQ:
		return compared(limit, func(sign int) bool { return sign >= 0 })
	case token.LEQ:
		return compared(limit, func(sign int) bool { return sign <= 0 })
	}
	return r.fail(x)
}

// matching is the rule of a regular expression. A configuration says few
// different things in the places that have one, and says them often.
func matching(pattern string) rule {
	re := sync.OnceValues(func() (*regexp.Regexp, error) { return regexp.Compile(pattern) })
	var known sync.Map // string -> bool
	return func(d *datum) bool {
		if d.kind != cue.StringKind {
			return false
		}
		if yes, ok := known.Load(d.text); ok {
			return yes.(bool) //nolint:forcetypeassert // stored below
		}
		re, err := re()
		yes := err == nil && re.MatchString(d.text)
		known.Store(d.text, yes)
		return yes
	}
}

// Numbers with fewer digits fit an int64; those with more than the second are
// left to CUE, as are exponents.
const (
	shortDigits = 18
	mostDigits  = 40
)

// compared is the rule of a number's bound.
func compared(limit *big.Int, ok func(sign int) bool) rule {
	short, isShort := limit.Int64(), limit.IsInt64()
	exact := new(big.Rat).SetInt(limit)
	return func(d *datum) bool {
		if d.kind == cue.IntKind && isShort && len(d.text) <= shortDigits {
			n, err := strconv.ParseInt(d.text, 10, 64)
			return err == nil && ok(order(n, short))
		}
		if d.kind&cue.NumberKind == 0 || len(d.text) > mostDigits || !isDecimal(d.text) {
			return false
		}
		n, good := new(big.Rat).SetString(d.text)
		return good && ok(n.Cmp(exact))
	}
}

func order(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// isDecimal reports whether a number is written with digits and a point alone.
func isDecimal(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && c != '.' && (c != '-' || i > 0) {
			return false
		}
	}
	return true
}

// list is the rule of [...T].
func (r *ruler) list(x *ast.ListLit) rule {
	if len(x.Elts) != 1 {
		return r.fail(x)
	}
	e, ok := x.Elts[0].(*ast.Ellipsis)
	if !ok || e.Type == nil {
		return r.fail(x)
	}
	element := r.expr(e.Type)
	return func(d *datum) bool {
		if d.kind != cue.ListKind {
			return false
		}
		for i := range d.elements {
			if !element(&d.elements[i]) {
				return false
			}
		}
		return true
	}
}

// place is what the schema says about one key.
type place struct {
	allows   rule
	required bool
}

// structure is the rule of a struct, which is closed, as all of a definition is.
func (r *ruler) structure(x *ast.StructLit) rule {
	places, required := map[string]place{}, 0
	var open rule
	for _, d := range x.Elts {
		f, ok := d.(*ast.Field)
		if !ok {
			return r.fail(d)
		}
		if l, ok := f.Label.(*ast.ListLit); ok && len(l.Elts) == 1 && open == nil {
			if of, ok := l.Elts[0].(*ast.Ident); ok && of.Name == "string" {
				open = r.expr(f.Value)
				continue
			}
		}
		name, _, err := ast.LabelName(f.Label)
		if err != nil || f.Constraint == token.ILLEGAL || places[name].allows != nil {
			return r.fail(f)
		}
		p := place{r.expr(f.Value), f.Constraint == token.NOT}
		if p.required {
			required++
		}
		places[name] = p
	}
	if open != nil && len(places) > 0 {
		return r.fail(x)
	}
	return func(d *datum) bool { return d.kind == cue.StructKind && d.fits(places, required, open) }
}

// fits reports whether the fields of a struct are allowed, and all of those that
// are required are there.
func (d *datum) fits(places map[string]place, required int, open rule) bool {
	for i := range d.fields {
		f := &d.fields[i]
		p, ok := places[f.key]
		if !ok {
			p.allows = open
		}
		if p.allows == nil || !p.allows(&f.datum) {
			return false
		}
		if p.required {
			required--
		}
	}
	return required == 0
}
