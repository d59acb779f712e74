package sim

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/store"
)

// witnessed is the model of the store with the real one beside it: what a new
// control finds is that of the real one, and must be what the model says.
type witnessed struct {
	t     *testing.T
	m     *Machine
	model Journal
	real  *store.Store
	dir   string
	boots int
	at    time.Time    // of the last boot
	deep  int          // worlds that were compared
	clock atomic.Int64 // of the machine, for the store's goroutine
}

// tick lets the store know the time.
func (w *witnessed) tick() { w.clock.Store(w.m.Now().UnixNano()) }

func (w *witnessed) Record(b reconcile.Batch) {
	w.tick()
	w.model.Record(b)
	if w.real != nil {
		w.real.Record(b, nil)
	}
}

// World ends the store of the control before, and opens the next one's.
func (w *witnessed) World() reconcile.World {
	w.tick()
	w.end()
	s, found, err := store.Open(store.Config{
		StateDir: filepath.Join(w.dir, "state"), RunDir: filepath.Join(w.dir, "run"), BootID: fmt.Sprint("boot ", w.boots),
		BootedAt: w.at, Now: func() time.Time { return time.Unix(0, w.clock.Load()) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.real = s
	for _, loss := range found.Loss {
		w.t.Errorf("lost: %s", loss)
	}
	model := w.model.World()
	if got, want := written(w.t, found.World), written(w.t, model); got != want || found.World.NextRun < model.NextRun {
		w.t.Errorf("at %s a new control finds\n%s\nand should find\n%s", w.m.Now().Sub(Epoch), got, want)
	}
	w.deep++
	return found.World
}

func (w *witnessed) end() {
	if w.real == nil {
		return
	}
	if err := w.real.Close(); err != nil {
		w.t.Error(err)
	}
	w.real = nil
}

// Reboot loses the run directory, as every boot does.
func (w *witnessed) Reboot(at time.Time) {
	w.end()
	w.model.Reboot(at)
	w.boots++
	w.at = at
	if err := os.RemoveAll(filepath.Join(w.dir, "run")); err != nil {
		w.t.Fatal(err)
	}
}

// written is a world as text: all that a control which starts can know.
func written(t *testing.T, world reconcile.World) string {
	t.Helper()
	out := map[string]any{"booting": world.Booting}
	for name, p := range world.Programs {
		for _, i := range p.Instances {
			v := *i
			inUTC(&v)
			if world.Booting {
				v.Since = time.Time{} // when the store was opened
				if x := v.LastExit; x != nil && x.PID == 0 {
					x.Start, x.Duration = time.Time{}, 0 // it was ordered, and nobody knows more
				}
			}
			out[v.ID.String()] = v
		}
		out[name] = []any{p.Target, p.Preflight, p.Held, p.RetryAt.UTC(), p.Forced}
	}
	raw, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// inUTC makes times that are equal look equal.
func inUTC(i *reconcile.Instance) {
	for _, at := range []*time.Time{&i.Since, &i.Until, &i.StartedAt} {
		*at = at.UTC()
	}
	ends := make([]time.Time, len(i.Ends))
	for n, at := range i.Ends {
		ends[n] = at.UTC()
	}
	i.Ends = ends
	if i.LastExit != nil {
		x := *i.LastExit
		x.At, x.Start = x.At.UTC(), x.Start.UTC()
		i.LastExit = &x
	}
}

// The model of the store says what the real one says, whenever a control starts.
func TestTheRealStore(t *testing.T) {
	compared := 0
	for seed := range uint64(fewer(5)) {
		s := tell(7000+seed, 120)
		for n := range s.steps {
			if s.steps[n].do == "forget" { // which the store does in its own way
				s.steps[n] = step{do: "kill-both", args: []int{0}}
			}
		}
		j := &witnessed{t: t, model: NewJournal(), dir: t.TempDir(), at: Epoch.Add(-booted)}
		for _, dir := range []string{"state", "run"} {
			if err := os.MkdirAll(filepath.Join(j.dir, dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		_, err := walkWith(s, Config{Journal: j}, nil, func(m *Machine) { j.m = m })
		if err != nil {
			t.Errorf("seed %d: %v", s.seed, err)
		}
		j.end()
		compared += j.deep
		if t.Failed() {
			return
		}
	}
	if compared < 10 {
		t.Errorf("only %d worlds were compared", compared)
	}
}
