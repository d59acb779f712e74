package reconcile

import (
	"slices"
	"testing"
)

// Whatever names are like, the text says which they are.
func TestAwaitedNames(t *testing.T) {
	for _, names := range [][]string{nil, {"db"}, {"db", "migrate"}, {"a, b", "b"}, {`"`, "x"}, {`say "hi", twice`, ",", ", "}, {"back\\slash", `c:\d`}, {"hello world", "ä, ö"}} {
		text := joinNames(names)
		if got := Awaited(text); !slices.Equal(got, names) {
			t.Errorf("%q became %s, and is read as %q", names, text, got)
		}
	}
	if text := joinNames([]string{"a, b", "c"}); text != `"a, b", c` {
		t.Errorf("the text is %s", text)
	}
	Awaited(`"not closed, x`) // ends
}
