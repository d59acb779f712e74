package specfile

import (
	"slices"
	"strings"

	"github.com/procnanny/procnanny/spec"
)

// overrides judges what RPC set on top of the files.
type overrides struct {
	e    *Evaluation
	list []spec.Override // those that say something about a value, in order
	view *view           // with all of them
}

// override evaluates the files with overrides in them. It returns nil when
// there is nothing to judge.
func (e *Evaluation) override(list []spec.Override) *overrides {
	o := &overrides{e: e}
	for _, v := range list {
		if v.Field != spec.FieldAdmin {
			o.list = append(o.list, v)
		}
	}
	if len(o.list) == 0 {
		return nil
	}
	o.view = e.with(o.list)
	return o
}

// with is a view of the tree with some overrides in it.
func (e *Evaluation) with(list []spec.Override) *view {
	s := e.settings(list)
	extra, err := s.file()
	if err != nil {
		return &view{problems: spec.Problems{{Message: err.Error()}}}
	}
	edits := e.edit(s.leaves)
	defer edits.undo()
	return e.view(extra)
}

// judged is the verdict on the files with some overrides in them: of the
// programs that have one everything, of the others only whether they can be.
func (e *Evaluation) judged(list []spec.Override, v *view, host spec.Resolved) (spec.Spec, spec.Problems) {
	only := map[string]bool{}
	for _, o := range list {
		only[o.Program] = true
	}
	s, problems := e.judge(v, host, only)
	problems.Sort()
	return s, problems.Errors()
}

// verdict says which overrides the files refuse, and who the programs of the
// others run as.
func (o *overrides) verdict(host spec.Resolved) (map[string]spec.Problems, map[string]spec.Identity) {
	s, problems := o.e.judged(o.list, o.view, host)
	if len(problems) == 0 {
		return nil, identities(s, o.list)
	}
	b := &blame{o: o, host: host, tries: max(leastTries, programTries/(len(o.view.programs)+1)), refused: map[string]spec.Problems{}}
	good := b.search(problems)
	return b.refused, identities(b.spec, good)
}

func identities(s spec.Spec, list []spec.Override) map[string]spec.Identity {
	out := map[string]spec.Identity{}
	for _, o := range list {
		if p, ok := s.Programs[o.Program]; ok && o.Identifies() {
			out[o.Program] = p.Identity
		}
	}
	return out
}

// A search for the overrides to blame evaluates the files a few times: at most
// so many times for each program there is, because of the limit of CPU time, but
// a few in any case.
const (
	programTries = 5000
	leastTries   = 5
)

// blame finds the overrides that the files refuse. An older one has the right of
// way: refused is each that does not go with those before it.
type blame struct {
	o       *overrides
	host    spec.Resolved
	tries   int // left
	refused map[string]spec.Problems
	spec    spec.Spec // with those that are not refused
}

// search returns the overrides that are not refused. why is what is wrong with
// all of them together.
func (b *blame) search(why spec.Problems) []spec.Override {
	var good []spec.Override
	rest := b.o.list
	for len(why) > 0 && len(rest) > 0 {
		n, because := b.first(good, rest, why)
		b.refused[rest[n].Key()] = because
		good = append(good, rest[:n]...)
		rest = rest[n+1:]
		why = b.try(append(slices.Clone(good), rest...))
	}
	return append(good, rest...)
}

func (b *blame) try(list []spec.Override) spec.Problems {
	b.tries--
	var why spec.Problems
	b.spec, why = b.o.e.judged(list, b.o.e.with(list), b.host)
	return why
}

// first is the index in rest of the first override that does not go with good
// and those before it. The last is tried first: it is the new one.
func (b *blame) first(good, rest []spec.Override, why spec.Problems) (int, spec.Problems) {
	pass, fail := 0, len(rest) // that many of rest do, or do not
	for mid := fail - 1; pass+1 < fail; mid = (pass + fail) / 2 {
		if b.tries <= 0 {
			return guess(rest[:fail], why), why
		}
		if bad := b.try(append(slices.Clone(good), rest[:mid]...)); len(bad) > 0 {
			fail, why = mid, bad
		} else {
			pass = mid
		}
	}
	return fail - 1, why
}

// guess is the last override of a program that something is wrong with, or the
// last of all.
func guess(list []spec.Override, why spec.Problems) int {
	for n, o := range slices.Backward(list) {
		prefix := dotted([]string{"programs", o.Program})
		if slices.ContainsFunc(why, func(p spec.Problem) bool { return p.Path == prefix || strings.HasPrefix(p.Path, prefix+".") }) {
			return n
		}
	}
	return len(list) - 1
}
