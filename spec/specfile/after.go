package specfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/procnanny/procnanny/spec"
)

// judgeAfter checks how the programs of the files depend on each other: whom
// start.after names is there, and nobody waits for himself.
func (e *Evaluation) judgeAfter(ps *spec.Problems, s spec.Spec) {
	var known []string
	for _, name := range sortedKeys(s.Programs) {
		for _, other := range sortedKeys(s.Programs[name].Start.After) {
			if _, ok := s.Programs[other]; ok {
				continue
			}
			if known == nil {
				known = e.names()
			}
			if !slices.Contains(known, other) {
				e.afterNobody(ps, name, other, known)
			}
		}
	}
	if circle := s.Circle(); circle != nil {
		path := []string{"programs", circle[0], "start", "after", next(circle, 0)}
		p := e.tree.problemAt(e.tree.written(path))
		p.Message = inCircle(circle)
		for n := range circle[1:] {
			p.Also = append(p.Also, e.tree.problemAt(e.tree.written([]string{"programs", circle[n+1], "start", "after", next(circle, n+1)})).Place())
		}
		e.tree.add(ps, p, path)
	}
}

func (e *Evaluation) afterNobody(ps *spec.Problems, name, other string, known []string) {
	path := []string{"programs", name, "start", "after", other}
	p := e.tree.problemAt(e.tree.written(path))
	p.Message = fmt.Sprintf("there is no program %q", other)
	if n := spec.Nearest(other, known); n != "" {
		p.Hint = fmt.Sprintf("did you mean %q?", n)
	}
	e.tree.add(ps, p, path)
}

// names are all programs of the files, good or not.
func (e *Evaluation) names() []string {
	names := []string{}
	for _, p := range e.files.programs {
		names = append(names, p.name)
	}
	if e.plain != nil {
		for _, p := range e.plain.programs {
			names = append(names, p.name)
		}
	}
	return names
}

func next(circle []string, n int) string { return circle[(n+1)%len(circle)] }

func inCircle(circle []string) string {
	if len(circle) == 1 {
		return "it waits for itself"
	}
	return "it waits for itself: " + strings.Join(append(slices.Clone(circle), circle[0]), " after ")
}

// refuseCircles refuses overrides that make programs wait for each other: of
// those the newest, and so on until nobody does. The files alone do not.
func (e *Evaluation) refuseCircles(res *spec.EvalResult) {
	list := slices.DeleteFunc(slices.Clone(e.edits.list), func(o spec.Override) bool { return res.Refused[o.Key()] != nil })
	for {
		circle := res.Spec.With(list).Circle()
		if circle == nil {
			return
		}
		n := len(list) - 1
		for n >= 0 && !(slices.Contains(circle, list[n].Program) && orders(list[n].Field)) {
			n--
		}
		if n < 0 {
			return
		}
		if res.Refused == nil {
			res.Refused = map[string]spec.Problems{}
		}
		res.Refused[list[n].Key()] = spec.Problems{{Path: dotted([]string{"programs", list[n].Program, "start", "after"}), Message: inCircle(circle)}}
		list = slices.Delete(list, n, n+1)
	}
}

// orders reports whether an override's field says whom a program waits for.
func orders(field string) bool {
	return field == spec.FieldProgram || field == "start" || strings.HasPrefix(field+".", "start.after.")
}
