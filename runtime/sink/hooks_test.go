package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// world is what hooks stand on, in memory: events, notes, and a keeper that
// starts what it is told and ends what it is asked to.
type world struct {
	t  *testing.T
	mu sync.Mutex

	events  []Event
	notes   map[string][]byte
	started []Command
	living  map[uint64]Command
	killed  []uint64
	told    []Outcome
	dropped []string
	reads   []uint64 // after which event
	// exits says how a command ends at once; nil or false: it lives on.
	exits func(Command) (Ended, bool)
	hooks *Hooks
	stop  func()
}

func newWorld(t *testing.T) *world {
	return &world{t: t, notes: map[string][]byte{}, living: map[uint64]Command{}}
}

func (w *world) read(since uint64, limit int, wanted func(string) bool) (out []Event, next uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads = append(w.reads, since)
	next = since
	for _, ev := range w.events[min(since, uint64(len(w.events))):] {
		if limit == 0 {
			break
		}
		limit--
		next = ev.Seq
		if slices.ContainsFunc(ev.Names, wanted) {
			out = append(out, ev)
		}
	}
	return out, next, nil
}

func (w *world) exitAs(exits func(Command) (Ended, bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exits = exits
}

func (w *world) last() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return uint64(len(w.events))
}

// crash adds the event of a crash and says so.
func (w *world) crash(program string, index, code int) {
	w.mu.Lock()
	seq := uint64(len(w.events) + 1)
	w.events = append(w.events, Event{
		Seq: seq, Names: []string{"exited", "crashed"}, ID: reconcile.InstanceID{Program: program, Index: index}, Ended: true, Code: code, Attempt: 1,
		JSON: fmt.Appendf(nil, `{"seq":%d}`, seq),
	})
	w.mu.Unlock()
	if w.hooks != nil {
		w.hooks.Wake()
	}
}

func (w *world) Start(c Command) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, other := range w.living {
		if other.Name == c.Name && other.Index == c.Index {
			w.t.Errorf("%s/%d is started twice", c.Name, c.Index)
		}
	}
	if note := w.notes[jobNote+fmt.Sprint(c.Event.Seq)+" "+c.Vars["PROCNANNY_HOOK"]]; c.Event.Seq != 0 && len(note) == 0 {
		w.t.Errorf("%s is started for event %d, and nothing is written down", c.Name, c.Event.Seq)
	}
	w.started = append(w.started, c)
	w.living[c.Run] = c
	if w.exits == nil {
		return
	}
	if e, ok := w.exits(c); ok {
		go w.end(c.Run, e)
	}
}

func (w *world) Kill(_ string, _ int, run uint64) {
	w.mu.Lock()
	w.killed = append(w.killed, run)
	w.mu.Unlock()
	go w.end(run, Ended{Code: -1, Signal: spec.SIGKILL})
}

func (w *world) Forget(_ string, _ int, run uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.living, run)
}

func (w *world) Drop(name string, index int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.living {
		if c.Name == name && c.Index == index {
			w.t.Errorf("%s/%d is dropped while it lives", name, index)
		}
	}
	w.dropped = append(w.dropped, fmt.Sprintf("%s/%d", name, index))
}

func (w *world) end(run uint64, e Ended) {
	e.At = time.Now()
	_ = w.hooks.Ended(w.t.Context(), run, e)
}

func (w *world) save(notes map[string][]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, note := range notes {
		if len(note) == 0 {
			delete(w.notes, name)
		} else {
			w.notes[name] = slices.Clone(note)
		}
	}
}

// begin is a new control.
func (w *world) begin(s spec.Spec, held ...Held) {
	w.hooks = New(Config{
		Read: w.read, Last: w.last, Keeper: w, Save: w.save, Saved: maps.Clone(w.notes), Held: held, Version: "test",
		Tell: func(o Outcome) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, o)
		},
	})
	ctx, cancel := context.WithCancel(w.t.Context())
	w.stop = cancel
	go w.hooks.Run(ctx)
	if err := w.hooks.Set(ctx, s); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

// die ends control as kill -9 does: nothing more is written down.
func (w *world) die() {
	w.stop()
	<-w.hooks.done
	w.hooks = nil
}

func (w *world) seqs(hook string) (out []uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.started {
		if hook == "" || c.Vars["PROCNANNY_HOOK"] == hook {
			out = append(out, c.Event.Seq)
		}
	}
	return out
}

func (w *world) status(id string) Status {
	w.t.Helper()
	list, err := w.hooks.List(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range list {
		if s.ID == id {
			return s
		}
	}
	w.t.Fatalf("there is no hook %s", id)
	return Status{}
}

// desired reads a spec.
func desired(t *testing.T, text string) (s spec.Spec) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

const page = `{"on": {"crashed": [{"name": "page", "run": {"command": "page", "timeout": "30s"}}]}, "programs": {}}`

func done(Command) (Ended, bool) { return Ended{}, true }

func failing(Command) (Ended, bool) { return Ended{Code: 1}, true }

func equal(t *testing.T, what string, got []uint64, want ...uint64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: found %v, want %v", what, got, want)
	}
}

func TestHooksAreRunForWhatComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.exitAs(done)
		w.crash("web", 0, 1) // before anybody wanted it
		w.begin(desired(t, `{"on": {"crashed": [{"name": "page", "programs": ["w*"], "code": [1, 3], "run": {"command": "page"}}]},
			"programs": {"db": {"command": "x", "on": {"exited": [{"run": {"command": "note"}}]}}}}`))
		w.crash("web", 0, 1)
		w.crash("web", 0, 2)
		w.crash("db", 0, 1)
		w.crash("web", 1, 3)
		synctest.Wait()
		equal(t, "page", w.seqs("page"), 2, 5)
		equal(t, "note", w.seqs("db:exited#0"), 4)
		if s := w.status("page"); s.Done != 2 || s.Waiting != 0 || s.Running != 0 || s.Last == nil || !s.Last.OK || s.Last.Answer != "exit code 0" {
			t.Errorf("page: %+v", s)
		}
		if len(w.living) != 0 {
			t.Errorf("ends that nobody acknowledged: %v", w.living)
		}
		w.die()
	})
}

// While there are no hooks an event wakes nobody; a hook that comes then begins
// with what happens after it was asked for, also before anybody has heard of it,
// and what was before is not read.
func TestWithoutHooksEventsWakeNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.exitAs(done)
		set := func(s spec.Spec) {
			if err := w.hooks.Set(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		idle := func() {
			w.crash("web", 0, 1)
			synctest.Wait()
			if !w.hooks.idle.Load() {
				t.Error("an event wakes somebody, and there are no hooks")
			}
		}
		w.begin(spec.Spec{})
		idle()
		idle()
		set(desired(t, page))
		w.crash("web", 0, 1) // nobody has waited
		synctest.Wait()
		set(spec.Spec{})
		synctest.Wait()
		idle()
		set(desired(t, page)) // it was there before
		w.crash("web", 0, 1)
		synctest.Wait()
		set(spec.Spec{})
		synctest.Wait()
		w.die()
		equal(t, "read after", slices.Compact(w.reads), 2, 3, 4, 5)

		w.reads = nil
		w.crash("web", 0, 1)
		w.begin(desired(t, page))
		w.crash("web", 0, 1)
		synctest.Wait()
		w.die()
		equal(t, "a new control read after", slices.Compact(w.reads), 6, 7)
		equal(t, "hooks were run for", w.seqs("page"), 3, 5, 7)
	})
}

func TestAnInstanceWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.begin(desired(t, page))
		for n := range 3 {
			w.crash("web", 0, n)
			w.crash("web", 1+n, n)
		}
		w.crash("web", 9, 1)
		synctest.Wait()
		equal(t, "one of each instance, and four at most", w.seqs(""), 1, 2, 4, 6)
		first := w.started[0]
		w.end(first.Run, Ended{})
		synctest.Wait()
		equal(t, "the next of the first", w.seqs(""), 1, 2, 4, 6, 3)
		if got := w.started[4].Index; got != first.Index {
			t.Errorf("it has place %d, %d was free", got, first.Index)
		}
		w.die()
	})
}

func TestAFailureIsTriedAgainAndPutAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.exitAs(failing)
		w.begin(desired(t, page))
		w.crash("web", 0, 1)
		w.crash("web", 1, 1)
		w.crash("web", 0, 1)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(w.seqs("")); n != 12 {
			t.Errorf("tried %d times: %v", n, w.seqs(""))
		}
		s := w.status("page")
		if len(s.Dead) != 3 || s.Dead[0].Tries != 4 || s.Dead[0].Answer != "exit code 1" || s.Waiting != 0 {
			t.Errorf("put aside: %+v", s)
		}
		var pauses []time.Duration
		for n, o := range w.told {
			if o.Seq == 1 && n > 0 {
				pauses = append(pauses, o.Took)
			}
		}
		if dead := w.told[len(w.told)-1]; !dead.Dead || dead.Try != 4 {
			t.Errorf("the last word is %+v, %v", dead, pauses)
		}
		w.die()

		w.begin(desired(t, page)) // it is remembered
		if s := w.status("page"); len(s.Dead) != 3 {
			t.Errorf("a new control knows of %+v", s)
		}
		w.exitAs(done)
		n, known, err := w.hooks.Retry(t.Context(), "page", 3)
		if n != 1 || !known || err != nil {
			t.Errorf("retried %d, %v, %v", n, known, err)
		}
		synctest.Wait()
		n, _, _ = w.hooks.Retry(t.Context(), "", 0)
		synctest.Wait()
		if s := w.status("page"); n != 2 || len(s.Dead) != 0 || s.Done != 3 {
			t.Errorf("retried %d, then %+v", n, s)
		}
		if _, known, _ := w.hooks.Retry(t.Context(), "nosuch", 0); known {
			t.Error("there is a hook nosuch")
		}
		w.die()
	})
}

func TestPausesGrow(t *testing.T) {
	for tries, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 6: 32 * time.Second, 7: time.Minute, 60: time.Minute} {
		for range 50 {
			if d := backoff(tries); d < want*8/10 || d > want*12/10 {
				t.Errorf("after %d tries: %v", tries, d)
			}
		}
	}
}

func TestASlowHookDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.exits = func(c Command) (Ended, bool) { return Ended{}, c.Hook.Command == "fast" }
		w.begin(desired(t, `{"on": {"crashed": [{"name": "slow", "retries": 0, "run": {"command": "slow", "timeout": "1m"}}, {"name": "fast", "run": {"command": "fast"}}]}, "programs": {}}`))
		const events = 3 * maxDue
		for n := range events {
			w.crash("web", n, 1)
			synctest.Wait()
		}
		if s := w.status("fast"); s.Done != events {
			t.Errorf("fast: %+v", s)
		}
		s := w.status("slow")
		if !s.Behind || s.Running != perHook || s.Waiting > maxDue {
			t.Errorf("slow: %+v", s)
		}
		w.exitAs(done) // from now on; the ones at work are killed by their timeout
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		s = w.status("slow")
		if s.Behind || s.Waiting != 0 || s.Done != events-perHook || len(s.Dead) != perHook || len(w.killed) != perHook {
			t.Errorf("slow: %+v, killed %v", s, w.killed)
		}
		if s.Dead[0].Answer != "killed: it took longer than 1m0s" {
			t.Errorf("put aside because: %s", s.Dead[0].Answer)
		}
		got := w.seqs("slow")
		slices.Sort(got)
		if len(got) != events || len(slices.Compact(got)) != events {
			t.Errorf("%d starts for %d events", len(got), events)
		}
		w.die()
	})
}

// Control is killed at any time: what was due is done, a command that outlives
// control is not begun again, and nothing is done that nobody wants.
func TestKilledControls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.begin(desired(t, page))
		for n := range 6 {
			w.crash("web", n, 1)
		}
		synctest.Wait()
		equal(t, "begun", w.seqs(""), 1, 2, 3, 4)
		w.die()
		w.crash("web", 6, 1)
		// 1 lives, 2 has ended, 3 the keeper does not know, 4 lives.
		byEvent := map[uint64]Command{}
		for _, c := range w.started {
			byEvent[c.Event.Seq] = c
		}
		now := time.Now()
		held := func(seq uint64, e *Ended) Held {
			c := byEvent[seq]
			return Held{Name: c.Name, Index: c.Index, Run: c.Run, At: now, Ended: e}
		}
		delete(w.living, byEvent[3].Run)
		stray := Held{Name: ".hook gone", Run: firstRun + 1, At: now}
		w.begin(desired(t, page), held(1, nil), held(2, &Ended{At: now}), held(4, nil), stray)
		synctest.Wait()
		equal(t, "begun then: 3 again, and 5 in the place of 2", w.seqs(""), 1, 2, 3, 4, 3, 5)
		equal(t, "killed", w.killed, stray.Run)
		w.end(byEvent[1].Run, Ended{})
		w.end(byEvent[4].Run, Ended{Code: 1})
		w.exitAs(done)
		synctest.Wait()
		for _, c := range slices.Clone(w.started[4:]) {
			w.end(c.Run, Ended{})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		got := w.seqs("")
		slices.Sort(got)
		equal(t, "in the end", got, 1, 2, 3, 3, 4, 4, 5, 6, 7)
		if len(w.living) != 0 {
			t.Errorf("ends that nobody acknowledged: %v", w.living)
		}
		w.die()
		for name := range w.notes {
			if len(name) > len(jobNote) && name[:len(jobNote)] == jobNote {
				t.Errorf("a note is left: %s", name)
			}
		}
	})
}

func TestAHookThatIsGoneLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.begin(desired(t, page))
		w.crash("web", 0, 1)
		w.crash("web", 0, 1)
		synctest.Wait()
		if err := w.hooks.Set(t.Context(), spec.Spec{}); err != nil {
			t.Fatal(err)
		}
		w.end(w.started[0].Run, Ended{Code: 1})
		w.crash("web", 0, 1)
		time.Sleep(time.Hour)
		synctest.Wait()
		equal(t, "begun", w.seqs(""), 1)
		if !slices.Equal(w.dropped, []string{".hook page/0"}) {
			t.Errorf("dropped: %v", w.dropped)
		}
		delete(w.notes, posNote)
		if len(w.notes) != 0 {
			t.Errorf("notes are left: %v", w.notes)
		}
		w.die()
	})
}

// Who takes a hook out and puts it back while a command of it is at work has that one
// go on, and the next beside it: the keeper would refuse a second one in its place.
func TestAHookThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.begin(desired(t, page))
		w.crash("web", 0, 1)
		synctest.Wait()
		for _, text := range []string{`{"programs": {}}`, page} {
			if err := w.hooks.Set(t.Context(), desired(t, text)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for n := range perHook {
			w.crash("web", n, 1)
		}
		synctest.Wait()
		if s := w.status("page"); s.Running != perHook-1 || s.Waiting != perHook {
			t.Errorf("%d commands of the hook that came back run, %d events wait", s.Running, s.Waiting)
		}
		w.end(w.started[0].Run, Ended{})
		synctest.Wait()
		equal(t, "started", w.seqs("page"), 1, 2, 3, 4, 5)
		w.stop()
	})
}

func TestTheEndWaitsAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.begin(desired(t, page))
		w.crash("web", 0, 1)
		w.crash("web", 1, 1)
		synctest.Wait()
		began := time.Now()
		go func() {
			time.Sleep(time.Second)
			w.end(w.started[0].Run, Ended{})
		}()
		w.hooks.Finish(t.Context(), 5*time.Second)
		if took := time.Since(began); took < 5*time.Second || took > 8*time.Second {
			t.Errorf("it took %v", took)
		}
		synctest.Wait()
		equal(t, "killed", w.killed, w.started[1].Run)
		w.die()
		w.exitAs(done)
		w.begin(desired(t, page))
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "begun", w.seqs(""), 1, 2, 2)
		began = time.Now()
		w.hooks.Finish(t.Context(), 5*time.Second)
		if took := time.Since(began); took > 0 {
			t.Errorf("with nothing due it took %v", took)
		}
		w.die()
	})
}

func TestDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.begin(spec.Spec{})
		answers := make(chan reconcile.Drain, 2)
		drain := func(timeout spec.Duration) {
			d := Drain{
				ID: reconcile.InstanceID{Program: "web", Index: 3}, Event: &Event{}, Identity: spec.Identity{UID: 5, Switch: true},
				Before: &spec.Before{Run: &spec.HookRun{Command: "out", Timeout: timeout}},
			}
			if err := w.hooks.Drain(t.Context(), d, func(d reconcile.Drain) { answers <- d }); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		drain(spec.Seconds(10))
		time.Sleep(3 * time.Second)
		w.end(w.started[0].Run, Ended{})
		if d := <-answers; !d.OK || d.Took != 3*time.Second || d.Answer != "exit code 0" {
			t.Errorf("answered: %+v", d)
		}
		synctest.Wait()
		drain(spec.Seconds(1))
		if d := <-answers; d.OK || d.Answer != "killed: it took longer than 1s" {
			t.Errorf("answered: %+v", d)
		}
		if c := w.started[0]; c.Name != ".hook web:stop.before" || c.Index != 3 || c.Identity.UID != 5 {
			t.Errorf("started as %+v", c)
		}
		w.die()
	})
}
