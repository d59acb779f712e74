package store

import (
	"fmt"
	"os"
	"testing"

	"github.com/procnanny/procnanny/reconcile"
)

func wantNotes(t *testing.T, what string, got map[string][]byte, want map[string]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: found %q", what, got)
	}
	for name, note := range want {
		if string(got[name]) != note {
			t.Errorf("%s: %s is %q, want %q", what, name, got[name], note)
		}
	}
}

// Notes are there again after our death, after a reboot, and after the journal
// was written anew; the last word counts.
func TestNotesComeBack(t *testing.T) {
	b := newBench(t)
	s, rec := b.open()
	wantNotes(t, "new", rec.Notes, nil)
	s.SetNotes(map[string][]byte{"a": []byte("1"), "b": []byte("1"), "c": []byte("1")})
	s.SetNotes(map[string][]byte{"a": []byte("2"), "b": nil})
	want := map[string]string{"a": "2", "c": "1"}
	abandon(s)

	s, rec = b.open()
	wantNotes(t, "killed", rec.Notes, want)
	settled(t, s)
	s.SetNotes(map[string][]byte{"c": nil, "d": []byte("4")})
	want = map[string]string{"a": "2", "d": "4"}
	settledNotes(t, s)
	abandon(s)

	b.c.BootID = "boot-2"
	if err := os.RemoveAll(b.c.RunDir); err != nil {
		t.Fatal(err)
	}
	s, rec = b.open()
	wantNotes(t, "booted", rec.Notes, want)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, rec = b.open()
	wantNotes(t, "closed", rec.Notes, want)
}

func settledNotes(t *testing.T, s *Store) {
	t.Helper()
	eventually(t, "notes are committed", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.q.notes) == 0 && s.q.busy == nil
	})
	settled(t, s)
}

// A run knows its commit also when the generation is no longer kept.
func TestRunsKnowTheirCommit(t *testing.T) {
	b := newBench(t)
	s, _ := b.open()
	g, err := s.AddGeneration(Generation{Commit: "abc123"})
	if err != nil {
		t.Fatal(err)
	}
	i := living("web", 0, 1)
	i.Generation = g.Number
	s.Record(reconcile.Batch{Changed: []*reconcile.Instance{i}, NextRun: 2}, nil)
	for n := range keepGenerations + 1 {
		if _, err := s.AddGeneration(Generation{Commit: fmt.Sprint(n)}); err != nil {
			t.Fatal(err)
		}
	}
	x := exitOf(i, 1)
	s.Record(reconcile.Batch{Events: []reconcile.Event{{Kind: reconcile.EventRunEnded, ID: i.ID, Exit: x}}, NextRun: 2}, nil)
	runs, err := s.Runs(RunQuery{Program: "web"})
	if err != nil || len(runs) != 1 || runs[0].Commit != "abc123" || runs[0].End.IsZero() {
		t.Errorf("found %+v, %v", runs, err)
	}
}
