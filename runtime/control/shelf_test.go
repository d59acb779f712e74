package control

import (
	"testing"

	"github.com/procnanny/procnanny/spec"
)

func TestShelfKeepsWhatDidNotChange(t *testing.T) {
	program := func(arg string) spec.Program {
		p := spec.Defaults()
		p.Command, p.Args = "/bin/sleep", []string{arg}
		return p
	}
	first := shelve(spec.Spec{Programs: map[string]spec.Program{"a": program("1"), "b": program("2")}}, shelf{})
	second := shelve(spec.Spec{Programs: map[string]spec.Program{"a": program("1"), "b": program("3")}}, first)
	if second.programs["a"] != first.programs["a"] {
		t.Error("a program that did not change is another one")
	}
	if second.programs["b"] == first.programs["b"] || first.programs["b"].Args[0] != "2" {
		t.Error("a program that changed is still the old one")
	}
	if got := second.spec().Programs["b"].Args[0]; got != "3" {
		t.Errorf("the files say %q", got)
	}
	shared := second.without([]spec.Override{{Program: "a", Field: "nice"}})
	if shared["a"] != nil || shared["b"] != second.programs["b"] || second.programs["a"] == nil {
		t.Errorf("shared: %v", shared)
	}
}
