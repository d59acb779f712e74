package rpc

import (
	"fmt"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/procnanny/procnanny/reconcile"
)

// Target is what a person means by web, web/2, w* or w*/0.
type Target struct {
	// Program is a name, or a glob when it has * ? or [, which no name can have.
	Program string
	// Index is one instance; nil is the whole program.
	Index *int
}

// ParseTarget reads a target.
func ParseTarget(text string) (Target, error) {
	name, index, hasIndex := strings.Cut(text, "/")
	if name == "" {
		return Target{}, Errorf(CodeBadArgument, "the target '%s' names no program", text)
	}
	if _, err := path.Match(name, ""); err != nil {
		return Target{}, Errorf(CodeBadArgument, "the target '%s' is no valid glob", text)
	}
	if !hasIndex {
		return Target{Program: name}, nil
	}
	n, err := strconv.Atoi(index)
	if err != nil || n < 0 || n > MaxIndex || strconv.Itoa(n) != index {
		return Target{}, Errorf(CodeBadArgument, "the target '%s' must end with an instance from 0 to %d", text, MaxIndex)
	}
	return Target{Program: name, Index: &n}, nil
}

// Glob reports whether the target may mean more than one program.
func (t Target) Glob() bool { return strings.ContainsAny(t.Program, "*?[") }

// String is the target as it is written.
func (t Target) String() string {
	if t.Index == nil {
		return t.Program
	}
	return t.Program + "/" + strconv.Itoa(*t.Index)
}

// Unmatched says that a glob found nothing. Who asked for every program did not
// write a glob.
func (t Target) Unmatched() string {
	if t.Program == "*" && t.Index == nil {
		return "there is no program"
	}
	return fmt.Sprintf("nothing matches '%s'", t)
}

// Matches reports whether the target means a program, or some of its instances.
func (t Target) Matches(program string) bool {
	if !t.Glob() {
		return t.Program == program
	}
	ok, _ := path.Match(t.Program, program) // ParseTarget refused bad globs
	return ok
}

// Selection is what targets mean in one program.
type Selection struct {
	Program *ProgramView
	// Whole is true when the program itself is meant, and with it instances
	// that are added later.
	Whole bool
	// Indexes are the instances that are meant now, ascending.
	Indexes []int
}

// IDs are the selection's instances.
func (s Selection) IDs() []reconcile.InstanceID {
	out := make([]reconcile.InstanceID, len(s.Indexes))
	for i, n := range s.Indexes {
		out[i] = reconcile.InstanceID{Program: s.Program.Name, Index: n}
	}
	return out
}

// Resolve finds what targets mean in v: one selection for each program, sorted
// by name. A target that matches nothing is an error, and so is a named
// instance that does not exist; a glob passes over programs without it.
func Resolve(v *View, targets []Target) ([]Selection, error) {
	byName := map[string]*Selection{}
	for _, t := range targets {
		if err := t.resolve(v, byName); err != nil {
			return nil, err
		}
	}
	out := make([]Selection, 0, len(byName))
	for _, s := range byName {
		if s.Whole {
			s.Indexes = indexes(s.Program)
		}
		sort.Ints(s.Indexes)
		out = append(out, *s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Program.Name < out[j].Program.Name })
	return out, nil
}

func (t Target) resolve(v *View, byName map[string]*Selection) error {
	found := false
	for _, p := range t.candidates(v) {
		if t.Index != nil && !hasIndex(p, *t.Index) {
			if t.Glob() {
				continue
			}
			return Errorf(CodeNotFound, "there is no instance %s: %s", t, countText(p))
		}
		found = true
		s := byName[p.Name]
		if s == nil {
			s = &Selection{Program: p}
			byName[p.Name] = s
		}
		s.add(t.Index)
	}
	switch {
	case found:
		return nil
	case t.Glob():
		return Errorf(CodeNotFound, "%s", t.Unmatched())
	}
	return noProgram(t.Program)
}

func (t Target) candidates(v *View) []*ProgramView {
	if !t.Glob() {
		if p := v.Program(t.Program); p != nil {
			return []*ProgramView{p}
		}
		return nil
	}
	var out []*ProgramView
	for _, p := range v.Programs {
		if t.Matches(p.Name) {
			out = append(out, p)
		}
	}
	return out
}

func (s *Selection) add(index *int) {
	if index == nil {
		s.Whole = true
		return
	}
	if !slices.Contains(s.Indexes, *index) {
		s.Indexes = append(s.Indexes, *index)
	}
}

// desired is how many instances p shall have.
func desired(p *ProgramView) int {
	if !p.Defined {
		return 0
	}
	return p.Spec.Instances
}

// hasIndex: an instance exists when it is in the world or shall be.
func hasIndex(p *ProgramView, index int) bool {
	return index < desired(p) || p.Instance(index) != nil
}

// indexes lists every instance that is in the world or shall be.
func indexes(p *ProgramView) []int {
	n := desired(p)
	out := make([]int, 0, max(n, len(p.Instances)))
	for i := range n {
		out = append(out, i)
	}
	for _, i := range p.Instances {
		if i.ID.Index >= n {
			out = append(out, i.ID.Index)
		}
	}
	return out
}

func countText(p *ProgramView) string {
	switch n := desired(p); n {
	case 0:
		return p.Name + " has none"
	case 1:
		return p.Name + " has only " + idText(p.Name, 0)
	default:
		return p.Name + " has " + idText(p.Name, 0) + " to " + idText(p.Name, n-1)
	}
}
