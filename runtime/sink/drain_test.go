package sink

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// A stop that begins while the command of the stop before still runs, as when the
// program ended by itself meanwhile and was started again: the keeper has one place
// for both, and is asked to forget it only when nobody is there.
func TestDrainsOfOneInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.begin(spec.Spec{})
		answers := make(chan string, 10)
		drain := func(name string) {
			d := Drain{
				ID: reconcile.InstanceID{Program: "web"}, Event: &Event{},
				Before: &spec.Before{Run: &spec.HookRun{Command: name, Timeout: spec.Seconds(60)}},
			}
			if err := w.hooks.Drain(t.Context(), d, func(d reconcile.Drain) { answers <- name + ": " + d.Answer }); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(want ...string) {
			t.Helper()
			synctest.Wait()
			got := map[string]bool{}
			for range len(answers) {
				got[<-answers] = true
			}
			for _, answer := range want {
				if !got[answer] {
					t.Errorf("answered %v, want %s", got, answer)
				}
			}
			if len(got) != len(want) {
				t.Errorf("answered %v, want %v", got, want)
			}
		}
		drain("one")
		synctest.Wait()
		drain("two")
		drain("three")
		synctest.Wait()
		expect("one: "+overtaken, "two: "+overtaken)
		w.end(w.started[1].Run, Ended{})
		expect("three: exit code 0")
		if got := fmt.Sprint(w.dropped); got != "[.hook web:stop.before/0]" {
			t.Errorf("dropped %s", got)
		}

		// In one step of ours: the end of one, and the next.
		drain("four")
		synctest.Wait()
		if err := w.hooks.post(t.Context(), func() {
			tries := w.hooks.tries
			w.mu.Lock()
			run := w.started[len(w.started)-1].Run
			delete(w.living, run)
			w.mu.Unlock()
			tries[run].over(Ended{})
			drain("five")
		}); err != nil {
			t.Fatal(err)
		}
		expect("four: exit code 0")
		w.end(w.started[len(w.started)-1].Run, Ended{Code: 1})
		expect("five: exit code 1")
		if len(w.started) != 4 {
			t.Errorf("started %d commands", len(w.started))
		}
		w.die()
	})
}
