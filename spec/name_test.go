package spec_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/procnanny/procnanny/spec"
)

func TestCheckName(t *testing.T) {
	good := []string{"a", "hello world", "grüße", "x.y", "x-", "web%1", "日本", "a:b", "a'b", `a"b`, "a\\b", "]", strings.Repeat("n", 128)}
	for _, name := range good {
		if err := spec.CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	bad := map[string]string{
		"": "cannot be empty", ".a": "begin with '.'", "-a": "begin with '-'", "a/b": "'/'", "a*": "'*'", "a?": "'?'", "a[b": "'['",
		"a\x00b": "U+0000", "a\nb": "U+000A", "a\x7fb": "U+007F", "a\u0085b": "U+0085", "a\u202eb": "U+202E", "a\u200fb": "U+200F",
		"a\u2066b": "U+2066", "a\u061cb": "U+061C", "a\xffb": "UTF-8", strings.Repeat("n", 129): "at most 128 bytes",
		strings.Repeat("ü", 65): "this one has 130",
	}
	for name, want := range bad {
		if err := spec.CheckName(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: expected an error with %q, found %v", name, want, err)
		}
	}
}

func FuzzCheckName(f *testing.F) {
	f.Add("web")
	f.Add("a\u202eb")
	f.Fuzz(func(t *testing.T, name string) {
		if spec.CheckName(name) != nil {
			return
		}
		if name == "" || len(name) > spec.NameMax || !utf8.ValidString(name) || strings.ContainsAny(name, "/*?[\x00\n") || name[0] == '.' || name[0] == '-' {
			t.Errorf("%q was accepted", name)
		}
	})
}

func TestParseSignal(t *testing.T) {
	good := map[string]spec.Signal{
		"TERM": 15, "SIGTERM": 15, "term": 15, "sigterm": 15, "15": 15, "KILL": 9, "HUP": 1, "USR1": 10, "SYS": 31, "64": 64,
		"RTMIN": 34, "RTMIN+0": 34, "rtmin+3": 37, "SIGRTMIN+30": 64, "RTMAX": 64, "SIGRTMAX-2": 62, "RTMAX-30": 34, "32": 32, "STKFLT": 16,
	}
	for text, want := range good {
		if got, err := spec.ParseSignal(text); err != nil || got != want {
			t.Errorf("%q is %d, %v; expected %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "65", "-1", "KABOOM", "SIG", "RTMIN+31", "RTMIN+-1", "RTMIN++1", "RTMAX-31", "RTMAX+1", "RTMIN-1", "+9", "TERM ", "15.0", "SIGSIGTERM"} {
		if got, err := spec.ParseSignal(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

func FuzzSignal(f *testing.F) {
	f.Add("TERM")
	f.Add("rtmin+3")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := spec.ParseSignal(text)
		if err != nil {
			return
		}
		if s < 1 || s > 64 {
			t.Errorf("%q is %d", text, s)
		}
		if again, err := spec.ParseSignal(s.String()); err != nil || again != s {
			t.Errorf("%q is %d, whose name %q is %d, %v", text, s, s.String(), again, err)
		}
	})
}
