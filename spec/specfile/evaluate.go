package specfile

import (
	"encoding/json"
	"fmt"

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
	problems spec.Problems
}

// program is one program of a view.
type program struct {
	name  string
	value cue.Value
	asked asked
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
		all = append(all[:len(all):len(all)], e.edits.view.programs...)
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
	res.Spec = &s
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
		p.asked = askedBy(p.value)
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
	rules := map[[2]uint32]filled{}
	for _, p := range v.programs {
		if only != nil && !only[p.name] {
			if err := p.value.Validate(); err != nil {
				e.translate(&problems, err)
			}
			continue
		}
		id, who := resolve(p.asked, host)
		rule, ok := rules[[2]uint32{id.UID, id.GID}]
		if !ok {
			rule = e.fill(id)
			rules[[2]uint32{id.UID, id.GID}] = rule
		}
		got, err := decode(p, rule.schema)
		if err != nil || len(who) > 0 {
			e.explain(&problems, p, id, who, rule.ids, err)
		}
		if err != nil {
			continue
		}
		got.Identity = id
		for _, f := range append(check(got), checkHost(got, host)...) {
			e.report(&problems, p, f)
		}
		out.Programs[p.name] = got
	}
	return out, problems
}

// filled is the schema for programs that run with certain ids.
type filled struct{ ids, schema cue.Value }

func (e *Evaluation) fill(id spec.Identity) filled {
	ids := e.ctx.CompileString(fmt.Sprintf("uid: %d, gid: %d", id.UID, id.GID), cue.Filename(identityName))
	return filled{ids: ids, schema: e.schema.program.Unify(ids)}
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
