package spec_test

import (
	"strings"
	"testing"

	"github.com/procnanny/procnanny/spec"
)

func TestExpand(t *testing.T) {
	known := map[string]string{"instance": "3", "A": "$(instance)", "EMPTY": "", "a b": "space"}
	lookup := func(name string) (string, bool) { v, ok := known[name]; return v, ok }
	cases := map[string]string{
		"":                          "",
		"plain":                     "plain",
		"$(instance)":               "3",
		"a$(instance)b$(instance)c": "a3b3c",
		"$$(instance)":              "$(instance)",
		"$$$(instance)":             "$$(instance)",
		"$$$$(instance)":            "$$$(instance)",
		"$(A)":                      "$(instance)", // a value is not expanded again
		"$(EMPTY)":                  "",
		"$(unknown)":                "$(unknown)",
		"$()":                       "$()",
		"$(a b)":                    "space",
		"$(instance":                "$(instance",
		"$":                         "$",
		"$$":                        "$$",
		"$HOME ${HOME} `x`":         "$HOME ${HOME} `x`",
		"date +%u %(x)s %%":         "date +%u %(x)s %%",
		"$((1+1))":                  "$((1+1))",
		"grüß $(instance) \x00\xff": "grüß 3 \x00\xff",
	}
	for text, want := range cases {
		if got := spec.Expand(text, lookup); got != want {
			t.Errorf("Expand(%q) is %q, expected %q", text, got, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"$(a)", "$$(a)", "$(", "$$$(a)$", "%s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		same := spec.Expand(text, func(name string) (string, bool) { return "", false })
		if want := strings.ReplaceAll(text, "$$(", "$("); same != want && !strings.Contains(text, "$(") {
			t.Errorf("nothing is known, yet %q became %q", text, same)
		}
		n := 0
		spec.Expand(text, func(string) (string, bool) { n++; return strings.Repeat("x", 10), true })
		if n > strings.Count(text, "$(") {
			t.Errorf("%q asked %d times", text, n)
		}
	})
}
