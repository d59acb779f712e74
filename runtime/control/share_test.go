package control

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"github.com/procnanny/procnanny/spec"
)

// decoded is a program with texts and lists of its own, as decoding makes them.
func decoded(n int) spec.Program {
	text := strings.Clone
	p := spec.Defaults()
	p.Command, p.Args, p.Dir = text("/bin/sleep"), []string{fmt.Sprint(n), text("common")}, text("/srv")
	p.Env = map[string]string{text("HOME"): text("/srv"), text("LONG"): strings.Repeat("x", textRoom), text("N"): fmt.Sprint(n % 2)}
	p.Identity = spec.Identity{Name: text("www"), Home: text("/srv"), Shell: text("/bin/sh"), Groups: []uint32{4, 5}}
	p.Limits = map[string]spec.Limit{"nofile": {Soft: 7, Hard: 8}}
	p.SuccessExit.Codes = []int{0, 3}
	return p
}

func TestSharedProgramsSayWhatTheySaid(t *testing.T) {
	want := map[string]spec.Program{}
	for n := range 300 {
		want[fmt.Sprint("p", n)] = decoded(n)
	}
	bare := spec.Program{} // nothing is there, and something empty
	want["bare"] = bare
	bare.Args, bare.Env, bare.Limits, bare.SuccessExit.Codes = []string{}, map[string]string{}, map[string]spec.Limit{}, []int{}
	want["empty"] = bare
	s := shelve(spec.Spec{Programs: maps.Clone(want)}, shelf{})
	if len(s.programs) != len(want) {
		t.Fatalf("%d programs of %d", len(s.programs), len(want))
	}
	for name, p := range want {
		if !reflect.DeepEqual(*s.programs[name], p) {
			t.Errorf("%s is %+v\nwant %+v", name, *s.programs[name], p)
		}
	}
	again := shelve(spec.Spec{Programs: want}, s)
	for name, p := range again.programs {
		if p != s.programs[name] {
			t.Errorf("%s is another one, though it says the same", name)
		}
	}
}

func TestEqualTextsOfProgramsAreThereOnce(t *testing.T) {
	s := shelve(spec.Spec{Programs: map[string]spec.Program{"a": decoded(1), "b": decoded(3)}}, shelf{})
	a, b := s.programs["a"], s.programs["b"]
	for what, texts := range map[string][2]string{
		"command": {a.Command, b.Command}, "argument": {a.Args[1], b.Args[1]}, "shell": {a.Identity.Shell, b.Identity.Shell},
		"directory": {a.Dir, b.Identity.Home}, "variable": {a.Env["LONG"], b.Env["LONG"]}, "mode": {a.Mode.Kind, b.Mode.Kind},
	} {
		if unsafe.StringData(texts[0]) != unsafe.StringData(texts[1]) {
			t.Errorf("the %s %.20q is there twice", what, texts[0])
		}
	}
	if &a.SuccessExit.Codes[0] != &b.SuccessExit.Codes[0] || &a.Identity.Groups[0] != &b.Identity.Groups[0] {
		t.Error("a list is there twice")
	}
}
