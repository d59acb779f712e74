package store

import (
	"os"
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
)

func removeAll(t testing.TB, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// A version before this one wrote the program's name into what is kept of a roll.
func TestRollsThatWereWrittenBefore(t *testing.T) {
	old := struct {
		Name   string    `json:"name"`
		Held   string    `json:"held"`
		At     time.Time `json:"retry_at"`
		Target string    `json:"target"`
	}{"web", "it fails", epoch, "x"}
	var r reconcile.Roll
	if err := unpack(reflected(old), &r); err != nil || r.Held != "it fails" || r.Target != "x" || !r.RetryAt.Equal(epoch) {
		t.Errorf("read as %+v: %v", r, err)
	}
}
