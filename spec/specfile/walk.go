package specfile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"

	"github.com/procnanny/procnanny/spec"
)

// walker goes through a program's value next to the schema.
type walker struct {
	e    *Evaluation
	p    *program
	id   spec.Identity
	out  spec.Problems
	good map[string]json.RawMessage // top-level keys with nothing wrong in them
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
	c.expect = "a string"
	if len(n.fields) > 0 {
		c.expect = "{run: ...} or {webhook: ...}"
	}
	if e, ok := elements[list.key]; ok {
		c.expect = e
	}
	return &c
}

// elements says what an element of a list, or a value of a struct whose keys are
// the author's, must be, by the key of the whole.
var elements = map[string]string{
	"ambient":      `a capability such as "net_bind_service"`,
	"bounding":     `a capability such as "net_bind_service"`,
	"groups":       "a group name or a gid",
	"env_files":    "an absolute path",
	"inherit_env":  "a name or a glob",
	"when":         `an exit code from 0 to 255 or a signal such as "TERM"`,
	"success_exit": `an exit code from 0 to 255 or a signal such as "TERM"`,
	"code":         "an exit code from 0 to 255",
	"signal":       `a signal such as "TERM"`,
	"programs":     "a program's name or a glob",
	"after":        `"running" or "done"`,
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
		case it.Selector().ConstraintType() == cue.RequiredConstraint && !seen[key]:
			w.demanded(it.Value(), at)
			continue
		case optional:
			continue // a rule, not a value
		case isIDRule(path, key, it.Value()):
			continue // a rule for what a name turns out to be
		default:
			w.walk(sub, it.Value(), at)
		}
		if len(path) == 2 && !w.p.root && len(w.out) == before {
			w.keep(key, it.Value())
		}
	}
	w.missing(n, v, path, seen)
}

// missing reports the keys that must be there and are not.
func (w *walker) missing(n *node, v cue.Value, path []string, seen map[string]bool) {
	for _, f := range n.fields {
		if f.required && !seen[f.key] {
			p := w.e.tree.problemAt(w.e.tree.labelPos(v))
			p.Message = fmt.Sprintf("missing key %q: expected %s", f.key, f.expect)
			w.e.tree.add(&w.out, p, path)
		}
	}
}

func isIDRule(path []string, key string, v cue.Value) bool {
	return len(path) == 2 && path[0] == "programs" && (key == "uid" || key == "gid") && !v.IsConcrete()
}

// demanded reports a key that the author's own rules want.
func (w *walker) demanded(rule cue.Value, path []string) {
	p := w.e.tree.problemAt(w.programPos())
	p.Message = "missing key: the files demand it"
	if at := w.e.tree.problemAt(w.e.tree.labelPos(rule)).Place(); at != "" && at != p.Place() {
		p.Also = append(p.Also, at)
	}
	w.e.tree.add(&w.out, p, path)
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
	err := v.Err()
	if err == nil {
		err = v.Validate()
	}
	if err != nil {
		parts := parts(v, 0)
		i := slices.IndexFunc(parts, func(c cue.Value) bool { return c.Err() == nil && c.Validate() == nil && c.IsConcrete() && bad(c) })
		if i < 0 {
			w.conflict(v, err)
			return
		}
		whole := v
		v = parts[i]    // one of several values is wrong by itself
		if n.holds(v) { // not as a whole: the files' own rules are about that
			w.conflict(whole, err)
			w.walk(n, v, path)
			return
		}
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
		} else if len(path) > 2 && !strings.HasPrefix(path[len(path)-1], "[") {
			p.Hint = fmt.Sprintf("a rule that demands no value is written %s?: ...", path[len(path)-1])
		}
	default:
		return
	}
	w.e.tree.add(&w.out, p, path)
}

// holds reports whether v is a struct or a list where one can be.
func (n *node) holds(v cue.Value) bool {
	k := v.IncompleteKind()
	return k == cue.StructKind && (len(n.fields) > 0 || n.open != nil) || k == cue.ListKind && n.element != nil
}

// conflict reports a value that cannot be, with every place that takes part.
func (w *walker) conflict(v cue.Value, err error) {
	before := len(w.out)
	if all := v.Validate(); all != nil {
		err = all
	}
	w.e.translate(&w.out, err)
	for i := range w.out[before:] {
		p := &w.out[before+i]
		if len(p.Also) > 0 {
			continue
		}
		for _, f := range w.e.tree.conjuncts(v) {
			at := w.e.tree.problemAt(f.Value.Pos())
			if at.File != p.File || at.Line != p.Line {
				p.Also = append(p.Also, at.Place())
			}
		}
	}
}

// identity reports rules of the files that the ids break.
func (w *walker) identity(ids cue.Value) {
	for _, key := range []string{"uid", "gid"} {
		rule, id := lookup(w.p.value, key), lookup(ids, key)
		if !rule.Exists() {
			rule = w.p.value.LookupPath(cue.MakePath(cue.Str(key).Optional()))
		}
		if !rule.Exists() || !id.Exists() || rule.IsConcrete() || rule.Unify(id).Validate(cue.Concrete(true)) == nil {
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
	if w.p.root {
		return w.e.tree.labelPos(lookup(w.p.value, "on"))
	}
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
