package specfile

import (
	"encoding/json"
	"fmt"
	"slices"

	"cuelang.org/go/cue"

	"github.com/procnanny/procnanny/spec"
)

// judgement is what judge found.
type judgement struct {
	spec     spec.Spec
	problems spec.Problems
	short    map[string][]byte // see accepted.short
}

func (j *judgement) accept(name string, a accepted) {
	j.spec.Programs[name] = a.program
	if s := a.short(); s != nil {
		j.short[name] = s
	}
}

// add adds what is plain.
func (j *judgement) add(p *plainFiles) {
	for _, q := range p.programs {
		j.accept(q.name, q.accepted)
	}
	j.spec.On, j.spec.ExitWhen = p.on, p.exitWhen
}

// judge checks the programs of a view against the schema and our own rules, with
// their ids filled in. only, unless nil, names the programs that this is for;
// of the others it is checked that the files can be true.
func (e *Evaluation) judge(v *view, host spec.Resolved, only map[string]bool) *judgement {
	j := &judgement{spec: spec.Spec{Programs: make(map[string]spec.Program, len(v.programs))}, short: map[string][]byte{}}
	j.problems = append(j.problems, v.problems...)
	rules := idRules{}
	for _, p := range v.programs {
		if only == nil || only[p.name] {
			e.judgeProgram(j, p, host, rules)
		} else if err := p.value.Validate(); err != nil {
			e.translate(&j.problems, err)
		}
	}
	if v.root != nil && only == nil {
		j.spec.On = e.judgeHooks(&j.problems, v.root, host)
	}
	j.spec.ExitWhen = e.judgeExitWhen(&j.problems, v)
	return j
}

func (e *Evaluation) judgeProgram(j *judgement, p *program, host spec.Resolved, rules idRules) {
	id, who := resolve(p.asked, host)
	key := idKey{uid: id.UID, gid: id.GID}
	var got accepted
	ok := len(who) == 0 && !e.thorough
	if ok {
		got, ok = e.quick(p, id, rules)
	}
	if !ok {
		rule := e.fill(rules, key)
		var err error
		if got.program, err = decode(p, rule.schema); err != nil {
			if key := e.closedTo(p.value, key); key.noUID || key.noGID {
				rule = e.fill(rules, key)
				got.program, err = decode(p, rule.schema)
			}
		}
		if err != nil || len(who) > 0 {
			e.explain(&j.problems, p, id, who, rule.ids, err)
		}
		if err != nil {
			return
		}
		got.raw = nil
	}
	got.program.Identity = id
	findings := identify(p.hooks, host, got.program.On, got.program.Stop.Before)
	findings = append(append(findings, check(got.program)...), checkHost(got.program, host)...)
	for _, f := range findings {
		e.report(&j.problems, p, f)
	}
	j.accept(p.name, got)
}

// filled is the schema for programs that run with certain ids.
type filled struct {
	ids    cue.Value
	schema cue.Value // see fill
}

// idRules are the filled schemas that were needed so far.
type idRules map[idKey]*filled

// idKey are the ids of a filled schema; those that a program is closed to are
// not filled in.
type idKey struct {
	uid, gid     uint32
	noUID, noGID bool
}

// ids are the ids alone, as a value.
func (e *Evaluation) ids(rules idRules, key idKey) *filled {
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
	rule = &filled{ids: e.ctx.CompileString(text, cue.Filename(identityName))}
	rules[key] = rule
	return rule
}

// fill is the schema with ids filled in.
func (e *Evaluation) fill(rules idRules, key idKey) *filled {
	rule := e.ids(rules, key)
	if !rule.schema.Exists() {
		rule.schema = e.schema.program.Unify(rule.ids)
	}
	return rule
}

// closedTo finds the ids that a program made of a definition has no key for,
// although the files' rules would allow them: the file is right, it only says
// nothing about ids. It is asked when something is wrong already.
func (e *Evaluation) closedTo(v cue.Value, key idKey) idKey {
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
	key.noUID, key.noGID = closed("uid", key.uid), closed("gid", key.gid)
	return key
}

// quick is the way of most programs: CUE unifies it with its ids, because rules
// of the files may be about those, and then it is data that the schema's rules
// are asked about. It may fail for any reason, and then says nothing.
func (e *Evaluation) quick(p *program, id spec.Identity, rules idRules) (a accepted, ok bool) {
	key := idKey{uid: id.UID, gid: id.GID}
	ids := e.ids(rules, key).ids
	if p.raw != nil {
		return p.accepted, p.asked.fits(id) && e.idsAllowed(p, ids)
	}
	v := p.value.Unify(ids)
	if v.Validate(cue.Concrete(true)) != nil {
		key = e.closedTo(p.value, key)
		if !key.noUID && !key.noGID {
			return a, false
		}
		if v = p.value.Unify(e.ids(rules, key).ids); v.Validate(cue.Concrete(true)) != nil {
			return a, false
		}
	}
	d, ok := valueData(v)
	if !ok {
		return a, false
	}
	d.fields = slices.DeleteFunc(d.fields, func(f field) bool {
		return f.key == "uid" && p.asked.uid == nil || f.key == "gid" && p.asked.gid == nil
	})
	return accept(&d)
}

// decode is the way that decides: one unification with the schema and the ids,
// and the result as plain Go.
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
