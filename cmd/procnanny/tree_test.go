package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"gopkg.in/yaml.v3"
)

// readYAML is the value of k in a document that writeYAML or writeJSON wrote.
func readYAML(t *testing.T, text string) string {
	t.Helper()
	var m map[string]string
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return m["k"]
}

func TestNormalMakesJSONPossible(t *testing.T) {
	wire := map[any]any{"instances": map[any]any{int64(0): map[string]any{"pid": uint64(7)}, int8(1): nil}, "data": []byte{0xff}, "list": []any{1.5}}
	tree := normal(wire)
	raw, err := json.Marshal(tree)
	if err != nil || string(raw) != `{"data":"/w==","instances":{"0":{"pid":7},"1":null},"list":[1.5]}` {
		t.Errorf("%s %v", raw, err)
	}
}

func TestYAMLSaysWhatJSONSays(t *testing.T) {
	tree := map[string]any{
		"s": []any{"yes", "12", "1e3", "null", "", "a: b", "#x", "multi\nline", "\x1b", "~"}, "n": []any{1, 1.5, nil, true},
		"empty": map[string]any{}, "none": []any{}, "nested": map[string]any{"0": map[string]any{"pid": 1}},
	}
	var j, y bytes.Buffer
	if err := writeJSON(&j, tree); err != nil {
		t.Fatal(err)
	}
	if err := writeYAML(&y, tree); err != nil {
		t.Fatal(err)
	}
	var fromJSON, fromYAML any
	if err := json.Unmarshal(j.Bytes(), &fromJSON); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(y.Bytes(), &fromYAML); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(fromYAML)
	if err != nil {
		t.Fatal(err)
	}
	var round any
	_ = json.Unmarshal(again, &round)
	if !reflect.DeepEqual(fromJSON, round) {
		t.Errorf("JSON %s\nYAML %s", j.String(), y.String())
	}
	if bytes.Contains(y.Bytes(), []byte(`{"`)) {
		t.Errorf("no block style:\n%s", y.String())
	}
}

// What a reader of YAML 1.1 takes for something else than text is quoted, a key
// as well: Ruby's and Python's are such readers.
func TestYAMLIsReadAsTextByOlderReaders(t *testing.T) {
	for _, text := range []string{"yes", "no", "On", "off", "y", "N", "12:30", "12:30:45", "012", "0b1", "1_000", "2026-01-01", "=", "<<", "~", "null"} {
		var b bytes.Buffer
		if err := writeYAML(&b, map[string]any{text: text}); err != nil {
			t.Fatal(err)
		}
		if got, want := b.String(), fmt.Sprintf("%q: %q\n", text, text); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
	var b bytes.Buffer
	if err := writeYAML(&b, map[string]any{"name": "a word"}); err != nil || b.String() != "name: a word\n" {
		t.Errorf("%v %s", err, b.String())
	}
}

func TestValuesAsPeopleTypeThem(t *testing.T) {
	for text, want := range map[string]any{
		"5": int64(5), "-1": int64(-1), "1.5": 1.5, "true": true, "null": nil, `"5"`: "5", "10s": "10s", "022": "022", "0-3,6": "0-3,6",
		"": "", "[1,\"a\"]": []any{int64(1), "a"}, "18446744073709551615": uint64(18446744073709551615), "{bad": "{bad", "1 2": "1 2",
	} {
		if got := value(text); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %#v, want %#v", text, got, want)
		}
	}
	for key, want := range map[string]any{"env.PORT": "80", "user": "80", "command": "80", "cpus": "80", "nice": int64(80), "limits.nofile": int64(80)} {
		if got := programValue(key, "80"); got != want {
			t.Errorf("%s: %#v", key, got)
		}
	}
	if programValue("user", "null") != nil {
		t.Error("null gives no key its default")
	}
}
