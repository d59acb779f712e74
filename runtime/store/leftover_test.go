package store

import (
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
)

// A main process that ended is over in the history at once, and stays so, whatever
// happens while somebody of its containment is left: the instance is removed, the
// machine is booted.
func TestARunIsOverWhileOthersOfItAreLeft(t *testing.T) {
	for name, gone := range map[string]bool{"removed": true, "booted": false} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			s, _ := b.open()
			i := living("web", 0, 1)
			s.Record(changed(i), nil)
			left, ended := crashed(i, 3)
			left.State, left.MainGone = reconcile.StateStopping, true
			batch := changed(left)
			batch.Events = []reconcile.Event{ended}
			s.Record(batch, nil)
			wantCrash(t, s, "while others are left")
			if gone {
				s.Record(reconcile.Batch{Gone: []reconcile.InstanceID{i.ID}}, nil)
				wantCrash(t, s, "forgotten")
			}
			settled(t, s)
			abandon(s)
			b.c.BootID, b.c.BootedAt = "boot-2", epoch.Add(time.Hour)
			s, rec := b.open()
			if len(rec.Ended) != 0 {
				t.Errorf("the boot ended %+v", rec.Ended)
			}
			wantCrash(t, s, "after a boot")
		})
	}
}

// wantCrash wants one run of web, which ended with code 3.
func wantCrash(t *testing.T, s *Store, when string) {
	t.Helper()
	runs, err := s.Runs(RunQuery{Program: "web"})
	if err != nil || len(runs) != 1 || runs[0].Exit == nil || runs[0].Exit.Code != 3 || runs[0].Exit.Unknown {
		t.Errorf("%s: %+v, error %v", when, runs, err)
	}
	if got, err := s.Tallies("web", nil); err != nil || len(got) != 1 || got[0].Starts != 1 || got[0].Ends != 1 || got[0].Crashes != 1 {
		t.Errorf("%s: totals %+v, error %v", when, got, err)
	}
}
