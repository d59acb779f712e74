package specfile

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestLine(t *testing.T) {
	tr := &tree{files: map[string][]byte{"a": []byte("one\r\n\nthree"), "b": []byte("x\n"), "empty": nil}}
	for _, tt := range []struct {
		file string
		n    int
		want string
	}{
		{"a", 0, ""},
		{"a", 1, "one"},
		{"a", 2, ""},
		{"a", 3, "three"},
		{"a", 4, ""},
		{"a", -1, ""},
		{"b", 1, "x"},
		{"b", 2, ""},
		{"b", 3, ""},
		{"empty", 1, ""},
		{"missing", 1, ""},
	} {
		if got := tr.line(tt.file, tt.n); got != tt.want {
			t.Errorf("%s:%d is %q, not %q", tt.file, tt.n, got, tt.want)
		}
	}
}

// What is wrong with a long file is said in the time that reading it takes: once
// per line is not once per line and line before it.
func TestLinesOfALongFile(t *testing.T) {
	const lines = 50_000
	var b strings.Builder
	for n := range lines {
		fmt.Fprintf(&b, "%d\n", n+1)
	}
	tr := &tree{files: map[string][]byte{"a": []byte(b.String())}}
	began := time.Now()
	for n := 1; n <= lines; n++ {
		if got, want := tr.line("a", n), fmt.Sprint(n); got != want {
			t.Fatalf("line %d is %q", n, got)
		}
	}
	if took := time.Since(began); took > 5*time.Second { // it takes 10 ms; the square, minutes
		t.Errorf("it took %v", took)
	}
}

// So is what cannot be parsed: each error asks whether it stands below env, and
// whether what it quotes does.
func TestManyErrorsInALongFile(t *testing.T) {
	const programs = 5_000
	var b strings.Builder
	for n := range programs {
		fmt.Fprintf(&b, "p%d: {\n\targs = [\"x\"]\n\tenv: {\n\t\tA: \"hush\"\n\t}\n}\n", n)
	}
	tr := &tree{files: map[string][]byte{"a.cue": []byte(b.String())}}
	began := time.Now()
	for n := range programs {
		for line, want := range []bool{false, false, true, true, false, false} {
			if at := 6*n + line + 1; tr.underEnv("a.cue", at) != want {
				t.Fatalf("line %d: not %t", at, want)
			}
		}
		if got := tr.withoutText("a.cue", "found 'hush', expected 'rest'"); got != "found (not shown), expected 'rest'" {
			t.Fatal(got)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
