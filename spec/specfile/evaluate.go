package specfile

import (
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
	plain  *plainFiles // nil when the files are more than data
	files  *view       // what is not plain
	base   base        // what overrides are put on
	edits  *overrides  // nil without overrides

	thorough bool // CUE is asked about everything: to compare
}

// base is the part of the files that overrides are put on.
type base struct {
	root []*ast.File
	view *view
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
	accepted // unless empty, but for its identity
	name     string
	root     bool // no program, but what stands beside them
	value    cue.Value
	asked    asked
	hooks    []hookAsked
}

// path is where it stands in the files.
func (p *program) path() []string {
	if p.root {
		return nil
	}
	return []string{"programs", p.name}
}

// Start evaluates the files as far as that goes without the host.
func Start(req spec.EvalRequest) *Evaluation { return start(req, false) }

func start(req spec.EvalRequest, thorough bool) *Evaluation {
	e := &Evaluation{tree: parseTree(req.Source), thorough: thorough}
	if len(e.tree.problems) > 0 {
		e.files = &view{problems: e.tree.problems}
		return e
	}
	list := judged(req.Overrides)
	if !thorough {
		e.plain = readPlain(e.tree)
	}
	if e.plain == nil {
		e.files = e.view(e.tree.root)
		e.base = base{e.tree.root, e.files}
	} else {
		e.files = e.view(e.tree.only(e.plain.rest))
		e.base.root = e.tree.only(programsOf(list))
	}
	if len(list) == 0 || len(e.files.problems) > 0 {
		return e
	}
	if e.base.view == nil {
		e.base.view = e.view(e.base.root)
	}
	e.edits = e.override(list)
	return e
}

// cue is CUE, made when it is needed for the first time.
func (e *Evaluation) cue() *cue.Context {
	if e.ctx == nil {
		e.ctx = newContext()
		e.schema = compileSchema(e.ctx)
	}
	return e.ctx
}

// Names lists the user and group names that the files and overrides use.
func (e *Evaluation) Names() spec.EvalNames {
	all := e.files.asks()
	if e.plain != nil {
		all = append(all, e.plain.asks()...)
	}
	if e.edits != nil {
		all = append(all, e.edits.view.asks()...)
	}
	return names(all)
}

// asks are all who are asked for.
func (v *view) asks() []asked {
	var out []asked
	add := func(p *program) {
		out = append(out, p.asked)
		for _, h := range p.hooks {
			out = append(out, h.asked)
		}
	}
	for _, p := range v.programs {
		add(p)
	}
	if v.root != nil {
		add(v.root)
	}
	return out
}

// Finish gives the verdict, with what the host knows of the names.
func (e *Evaluation) Finish(host spec.Resolved) spec.EvalResult {
	res, _ := e.finish(host)
	return res
}

// finish is Finish; short has the JSON of some of the programs, see
// [accepted.short].
func (e *Evaluation) finish(host spec.Resolved) (res spec.EvalResult, short map[string][]byte) {
	if e.plain != nil {
		e.settle(host)
	}
	j := e.judge(e.files, host, nil)
	if e.plain != nil {
		j.add(e.plain)
	}
	e.judgeAfter(&j.problems, j.spec)
	j.problems.Sort()
	res.Problems = j.problems
	if len(j.problems.Errors()) > 0 {
		return res, nil
	}
	res.Spec, res.Defined = &j.spec, e.tree.defined()
	if e.edits != nil {
		res.Refused, res.Identities = e.edits.verdict(host)
		e.refuseCircles(&res)
	}
	return res, j.short
}

// settle has CUE look at those plain programs that there is something to say
// about, now that the host is known.
func (e *Evaluation) settle(host spec.Resolved) {
	n := len(e.plain.rest)
	switch {
	case !e.plain.resolve(host):
		e.plain, e.files = nil, e.view(e.tree.root)
	case len(e.plain.rest) > n:
		e.files = e.view(e.tree.only(e.plain.rest))
	}
}

// Evaluate is Start and Finish with an answer from ask in between.
func Evaluate(req spec.EvalRequest, ask func(spec.EvalNames) spec.Resolved) spec.EvalResult {
	e := Start(req)
	return e.Finish(ask(e.Names()))
}

// view evaluates files of the tree, with some more, and finds the programs.
func (e *Evaluation) view(root []*ast.File, extra ...*ast.File) *view {
	v := &view{}
	if len(root)+len(extra) == 0 {
		return v // an empty directory says nothing, which is no mistake of its own
	}
	inst := e.tree.build(append(slices.Clone(root), extra...))
	if inst.Err != nil {
		v.problems = append(v.problems, e.tree.problems...) // an imported file that cannot be parsed
		e.translate(&v.problems, inst.Err)
		return v
	}
	doc := e.cue().BuildInstance(inst)
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
	apart := !e.thorough && len(extra) == 0 && idsApart(e.tree.parsed)
	it, err := programs.Fields()
	if err != nil {
		e.notStruct(v, programs)
		return v
	}
	for it.Next() {
		p := &program{name: it.Selector().Unquoted(), value: it.Value()}
		if !apart || !p.acceptApart() {
			p.asked, p.hooks = askedBy(p.value), hooksIn(p.value)
		}
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
