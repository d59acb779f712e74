package specfile

import (
	"encoding/json"
	"fmt"
	"slices"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/cuecontext"

	"github.com/procnanny/procnanny/spec"
)

func newContext() *cue.Context { return cuecontext.New() }

// Evaluation is an evaluation of the files that waits for the host's answer.
type Evaluation struct {
	tree   *tree
	ctx    *cue.Context
	schema *schema
	files  *view
	edits  *overrides // nil without overrides
}

// view is one evaluation of the tree, as it is or with overrides in it.
type view struct {
	programs []*program
	root     *program // the hooks beside the programs; nil without them
	exitWhen cue.Value
	problems spec.Problems
}

// program is one program of a view.
type program struct {
	name  string
	root  bool // no program, but what stands beside them
	value cue.Value
	asked asked
	hooks []hookAsked
}

// path is where it stands in the files.
func (p *program) path() []string {
	if p.root {
		return nil
	}
	return []string{"programs", p.name}
}

// Start evaluates the files as far as that goes without the host.
func Start(req spec.EvalRequest) *Evaluation {
	e := &Evaluation{tree: parseTree(req.Source), ctx: newContext()}
	e.schema = compileSchema(e.ctx)
	if len(e.tree.problems) > 0 {
		e.files = &view{problems: e.tree.problems}
		return e
	}
	e.files = e.view()
	if len(req.Overrides) > 0 && len(e.files.problems) == 0 {
		e.edits = e.override(req.Overrides)
	}
	return e
}

// Names lists the user and group names that the files and overrides use.
func (e *Evaluation) Names() spec.EvalNames {
	all := e.files.programs
	if e.edits != nil {
		all = append(slices.Clip(all), e.edits.view.programs...)
	}
	if e.files.root != nil {
		all = append(slices.Clip(all), e.files.root)
	}
	return names(all)
}

// Finish gives the verdict, with what the host knows of the names.
func (e *Evaluation) Finish(host spec.Resolved) spec.EvalResult {
	s, problems := e.judge(e.files, host, nil)
	problems.Sort()
	res := spec.EvalResult{Problems: problems}
	if len(problems.Errors()) > 0 {
		return res
	}
	res.Spec, res.Defined = &s, e.tree.defined()
	if e.edits != nil {
		res.Refused, res.Identities = e.edits.verdict(host)
	}
	return res
}

// Evaluate is Start and Finish with an answer from ask in between.
func Evaluate(req spec.EvalRequest, ask func(spec.EvalNames) spec.Resolved) spec.EvalResult {
	e := Start(req)
	return e.Finish(ask(e.Names()))
}

// view evaluates the tree with some more files and finds the programs.
func (e *Evaluation) view(extra ...*ast.File) *view {
	v := &view{}
	if len(e.tree.root)+len(extra) == 0 {
		return v // an empty directory says nothing, which is no mistake of its own
	}
	inst := e.tree.build(extra...)
	if inst.Err != nil {
		v.problems = append(v.problems, e.tree.problems...) // an imported file that cannot be parsed
		e.translate(&v.problems, inst.Err)
		return v
	}
	doc := e.ctx.BuildInstance(inst)
	e.topLevel(v, doc)
	v.exitWhen = lookup(doc, exitWhen)
	if lookup(doc, "on").Exists() {
		v.root = &program{root: true, value: doc, hooks: hooksIn(doc)}
	}
	programs := lookup(doc, "programs")
	if !programs.Exists() {
		if doc.Err() != nil {
			e.translate(&v.problems, doc.Err())
		}
		return v
	}
	it, err := programs.Fields()
	if err != nil {
		e.notStruct(v, programs)
		return v
	}
	for it.Next() {
		p := &program{name: it.Selector().Unquoted(), value: it.Value()}
		p.asked, p.hooks = askedBy(p.value), hooksIn(p.value)
		v.programs = append(v.programs, p)
		if err := spec.CheckName(p.name); err != nil {
			pr := e.tree.problemAt(e.tree.labelPos(p.value))
			pr.Message = err.Error()
			e.tree.add(&v.problems, pr, []string{"programs", p.name})
		}
	}
	if err := doc.Err(); err != nil {
		e.outside(v, doc)
	}
	return v
}

// judge checks the programs of a view against the schema and our own rules, with
// their ids filled in. only, unless nil, names the programs that this is for;
// of the others it is checked that the files can be true.
func (e *Evaluation) judge(v *view, host spec.Resolved, only map[string]bool) (spec.Spec, spec.Problems) {
	out := spec.Spec{Programs: make(map[string]spec.Program, len(v.programs))}
	problems := append(spec.Problems(nil), v.problems...)
	rules := map[idKey]filled{}
	for _, p := range v.programs {
		if only != nil && !only[p.name] {
			if err := p.value.Validate(); err != nil {
				e.translate(&problems, err)
			}
			continue
		}
		id, who := resolve(p.asked, host)
		rule := e.fill(rules, idKey{uid: id.UID, gid: id.GID})
		got, err := decode(p, rule.schema)
		if err != nil {
			if key := e.closedTo(p.value, id); key.noUID || key.noGID {
				rule = e.fill(rules, key)
				got, err = decode(p, rule.schema)
			}
		}
		if err != nil || len(who) > 0 {
			e.explain(&problems, p, id, who, rule.ids, err)
		}
		if err != nil {
			continue
		}
		got.Identity = id
		e.identify(&problems, p, host, got.On, got.Stop.Before)
		for _, f := range append(check(got), checkHost(got, host)...) {
			e.report(&problems, p, f)
		}
		out.Programs[p.name] = got
	}
	if v.root != nil && only == nil {
		out.On = e.judgeHooks(&problems, v.root, host)
	}
	out.ExitWhen = e.judgeExitWhen(&problems, v)
	return out, problems
}

// filled is the schema for programs that run with certain ids.
type filled struct{ ids, schema cue.Value }

// idKey are the ids of a filled schema; those that a program is closed to are
// not filled in.
type idKey struct {
	uid, gid     uint32
	noUID, noGID bool
}

func (e *Evaluation) fill(rules map[idKey]filled, key idKey) filled {
	rule, ok := rules[key]
	if ok {
		return rule
	}
	text := ""
	if !key.noUID {
		text += fmt.Sprintf("uid: %d\n", key.uid)
	}
	if !key.noGID {
		text += fmt.Sprintf("gid: %d\n", key.gid)
	}
	ids := e.ctx.CompileString(text, cue.Filename(identityName))
	rule = filled{ids: ids, schema: e.schema.program.Unify(ids)}
	rules[key] = rule
	return rule
}

// closedTo finds the ids that a program made of a definition has no key for,
// although the files' rules would allow them: the file is right, it only says
// nothing about ids. It is asked when something is wrong already.
func (e *Evaluation) closedTo(v cue.Value, id spec.Identity) idKey {
	closed := func(key string, id uint32) bool {
		path := cue.MakePath(cue.Str(key))
		if v.LookupPath(path).Exists() {
			return false
		}
		n := e.ctx.Encode(id)
		rule := v.LookupPath(cue.MakePath(cue.Str(key).Optional()))
		allowed := !rule.Exists() || rule.Unify(n).Err() == nil
		return allowed && v.FillPath(path, n).LookupPath(path).Err() != nil
	}
	return idKey{uid: id.UID, gid: id.GID, noUID: closed("uid", id.UID), noGID: closed("gid", id.GID)}
}

// decode is the good path: one unification with the schema and the ids, and the
// result as plain Go.
func decode(p *program, schema cue.Value) (spec.Program, error) {
	var out spec.Program
	v := p.value.Unify(schema)
	if err := v.Validate(cue.Concrete(true)); err != nil {
		return out, err
	}
	raw, err := v.MarshalJSON()
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, err
	}
	out.UID, out.GID = p.asked.uid, p.asked.gid
	return out, nil
}
