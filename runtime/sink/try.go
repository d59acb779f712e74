package sink

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/spec"
)

// try is one command or POST at work.
type try struct {
	h     *Hooks
	name  string
	index int
	run   uint64 // 0: a POST
	began time.Time
	// deadline is when a command is killed; zero once it was.
	deadline time.Time
	killed   string // why
	once     bool   // nothing else will be started in its place
	next     *try   // but this one, which waits until nobody is left of us
	start    func() // for who waits
	done     func(result)
}

// result is what came of a try.
type result struct {
	ok     bool
	answer string
	took   time.Duration
}

// prepare gives a command its number, and it counts as at work.
func (t *try) prepare(name string, index int, timeout time.Duration) uint64 {
	t.h.nextRun++
	t.name, t.index, t.run, t.deadline = name, index, t.h.nextRun, t.began.Add(timeout)
	t.h.tries[t.run] = t
	t.h.active++
	return t.run
}

// place is where the hook's next command goes; -1: nowhere. A hook of its name that
// was taken out before may still have some at work there.
func (k *hook) place() int {
	name := spec.RunName(k.ID)
	for slot, taken := range k.slots {
		if !taken && !k.h.atWork(name, slot) {
			return slot
		}
	}
	return -1
}

func (h *Hooks) atWork(name string, index int) bool {
	for _, t := range h.tries {
		if t.name == name && t.index == index {
			return true
		}
	}
	return false
}

// late kills a command whose time is over, or says when it is.
func (t *try) late(now time.Time) time.Time {
	if t.deadline.IsZero() || t.deadline.After(now) {
		return t.deadline
	}
	t.kill(fmt.Sprintf("killed: it took longer than %s", t.deadline.Sub(t.began).Round(time.Millisecond)))
	return time.Time{}
}

func (t *try) kill(why string) {
	t.killed, t.deadline = why, time.Time{}
	t.h.c.Keeper.Kill(t.name, t.index, t.run)
}

// over: nobody is left of a command.
func (t *try) over(e Ended) {
	crashpoint.Here(crashpoint.HookDone)
	delete(t.h.tries, t.run)
	t.h.active--
	r := result{ok: e.Failed == "" && e.Signal == 0 && e.Code == 0, answer: answerOf(e), took: max(e.At.Sub(t.began), 0)}
	if t.killed != "" {
		r.ok, r.answer = false, t.killed
	}
	name, index, run := t.name, t.index, t.run
	t.h.starts = append(t.h.starts, func() { t.h.c.Keeper.Forget(name, index, run) }) // once it is written down
	switch {
	case t.next != nil:
		t.next.start()
	case t.once:
		t.h.starts = append(t.h.starts, func() { t.h.c.Keeper.Drop(name, index) })
	}
	t.done(r)
}

func answerOf(e Ended) string {
	switch {
	case e.Failed != "":
		return "could not start: " + e.Failed
	case e.Signal != 0:
		return "signal " + e.Signal.String()
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// post sends a webhook on its own goroutine.
func (t *try) post(w *spec.Webhook, ev *Event, vars map[string]string) {
	go func() {
		ok, answer := t.h.web.post(w, ev, vars)
		r := result{ok: ok, answer: answer, took: time.Since(t.began)}
		_ = t.h.post(context.Background(), func() { t.done(r) }) // it fails only after our end
	}()
}

// Drain is what has to be done before a stop.
type Drain struct {
	ID     reconcile.InstanceID
	Before *spec.Before
	// Identity is who a command runs as that does not say so itself.
	Identity spec.Identity
	Event    *Event
}

// Drain does it, once, and calls done with what came of it, from another
// goroutine.
func (h *Hooks) Drain(ctx context.Context, d Drain, done func(reconcile.Drain)) error {
	return h.post(ctx, func() {
		t := &try{h: h, began: time.Now(), once: true}
		t.done = func(r result) { go done(reconcile.Drain{OK: r.ok, Answer: r.answer, Took: r.took}) }
		vars := map[string]string{"PROCNANNY_HOOK": d.ID.Program + ":stop.before", "PROCNANNY_HOOK_TRY": "1", "PROCNANNY_EVENT": "stopping"}
		if d.Before.Webhook != nil {
			t.post(d.Before.Webhook, d.Event, vars)
			return
		}
		run := d.Before.Run
		identity := d.Identity
		if run.Named() {
			identity = run.Identity
		}
		name := spec.RunName(d.ID.Program + ":stop.before")
		h.startAt(name, d.ID.Index, t, func() {
			t.prepare(name, d.ID.Index, run.Timeout.D())
			c := Command{Name: t.name, Index: t.index, Run: t.run, Hook: run, Identity: identity, Event: d.Event, Vars: vars}
			h.starts = append(h.starts, func() { h.c.Keeper.Start(c) }) // behind what is to be forgotten there
		})
	})
}

// startAt starts t where nobody else is. The stop of an instance that was started
// again since may find the command of the stop before, for which nobody waits any
// more, and which the keeper has only one place for: it is ended first.
func (h *Hooks) startAt(name string, index int, t *try, start func()) {
	for _, former := range h.tries {
		if former.name != name || former.index != index {
			continue
		}
		if former.killed == "" {
			former.kill(overtaken)
		}
		if former.next != nil {
			former.next.done(result{answer: overtaken})
		}
		t.start, former.next = start, t
		return
	}
	start()
}

const overtaken = "killed: another stop of the instance has begun"

// Finish waits until what is due is done, for within at most; then commands are
// killed, and what was not done is due after the next start.
func (h *Hooks) Finish(ctx context.Context, within time.Duration) {
	grace, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if h.waitIdle(grace, h.quiet) {
		return
	}
	last, cancel := context.WithTimeout(ctx, lastGasp)
	defer cancel()
	_ = h.ask(last, func() {
		h.closing = true
		for _, t := range h.tries {
			if t.killed == "" {
				t.kill("killed: the daemon ends")
			}
		}
	})
	h.waitIdle(last, func() bool { return h.active == 0 })
}

// lastGasp is how long commands may take to vanish after KILL.
const lastGasp = 2 * time.Second

// quiet reports whether nothing is at work, and all that is due waits for
// another try.
func (h *Hooks) quiet() bool {
	if h.active > 0 || h.pos < h.c.Last() && h.known && len(h.hooks) > 0 {
		return false
	}
	for _, k := range h.hooks {
		if k.active > 0 || k.lag != 0 {
			return false
		}
		for _, j := range k.queue {
			if j.next.IsZero() {
				return false
			}
		}
	}
	return true
}

// lookEvery is how often the end looks whether all is done.
const lookEvery = 10 * time.Millisecond

// waitIdle waits for is to be true.
func (h *Hooks) waitIdle(ctx context.Context, is func() bool) bool {
	for {
		var ok atomic.Bool
		if h.ask(ctx, func() { h.read(); ok.Store(is()) }) != nil || ok.Load() {
			return ok.Load()
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return false
		}
	}
}
