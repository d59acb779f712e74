package store

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// manyPrograms is a generation as one of a large machine is.
func manyPrograms(n int) Generation {
	g := Generation{
		Number: 7, Digest: "d", Commit: "c", At: time.Unix(1700000000, 5).UTC(), By: spec.Requester{How: "rpc", UID: 3, GID: 4, PID: 5},
		Programs: n, Instances: 2 * n, Spec: spec.Spec{Programs: map[string]spec.Program{}}, Source: spec.Source{Root: "/etc", Files: map[string][]byte{"a": []byte("b")}},
	}
	for i := range n {
		g.Spec.Programs[fmt.Sprint("p", i)] = spec.Defaults()
	}
	return g
}

// What lists show of a generation is read from its head, which costs the same
// however much it holds.
func TestTheHeadOfAGeneration(t *testing.T) {
	few, many := manyPrograms(1), manyPrograms(1000)
	allocs := func(g Generation) float64 {
		v, err := encodeGeneration(g)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeLight(v)
		if err != nil || !reflect.DeepEqual(got, light(g)) {
			t.Errorf("%v\n%+v\n%+v", err, got, light(g))
		}
		return testing.AllocsPerRun(10, func() { _, _ = decodeLight(v) })
	}
	if a, b := allocs(few), allocs(many); b > 2*a {
		t.Errorf("%v allocations for one program, %v for a thousand", a, b)
	}
}

// Another version may write other fields, and in another order.
func TestTheHeadInAnotherOrder(t *testing.T) {
	g := manyPrograms(3)
	plain, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage // written by name, so Defined and Spec are not last
	if err := json.Unmarshal(plain, &fields); err != nil {
		t.Fatal(err)
	}
	fields["Added"] = json.RawMessage(`{"later": [1]}`)
	shuffled, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeLight(sealed(t, shuffled))
	if err != nil || !reflect.DeepEqual(got, light(g)) {
		t.Errorf("%v\n%+v\n%+v", err, got, light(g))
	}
	for _, bad := range []string{"", "[]", "{", `{"Number": "x"}`, `{"Number": 1`} {
		if _, err := decodeLight(sealed(t, []byte(bad))); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	if _, err := decodeLight([]byte("no seal")); err == nil {
		t.Error("what has no seal was read")
	}
}

func sealed(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return seal(b.Bytes())
}

// A commit is added to a generation and to nothing else of it, for good.
func TestACommitIsAddedLater(t *testing.T) {
	b := newBench(t)
	s, _ := b.open()
	for n := range 3 {
		if _, err := s.AddGeneration(generation(n)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := s.Generation(2)
	if err != nil {
		t.Fatal(err)
	}
	want.Commit = "abc123"
	if err := s.SetCommit(2, "abc123"); err != nil {
		t.Fatal(err)
	}
	if err := s.SetCommit(9, "abc123"); err == nil {
		t.Error("a generation that is not kept has a commit")
	}
	for range 2 {
		got, err := s.Generation(2)
		if list := s.Generations(); err != nil || !same(got, want) || !same(list[1], light(want)) || list[2].Commit == "abc123" {
			t.Errorf("%v\n%+v\n%+v\n%+v", err, got, want, list)
		}
		s.Close()
		s, _ = b.open()
	}
	s.Close()
}
