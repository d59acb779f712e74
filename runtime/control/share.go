package control

import (
	"maps"
	"slices"
	"strings"

	"github.com/procnanny/procnanny/spec"
)

// share puts programs on the shelf in as little memory as they need: decoded, each
// has texts of its own, of which nearly all are those of every other program. What
// is alike is there once, and all of it lies together, apart from the garbage of
// decoding. The programs are nobody's yet; what they say stays the same.
func share(fresh, shelf map[string]*spec.Program) {
	t := lexicon{known: make(map[string]string)}
	for name, p := range fresh {
		t.take(&name)
		eachText(p, t.take)
		for k, v := range p.Env {
			t.take(&k)
			t.take(&v)
		}
	}
	var last *spec.Program
	for name, p := range fresh {
		t.keep(&name)
		p.Args, p.EnvFiles, p.Env = slices.Clone(p.Args), slices.Clone(p.EnvFiles), t.keepAll(p.Env)
		eachText(p, t.keep)
		if last != nil {
			shareLists(p, last)
		}
		shelf[name], last = p, p
	}
}

// eachText visits the texts of a program that many have in common, or are short.
func eachText(p *spec.Program, visit func(*string)) {
	for _, s := range []*string{
		&p.Command, &p.User, &p.Group, &p.Dir, &p.Stdin, &p.Mode.Kind, &p.Mode.File,
		&p.Identity.Name, &p.Identity.Home, &p.Identity.Shell,
		&p.CPUs, &p.Policy.Output.OnFull, &p.Restart.When.Mode, &p.Drift,
	} {
		visit(s)
	}
	for n := range p.Args {
		visit(&p.Args[n])
	}
	for n := range p.EnvFiles {
		visit(&p.EnvFiles[n])
	}
}

// shareLists has p hold the lists of another program where they are equal.
func shareLists(p, other *spec.Program) {
	p.SuccessExit.Codes = either(p.SuccessExit.Codes, other.SuccessExit.Codes)
	p.Identity.Groups = either(p.Identity.Groups, other.Identity.Groups)
	if p.Env != nil && other.Env != nil && maps.Equal(p.Env, other.Env) {
		p.Env = other.Env
	}
	if p.Limits != nil && other.Limits != nil && maps.Equal(p.Limits, other.Limits) {
		p.Limits = other.Limits
	}
}

// either is b, where it is as a is: empty, and there, too.
func either[T comparable](a, b []T) []T {
	if a != nil && b != nil && slices.Equal(a, b) {
		return b
	}
	return a
}

// textRoom is how many bytes of texts lie in one piece, which lives as long as one
// of them does.
const textRoom = 1 << 10

// lexicon keeps equal texts once. First it takes all, then each is kept.
type lexicon struct {
	known map[string]string // where a text lies; empty: nowhere yet
	left  int               // bytes of texts that lie nowhere yet
	room  strings.Builder
}

func (t *lexicon) take(s *string) {
	if _, ok := t.known[*s]; !ok {
		t.known[*s] = ""
		t.left += len(*s)
	}
}

// keep has s lie where all equal texts do.
func (t *lexicon) keep(s *string) {
	if *s == "" {
		return
	}
	if t.known[*s] == "" {
		t.known[*s] = t.put(*s)
	}
	*s = t.known[*s]
}

// put copies s behind others, which stay where they are. A long one lies alone.
func (t *lexicon) put(s string) string {
	if len(s) > textRoom/4 {
		t.left -= len(s)
		return strings.Clone(s)
	}
	if t.room.Cap()-t.room.Len() < len(s) {
		t.room = strings.Builder{}
		t.room.Grow(min(t.left, textRoom))
	}
	t.left -= len(s)
	from := t.room.Len()
	t.room.WriteString(s)
	return t.room.String()[from:]
}

func (t *lexicon) keepAll(m map[string]string) map[string]string {
	if len(m) == 0 {
		return m
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		t.keep(&k)
		t.keep(&v)
		out[k] = v
	}
	return out
}
