package specfile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"

	"github.com/procnanny/procnanny/spec"
)

// topLevel refuses fields beside programs. Definitions and hidden fields are
// the author's own.
func (e *Evaluation) topLevel(v *view, doc cue.Value) {
	it, err := doc.Fields(cue.Optional(true))
	if err != nil {
		e.translate(&v.problems, err)
		return
	}
	for it.Next() {
		key := plain(it.Selector())
		if key == "programs" {
			continue
		}
		e.unknown(&v.problems, it.Value(), []string{key}, []string{"programs"})
	}
}

// unknown reports a key that nobody knows.
func (e *Evaluation) unknown(ps *spec.Problems, v cue.Value, path, known []string) {
	p := e.tree.problemAt(e.tree.labelPos(v))
	key := path[len(path)-1]
	p.Message = fmt.Sprintf("unknown key %q", key)
	if n := nearest(key, known); n != "" {
		p.Hint = fmt.Sprintf("did you mean %q?", n)
	}
	e.tree.add(ps, p, path)
}

func (e *Evaluation) notStruct(v *view, programs cue.Value) {
	path := []string{"programs"}
	if programs.IncompleteKind() == cue.BottomKind {
		e.translate(&v.problems, programs.Err())
		return
	}
	p := e.tree.problemAt(e.tree.valuePos(programs, nil))
	p.Message = fmt.Sprintf("invalid value %s: expected programs by name", describe(programs))
	e.tree.add(&v.problems, p, path)
}

// outside reports what is wrong beside the programs: in definitions, hidden
// fields and lets. What is wrong in a program is explained with it.
func (e *Evaluation) outside(v *view, doc cue.Value) {
	for _, err := range errors.Errors(doc.Validate()) {
		if p := err.Path(); len(p) < 2 || p[0] != "programs" {
			e.translate(&v.problems, err)
		}
	}
}

// translate turns CUE's errors into problems, as good as that goes without the
// schema.
func (e *Evaluation) translate(ps *spec.Problems, err error) {
	for _, ce := range errors.Errors(err) {
		format, args := ce.Msg()
		if strings.Contains(format, "empty disjunction") && len(errors.Errors(err)) > 1 {
			continue
		}
		path := unquoted(ce.Path())
		places := e.tree.positions(ce)
		var p spec.Problem
		if len(places) > 0 {
			p = e.tree.problemAt(places[0])
		}
		for _, pos := range places[min(1, len(places)):] {
			p.Also = append(p.Also, e.tree.problemAt(pos).Place())
		}
		p.Message = wording(format, args, path)
		if !slices.ContainsFunc(*ps, func(o spec.Problem) bool {
			return o.Place() == p.Place() && o.Message == p.Message && o.Path == dotted(path)
		}) {
			e.tree.add(ps, p, path)
		}
	}
}

// unquoted is a path of CUE's, with each element as it is.
func unquoted(path []string) []string {
	out := make([]string, len(path))
	for i, p := range path {
		out[i] = p
		if strings.HasPrefix(p, `"`) {
			if json.Unmarshal([]byte(p), &out[i]) != nil {
				out[i] = p
			}
		} else if p != "" && strings.Trim(p, "0123456789") == "" {
			out[i] = "[" + p + "]"
		}
	}
	return out
}

// wordings replaces CUE's way to say the commonest things. The arguments are
// CUE's own.
var wordings = map[string]string{
	"conflicting values %s and %s":                              "the files disagree: %s and %s",
	"conflicting values %s and %s (mismatched types %s and %s)": "the files disagree: %s and %s",
	"invalid value %v (out of bound %s)":                        "invalid value %v: the files allow only %s",
	"invalid value %s (out of bound %s)":                        "invalid value %s: the files allow only %s",
}

func wording(format string, args []any, path []string) string {
	if secret(path) {
		return "the files disagree, or break their own rules" // a value under env is never quoted
	}
	if w, ok := wordings[format]; ok {
		return fmt.Sprintf(w, args[:strings.Count(w, "%")]...)
	}
	return fmt.Sprintf(format, args...)
}

// explain finds everything that is wrong with a program that failed.
func (e *Evaluation) explain(ps *spec.Problems, p *program, id spec.Identity, who []finding, ids cue.Value, cause error) {
	for _, f := range who {
		e.report(ps, p, f)
	}
	if cause == nil {
		return
	}
	w := &walker{e: e, p: p, id: id, before: len(*ps), out: *ps}
	w.walk(e.schema.tree(), p.value, []string{"programs", p.name})
	for _, f := range w.relations() {
		w.e.report(&w.out, p, f)
	}
	if len(who) == 0 {
		w.identity(ids)
	}
	*ps = w.out
	if len(w.out.Errors()) > 0 && len(w.out) > w.before {
		return
	}
	before := len(*ps)
	e.translate(ps, cause)
	if len(*ps) == before {
		pr := e.tree.problemAt(e.tree.labelPos(p.value))
		pr.Message = cause.Error()
		e.tree.add(ps, pr, []string{"programs", p.name})
	}
}

// report places a finding of ours.
func (e *Evaluation) report(ps *spec.Problems, p *program, f finding) {
	path := append([]string{"programs", p.name}, f.key...)
	v := p.value
	for _, k := range f.key {
		sel := cue.Str(k)
		if strings.HasPrefix(k, "[") {
			var i int
			if _, err := fmt.Sscanf(k, "[%d]", &i); err == nil {
				sel = cue.Index(i)
			}
		}
		next := v.LookupPath(cue.MakePath(sel))
		if !next.Exists() {
			break
		}
		v = next
	}
	pr := e.tree.problemAt(e.tree.valuePos(v, nil))
	pr.Message, pr.Warning = f.message, f.warning
	e.tree.add(ps, pr, path)
}

// walker goes through a program's value next to the schema.
type walker struct {
	e      *Evaluation
	p      *program
	id     spec.Identity
	before int
	out    spec.Problems
	good   map[string]json.RawMessage // top-level keys with nothing wrong in them
}

// walk reports what is wrong at path and below.
func (w *walker) walk(n *node, v cue.Value, path []string) {
	if it, err := v.Fields(cue.Optional(true)); err == nil && (len(n.fields) > 0 || n.open != nil) {
		w.fields(n, v, it, path)
		return
	}
	if it, err := v.List(); err == nil && n.element != nil && v.IncompleteKind() != cue.BottomKind {
		for i := 0; it.Next(); i++ {
			w.walk(n.element.named(n), it.Value(), append(slices.Clone(path), index(i)))
		}
		return
	}
	w.leaf(n, v, path)
}

// named is an element of a list; what it should be is known from the list.
func (n *node) named(list *node) *node {
	if n.expect != "" {
		return n
	}
	c := *n
	c.expect = strings.TrimPrefix(list.expect, "true, false or ")
	if n.value.IncompleteKind() == cue.StringKind && !strings.Contains(c.expect, "capabilities") {
		c.expect = "a string"
	}
	return &c
}

func (w *walker) fields(n *node, v cue.Value, it *cue.Iterator, path []string) {
	seen := map[string]bool{}
	for it.Next() {
		key := plain(it.Selector())
		at := append(slices.Clone(path), key)
		optional := it.Selector().ConstraintType() != 0
		seen[key] = seen[key] || !optional
		sub := n.byKey[key]
		if sub == nil {
			sub = n.open
		}
		before := len(w.out)
		switch {
		case sub == nil:
			w.e.unknown(&w.out, it.Value(), at, n.keys())
		case optional:
			continue // a rule, not a value
		case len(path) == 2 && (key == "uid" || key == "gid") && !it.Value().IsConcrete():
			continue // a rule for what a name turns out to be
		default:
			w.walk(sub, it.Value(), at)
		}
		if len(path) == 2 && len(w.out) == before {
			w.keep(key, it.Value())
		}
	}
	for _, f := range n.fields {
		if f.required && !seen[f.key] {
			p := w.e.tree.problemAt(w.e.tree.labelPos(v))
			p.Message = fmt.Sprintf("missing key %q: expected %s", f.key, f.expect)
			w.e.tree.add(&w.out, p, path)
		}
	}
}

// keep remembers a key with nothing wrong in it, so that rules relating keys
// can be checked although the program as a whole failed.
func (w *walker) keep(key string, v cue.Value) {
	raw, err := v.MarshalJSON()
	if err != nil {
		return
	}
	if w.good == nil {
		w.good = map[string]json.RawMessage{}
	}
	w.good[key] = raw
}

// relations are the findings of our own rules about the keys that are good.
func (w *walker) relations() []finding {
	raw, err := json.Marshal(w.good)
	if err != nil {
		return nil
	}
	var p spec.Program
	if json.Unmarshal(raw, &p) != nil {
		return nil
	}
	p.Identity = w.id
	return check(p)
}

// leaf reports a value that is no struct or list, or stands where none can be.
func (w *walker) leaf(n *node, v cue.Value, path []string) {
	bad := func(c cue.Value) bool { return n.value.Unify(c).Validate() != nil }
	if err := v.Err(); err != nil && v.IncompleteKind() == cue.BottomKind {
		parts := parts(v, 0)
		i := slices.IndexFunc(parts, func(c cue.Value) bool { return c.IsConcrete() && bad(c) })
		if i < 0 {
			w.e.translate(&w.out, v.Validate())
			return
		}
		v = parts[i] // one of several values is wrong by itself
	}
	var p spec.Problem
	switch {
	case bad(v):
		p = w.e.tree.problemAt(w.e.tree.valuePos(v, bad))
		p.Message = fmt.Sprintf("invalid value %s: expected %s", describe(v), n.expect)
		if secret(path) {
			p.Message = fmt.Sprintf("invalid value (%s): expected %s", kind(v), n.expect)
		}
	case v.Validate(cue.Concrete(true)) != nil:
		p = w.e.tree.problemAt(w.e.tree.valuePos(v, nil))
		p.Message = fmt.Sprintf("has no value yet, only the rule %s: expected %s", describe(v), n.expect)
		if secret(path) {
			p.Message = "has no value yet, only a rule: expected " + n.expect
		} else if len(path) > 2 {
			p.Hint = fmt.Sprintf("a rule that demands no value is written %s?: ...", path[len(path)-1])
		}
	default:
		return
	}
	w.e.tree.add(&w.out, p, path)
}

// identity reports rules of the files that the ids break.
func (w *walker) identity(ids cue.Value) {
	for _, key := range []string{"uid", "gid"} {
		rule, id := lookup(w.p.value, key), lookup(ids, key)
		if !rule.Exists() {
			rule = w.p.value.LookupPath(cue.MakePath(cue.Str(key).Optional()))
		}
		if !rule.Exists() || rule.IsConcrete() || rule.Unify(id).Validate(cue.Concrete(true)) == nil {
			continue
		}
		source, who := w.p.value, "without a user it runs as the daemon,"
		for _, k := range []string{"user", "uid", "group"} {
			if v := lookup(w.p.value, k); v.Exists() && v.IsConcrete() && (k != "group" || key == "gid") {
				source, who = v, k+" "+describe(v)+" is"
				break
			}
		}
		pos := w.e.tree.valuePos(source, nil)
		if source == w.p.value {
			pos = w.programPos()
		}
		p := w.e.tree.problemAt(pos)
		p.Message = fmt.Sprintf("%s %s %v: the files allow only %s", who, key, id, describe(rule))
		for _, f := range w.e.tree.conjuncts(rule) {
			if at := w.e.tree.problemAt(f.Value.Pos()).Place(); at != p.Place() {
				p.Also = append(p.Also, at)
			}
		}
		w.e.tree.add(&w.out, p, []string{"programs", w.p.name, key})
	}
}

// programPos is where the program itself is written, rather than a rule for
// many.
func (w *walker) programPos() token.Pos {
	for _, f := range w.e.tree.conjuncts(w.p.value) {
		if name, _, err := ast.LabelName(f.Label); err == nil && name == w.p.name {
			return f.Label.Pos()
		}
	}
	if c := lookup(w.p.value, "command"); c.Exists() {
		return w.e.tree.labelPos(c)
	}
	return w.e.tree.labelPos(w.p.value)
}
