package specfile

import (
	"slices"
	"strings"

	"github.com/procnanny/procnanny/spec"
)

// overrides judges what RPC set on top of the files.
type overrides struct {
	e    *Evaluation
	list []spec.Override // as judged gives them
	view *view           // with all of them
}

// judged are the overrides that say something about a value, in order.
func judged(list []spec.Override) []spec.Override {
	return slices.DeleteFunc(slices.Clone(list), func(o spec.Override) bool { return o.Field == spec.FieldAdmin })
}

// programsOf names the programs that overrides are about.
func programsOf(list []spec.Override) map[string]bool {
	out := map[string]bool{}
	for _, o := range list {
		out[o.Program] = true
	}
	return out
}

// override evaluates the files with overrides in them.
func (e *Evaluation) override(list []spec.Override) *overrides {
	return &overrides{e: e, list: list, view: e.with(list)}
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
	return e.view(e.base.root, extra)
}

// verdictOn is the verdict on the files with some overrides in them: of the
// programs that have one everything, of the others only whether they can be.
func (e *Evaluation) verdictOn(list []spec.Override, v *view, host spec.Resolved) (spec.Spec, spec.Problems) {
	j := e.judge(v, host, programsOf(list))
	j.problems.Sort()
	return j.spec, j.problems.Errors()
}

// verdict says which overrides the files refuse, and who the programs of the
// others run as.
func (o *overrides) verdict(host spec.Resolved) (map[string]spec.Problems, map[string]spec.Identity) {
	s, problems := o.e.verdictOn(o.list, o.view, host)
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
	b.spec, why = b.o.e.verdictOn(list, b.o.e.with(list), b.host)
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
