package main

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestSafeEscapes(t *testing.T) {
	for in, want := range map[string]string{
		"plain text":              "plain text",
		"zürich 東京 🚀":             "zürich 東京 🚀",
		"a\x1b]0;owned\x07b":      `a\x1b]0;owned\x07b`,
		"tab\tline\nreturn\r":     `tab\tline\nreturn\r`,
		"c1 \u009b31m":            `c1 \x9b31m`,
		"bidi \u202e\u2066\u200f": `bidi \u202e\u2066\u200f`,
		"zero\u200bwidth\ufeff":   `zero\u200bwidth\ufeff`,
		"broken \xff\xc3":         `broken \xff\xc3`,
		"line\u2028para\u2029":    `line\u2028para\u2029`,
		"tag\U000e0041":           `tag\U000e0041`,
		"del\x7f":                 `del\x7f`,
	} {
		if got := safe(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
	if got := safeLines("a\tb\nc\x1b"); got != "a\tb\nc\\x1b" {
		t.Errorf("%q", got)
	}
}

// FuzzSafe: whatever comes in, only visible characters go out, and JSON and YAML
// hold the same value.
func FuzzSafe(f *testing.F) {
	for _, s := range []string{"", "a\x1b[2J", "\u202e", "\xff", "👩‍👩‍👧", "a: b", "- x", "yes", "0x1f", "\ufeff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range safe(text) {
			if unicode.Is(unicode.C, r) || r == '\u2028' || r == '\u2029' {
				t.Fatalf("%q lets %U through", text, r)
			}
		}
		if columns(clip(safe(text), 5)) > 5 {
			t.Fatalf("%q is clipped to %q", text, clip(safe(text), 5))
		}
		if !utf8.ValidString(text) {
			return
		}
		var j, y bytes.Buffer
		tree := map[string]any{"k": text}
		if err := writeJSON(&j, tree); err != nil {
			t.Fatal(err)
		}
		if err := writeYAML(&y, tree); err != nil {
			t.Fatal(err)
		}
		for _, out := range []string{j.String(), y.String()} {
			for _, r := range out {
				if r != '\n' && unicode.Is(unicode.C, r) {
					t.Fatalf("%q is printed with %U: %s", text, r, out)
				}
			}
		}
		if got := readYAML(t, y.String()); got != text {
			t.Fatalf("YAML holds %q instead of %q:\n%s", got, text, y.String())
		}
		var got map[string]string
		if err := json.Unmarshal(j.Bytes(), &got); err != nil || got["k"] != text {
			t.Fatalf("JSON holds %q instead of %q: %v", got["k"], text, err)
		}
	})
}

func TestClipCountsColumns(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{{"abcdef", 4, "abc…"}, {"abcd", 4, "abcd"}, {"東京東京", 5, "東京…"}, {"abc", 0, "abc"}, {"é́é́é́é́", 3, "é́é́…"}} {
		if got := clip(c.in, c.n); got != c.want {
			t.Errorf("%q to %d: %q, want %q", c.in, c.n, got, c.want)
		}
	}
}
