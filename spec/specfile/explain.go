package specfile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/errors"

	"github.com/procnanny/procnanny/spec"
)

// topKeys are what a configuration may have at the top.
var topKeys = []string{"programs", "on", exitWhen}

// topLevel refuses other fields than topKeys. Definitions and hidden fields are
// the author's own.
func (e *Evaluation) topLevel(v *view, doc cue.Value) {
	it, err := doc.Fields(cue.Optional(true))
	if err != nil {
		e.translate(&v.problems, err)
		return
	}
	for it.Next() {
		key := plain(it.Selector())
		if !slices.Contains(topKeys, key) {
			e.unknown(&v.problems, it.Value(), []string{key}, topKeys)
		}
	}
}

// unknown reports a key that nobody knows.
func (e *Evaluation) unknown(ps *spec.Problems, v cue.Value, path, known []string) {
	p := e.tree.problemAt(e.tree.labelPos(v))
	key := path[len(path)-1]
	p.Message = fmt.Sprintf("unknown key %q", key)
	near, from := spec.Nearest(key, known), cameFrom(key)
	if near != "" && len(path) == 1 || len(path) != 1 && (len(path) != 3 || path[0] != "programs") {
		from = "" // a slip is likelier, or no place for other supervisors' keys
	}
	switch {
	case from != "":
		p.Hint = from
	case near != "":
		p.Hint = fmt.Sprintf("did you mean %q?", near)
	case len(path) == 1 && v.LookupPath(cue.ParsePath("command")).Exists():
		p.Hint = "a program stands below `programs`"
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
		if p := err.Path(); len(p) < 2 || p[0] != "programs" && p[0] != "on" {
			e.translate(&v.problems, err)
		}
	}
}

// translate turns CUE's errors into problems, as good as that goes without the
// schema.
func (e *Evaluation) translate(ps *spec.Problems, err error) {
	all := errors.Errors(err)
	for _, ce := range all {
		format, _ := ce.Msg()
		if strings.Contains(format, "empty disjunction") && len(all) > 1 {
			continue
		}
		if format == importFailed && len(e.tree.problems) > 0 {
			continue // what is wrong in the imported file is said already
		}
		path := unquoted(ce.Path())
		p := e.tree.placed(ce, path)
		p.Message, p.Hint = e.tree.words(ce, path)
		if !slices.ContainsFunc(*ps, func(o spec.Problem) bool {
			return o.Place() == p.Place() && o.Message == p.Message && (o.Path == dotted(path) || len(path) == 0)
		}) {
			e.tree.add(ps, p, path)
		}
	}
}

// placed is a problem at the places that an error names or, if it names none,
// where its path is written.
func (t *tree) placed(ce errors.Error, path []string) spec.Problem {
	places := t.positions(ce)
	if len(places) == 0 {
		return t.problemAt(t.written(path))
	}
	p := t.problemAt(places[0])
	for _, pos := range places[1:] {
		p.Also = append(p.Also, t.problemAt(pos).Place())
	}
	return p
}

// words are what an error says, and what may help.
func (t *tree) words(ce errors.Error, path []string) (message, hint string) {
	format, args := ce.Msg()
	//nolint:errorlint // CUE's chain is walked link by link
	for inner, ok := errors.Unwrap(ce).(errors.Error); ok && wrappings[format]; inner, ok = errors.Unwrap(inner).(errors.Error) {
		format, args = inner.Msg()
	}
	message = wording(format, args, path)
	if inner := errors.Unwrap(ce); inner != nil && strings.HasPrefix(format, "error in call") && !secret(path) {
		message += ": " + inner.Error()
	}
	if strings.HasPrefix(format, "reference %q not found") && t.pkg == "" && len(t.root) > 1 {
		hint = "files see each other's names only when all begin with the same package line"
	}
	return message, hint
}

const importFailed = "import failed"

// wrappings are messages that only say where the real one comes from.
var wrappings = map[string]bool{importFailed: true, "cue: marshal error": true, "%s": true}

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
	"incompatible list lengths (%d and %d)":                     "the files disagree: lists of %d and %d elements",
	"field not allowed":                                         "a definition that this is unified with has no such key",
}

func wording(format string, args []any, path []string) string {
	if secret(path) {
		return "the files disagree, or break their own rules" // a value under env is never quoted
	}
	args = shortArguments(args)
	if w, ok := wordings[format]; ok && len(args) >= strings.Count(w, "%") {
		return fmt.Sprintf(w, args[:strings.Count(w, "%")]...)
	}
	return fmt.Sprintf(format, args...)
}

// explain finds everything that is wrong with a program that failed.
func (e *Evaluation) explain(ps *spec.Problems, p *program, id spec.Identity, who []finding, ids cue.Value, cause error) {
	before := len(ps.Errors())
	for _, f := range who {
		e.report(ps, p, f)
	}
	if cause == nil {
		return
	}
	w := &walker{e: e, p: p, id: id, out: *ps}
	w.walk(e.schema.tree(), p.value, []string{"programs", p.name})
	for _, f := range w.relations() {
		w.e.report(&w.out, p, f)
	}
	if len(who) == 0 && !p.asked.broken {
		w.identity(ids)
	}
	*ps = w.out
	if len(ps.Errors()) > before {
		return
	}
	e.translate(ps, cause)
	if len(ps.Errors()) == before && before == 0 {
		pr := e.tree.problemAt(e.tree.labelPos(p.value))
		pr.Message = cause.Error()
		e.tree.add(ps, pr, []string{"programs", p.name})
	}
}

// report places a finding of ours.
func (e *Evaluation) report(ps *spec.Problems, p *program, f finding) {
	path := append(p.path(), f.key...)
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
