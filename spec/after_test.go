package spec

import (
	"slices"
	"strings"
	"testing"
)

func TestCircle(t *testing.T) {
	for _, c := range []struct{ says, want string }{
		{"", ""},
		{"web:db", ""},
		{"web:db db:", ""},
		{"web:web", "web"},
		{"a:b b:a", "a b"},
		{"a:b,c b:d c:d d:", ""}, // two ways to the same are no circle
		{"a:b b:c c:d d:b", "b c d"},
		{"z:y y:x x:y", "x y"},
		{"a:gone", ""},
	} {
		s := Spec{Programs: map[string]Program{}}
		for word := range strings.FieldsSeq(c.says) {
			name, others, _ := strings.Cut(word, ":")
			p := Defaults()
			for other := range strings.SplitSeq(others, ",") {
				if other != "" {
					p.Start.After = map[string]string{other: AfterRunning}
					for more := range strings.SplitSeq(others, ",") {
						p.Start.After[more] = AfterDone
					}
				}
			}
			s.Programs[name] = p
		}
		if got := s.Circle(); !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%q: %v, want %q", c.says, got, c.want)
		}
	}
}

func TestCircleIsQuick(t *testing.T) {
	s := Spec{Programs: map[string]Program{}}
	name := func(n int) string { return string(rune('a'+n/26)) + string(rune('a'+n%26)) }
	for n := range 300 { // each waits for all before it: 2^300 ways
		p := Defaults()
		p.Start.After = map[string]string{}
		for m := range n {
			p.Start.After[name(m)] = AfterRunning
		}
		s.Programs[name(n)] = p
	}
	if got := s.Circle(); got != nil {
		t.Errorf("found a circle: %v", got)
	}
}
