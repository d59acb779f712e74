package control

import (
	"bytes"
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

func TestPackedSourceIsWhatItWas(t *testing.T) {
	want := spec.Source{Root: "/etc/x", Single: "a.cue", Files: map[string][]byte{"a.cue": bytes.Repeat([]byte("programs: {}\n"), 1000), "b": {}}}
	p := pack(want)
	got, err := p.unpack()
	if err != nil || got.Root != want.Root || got.Single != want.Single || len(got.Files) != 2 || !bytes.Equal(got.Files["a.cue"], want.Files["a.cue"]) {
		t.Errorf("got %v, %v", got, err)
	}
	if len(p) > 1000 {
		t.Errorf("13 kB of the same line are %d bytes", len(p))
	}
	if _, err := packed(nil).unpack(); err == nil {
		t.Error("nothing was unpacked without an error")
	}
}
