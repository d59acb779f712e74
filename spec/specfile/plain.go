package specfile

import (
	"encoding/json"
	"slices"
	"sync/atomic"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"

	"github.com/procnanny/procnanny/spec"
)

// plainFiles are a configuration that is data through and through, as generated ones
// and most written ones are. In it no program depends on anything else, so that
// each can be accepted by itself, by rules, without CUE. CUE is asked about the
// rest, and about nothing but the rest.
type plainFiles struct {
	programs []*plainProgram // accepted so far
	rest     map[string]bool // the names of those that were not
	on       spec.Hooks
	onHooks  []hookAsked
	exitWhen string
}

// plainProgram is an accepted program. Its identity comes when the host is known.
type plainProgram struct {
	accepted
	name  string
	asked asked
	hooks []hookAsked
}

// accepted is a program as rules accepted it, and what it says as JSON.
type accepted struct {
	program spec.Program
	raw     []byte
}

// accept is a program made of data that the schema allows. That it fails says
// nothing.
func accept(d *datum) (a accepted, ok bool) {
	all, err := rules()
	if err != nil || !all["#Program"](d) {
		return a, false
	}
	a.raw = d.appendJSON(make([]byte, 0, 512))
	ok = json.Unmarshal(a.raw, &a.program) == nil
	return a, ok
}

// readPlain reads the files of a tree without problems, if they are data and
// nothing but a program can be wrong in them.
func readPlain(t *tree) *plainFiles {
	var top fieldSet
	for _, f := range t.root {
		if f.PackageName() == "_" || !top.add(withoutPackage(f.Decls)) {
			return nil
		}
	}
	p := &plainFiles{rest: map[string]bool{}}
	for i, key := range top.keys {
		read := plainKeys[key]
		if read == nil || !read(p, top.values[i]) {
			return nil
		}
	}
	if !slices.Contains(top.keys, exitWhen) || p.has(p.exitWhen) {
		return p
	}
	return nil
}

func withoutPackage(decls []ast.Decl) []ast.Decl {
	for i, d := range decls {
		if _, ok := d.(*ast.Package); ok {
			return slices.Concat(decls[:i], decls[i+1:])
		}
	}
	return decls
}

// plainKeys read what may stand at the top.
var plainKeys = map[string]func(p *plainFiles, values []ast.Expr) bool{
	"programs": (*plainFiles).readPrograms,
	"on":       (*plainFiles).readHooks,
	exitWhen: func(p *plainFiles, values []ast.Expr) bool {
		d, ok := unified(values)
		p.exitWhen = d.text
		return ok && d.kind == cue.StringKind
	},
}

func (p *plainFiles) has(name string) bool {
	return p.rest[name] || slices.ContainsFunc(p.programs, func(q *plainProgram) bool { return q.name == name })
}

func (p *plainFiles) readHooks(values []ast.Expr) bool {
	d, ok := unified(values)
	all, err := rules()
	if !ok || err != nil || !all["#Hooks"](&d) || json.Unmarshal(d.appendJSON(nil), &p.on) != nil {
		return false
	}
	p.onHooks = hooksOf(p.on, nil)
	return len(checkHooks(p.on, true)) == 0
}

// batch is how many programs are looked at in one go.
const batch = 16

func (p *plainFiles) readPrograms(values []ast.Expr) bool {
	var all fieldSet
	for _, v := range values {
		s, ok := v.(*ast.StructLit)
		if !ok || !all.add(s.Elts) {
			return false
		}
	}
	read := make([]*plainProgram, len(all.keys))
	var notPlain atomic.Bool
	parallel(len(read), batch, func(i int) {
		d, ok := unified(all.values[i])
		if !ok {
			notPlain.Store(true)
			return
		}
		if a, ok := accept(&d); ok && spec.CheckName(all.keys[i]) == nil {
			read[i] = &plainProgram{a, all.keys[i], askedFor(&a.program), hooksOf(a.program.On, a.program.Stop.Before)}
		}
	})
	for i, q := range read {
		if q == nil {
			p.rest[all.keys[i]] = true
		} else {
			p.programs = append(p.programs, q)
		}
	}
	return !notPlain.Load()
}

// askedFor is who a decoded program wants to run as.
func askedFor(p *spec.Program) asked {
	return asked{user: p.User, group: p.Group, uid: p.UID, gid: p.GID, groups: p.Groups, listed: p.Groups != nil}
}

// hooksOf finds the commands of decoded hooks.
func hooksOf(on spec.Hooks, before *spec.Before) []hookAsked {
	var out []hookAsked
	add := func(run *spec.HookRun, key ...string) {
		if run != nil {
			out = append(out, hookAsked{key, asked{user: run.User, group: run.Group, uid: run.UID, gid: run.GID, groups: run.Groups, listed: run.Groups != nil}})
		}
	}
	for _, event := range sortedKeys(on) {
		for i, h := range on[event] {
			add(h.Run, "on", event, index(i), "run")
		}
	}
	if before != nil {
		add(before.Run, "stop", "before", "run")
	}
	return out
}

// asks are all who are asked for.
func (p *plainFiles) asks() []asked {
	var out []asked
	for _, q := range p.programs {
		out = append(out, q.asked)
		for _, h := range q.hooks {
			out = append(out, h.asked)
		}
	}
	for _, h := range p.onHooks {
		out = append(out, h.asked)
	}
	return out
}

// resolve gives the accepted programs their identities. Those that there is
// something to say about go to the rest. It reports false when there is
// something to say about what stands beside the programs.
func (p *plainFiles) resolve(host spec.Resolved) bool {
	if len(identify(p.onHooks, host, p.on, nil)) > 0 {
		return false
	}
	good := make([]bool, len(p.programs))
	parallel(len(good), batch, func(i int) { good[i] = p.programs[i].resolve(host) })
	kept := p.programs[:0]
	for i, q := range p.programs {
		if good[i] {
			kept = append(kept, q)
		} else {
			p.rest[q.name] = true
		}
	}
	p.programs = kept
	return true
}

func (q *plainProgram) resolve(host spec.Resolved) bool {
	id, who := resolve(q.asked, host)
	if len(who) > 0 || !q.asked.fits(id) {
		return false
	}
	q.program.Identity = id
	if len(identify(q.hooks, host, q.program.On, q.program.Stop.Before)) > 0 {
		return false
	}
	return len(check(q.program))+len(checkHost(q.program, host)) == 0
}

// only is the root files of a plain configuration with some of the programs,
// and nothing that stands beside them.
func (t *tree) only(names map[string]bool) []*ast.File {
	if len(names) == 0 {
		return nil
	}
	var out []*ast.File
	for _, f := range t.root {
		if decls := onlyPrograms(f.Decls, names); len(decls) > 0 {
			part := *f
			part.Decls = decls
			if i := slices.IndexFunc(f.Decls, isPackage); i >= 0 {
				part.Decls = append([]ast.Decl{f.Decls[i]}, decls...)
			}
			out = append(out, &part)
		}
	}
	return out
}

func isPackage(d ast.Decl) bool { _, ok := d.(*ast.Package); return ok }

func onlyPrograms(decls []ast.Decl, names map[string]bool) []ast.Decl {
	return filtered(decls, func(f *ast.Field, key string) ast.Decl {
		s, ok := f.Value.(*ast.StructLit)
		if key != "programs" || !ok {
			return nil
		}
		inner := *s
		inner.Elts = filtered(s.Elts, func(f *ast.Field, key string) ast.Decl {
			if !names[key] {
				return nil
			}
			return f
		})
		if len(inner.Elts) == 0 {
			return nil
		}
		part := *f
		part.Value = &inner
		return &part
	})
}

// filtered is what keep makes of plain fields, also of those in structs that are
// embedded; nil is left out.
func filtered(decls []ast.Decl, keep func(f *ast.Field, key string) ast.Decl) []ast.Decl {
	var out []ast.Decl
	for _, d := range decls {
		switch d := d.(type) {
		case *ast.Field:
			if key, ok := plainKey(d); ok {
				if k := keep(d, key); k != nil {
					out = append(out, k)
				}
			}
		case *ast.EmbedDecl:
			if s, ok := d.Expr.(*ast.StructLit); ok {
				inner := *s
				if inner.Elts = filtered(s.Elts, keep); len(inner.Elts) > 0 {
					out = append(out, &ast.EmbedDecl{Expr: &inner})
				}
			}
		}
	}
	return out
}

// short is what an accepted program says and who it runs as, as JSON that reads
// back as the program; nil if that is not so, because its hooks have identities
// of their own.
func (a *accepted) short() []byte {
	if len(a.raw) == 0 || len(a.program.On) > 0 || a.program.Stop.Before != nil {
		return nil
	}
	id, err := json.Marshal(a.program.Identity)
	if err != nil {
		return nil
	}
	return slices.Concat(a.raw[:len(a.raw)-1], []byte(`,"identity":`), id, []byte("}"))
}
