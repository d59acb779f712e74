package sink

import (
	"encoding/json"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// hook is one hook and what is due for it.
type hook struct {
	spec.NamedHook
	h        *Hooks
	identity spec.Identity
	from     uint64 // the last event that it is not about: what came before it
	lag      uint64 // when behind, the last event that was looked at; else 0
	queue    []*job // in order
	active   int
	slots    [perHook]bool // taken
	used     [perHook]bool // ever: the keeper has something there
	dead     []Dead
	dropped  uint64 // of dead
	gone     bool

	done, failed uint64
	last         *Outcome
	lastAt       time.Time
}

// job is one event that is due.
type job struct {
	seq    uint64
	id     reconcile.InstanceID
	ev     *Event // nil: still to be read
	tries  int
	next   time.Time // when it may be tried again
	run    uint64    // of the command at work
	slot   int
	atWork bool
}

// kept is the note about a hook, keptJob that about an event that is due.
type kept struct {
	From    uint64 `json:"from"`
	Lag     uint64 `json:"lag,omitempty"`
	Dead    []Dead `json:"dead,omitempty"`
	Dropped uint64 `json:"dropped,omitempty"`
}

type keptJob struct {
	ID    reconcile.InstanceID `json:"id"`
	Tries int                  `json:"tries,omitempty"`
	Run   uint64               `json:"run,omitempty"`
	Slot  int                  `json:"slot,omitempty"`
}

const (
	hookNote = "hook "
	jobNote  = "due "
)

func (k *hook) note() {
	if !k.gone {
		k.h.note(hookNote+k.ID, kept{From: k.from, Lag: k.lag, Dead: k.dead, Dropped: k.dropped})
	}
}

func (k *hook) jobNote(j *job) string { return jobNote + strconv.FormatUint(j.seq, 10) + " " + k.ID }

func (k *hook) noteJob(j *job) {
	if !k.gone {
		k.h.note(k.jobNote(j), keptJob{ID: j.id, Tries: j.tries, Run: j.run, Slot: j.slot})
	}
}

// set takes what is wanted from now on.
func (h *Hooks) set(wanted []wantedHook, last uint64) {
	before := h.hooks
	h.hooks, h.byEvent = map[string]*hook{}, map[string][]*hook{}
	for _, named := range wanted {
		k := before[named.ID]
		if k == nil {
			k = &hook{h: h, from: last}
			k.NamedHook = named.NamedHook
			if raw := h.c.Saved[hookNote+k.ID]; !h.known && raw != nil {
				k.recall(raw)
			} else {
				if k.from < h.pos { // what came since it was asked for was looked at without it
					k.lag = k.from
					h.busy[k] = true
				}
				k.note()
			}
		}
		k.NamedHook, k.identity = named.NamedHook, named.identity
		h.hooks[k.ID] = k
		h.byEvent[k.Event] = append(h.byEvent[k.Event], k)
		delete(before, k.ID)
	}
	for _, k := range before {
		k.leave()
	}
	if !h.known {
		h.known = true
		h.recall()
	}
	if h.idle.Swap(len(h.hooks) == 0) { // nobody looked at what came before
		h.pos = max(h.pos, last)
	}
	h.Wake() // also for what came while it was idle
}

func (k *hook) recall(raw []byte) {
	var v kept
	if err := json.Unmarshal(raw, &v); err != nil {
		k.h.c.Log.Error("a hook's place in the events is unreadable: it begins with what comes", "hook", k.ID, "error", err)
		return
	}
	k.from, k.lag, k.dead, k.dropped = v.From, v.Lag, v.Dead, v.Dropped
	k.h.busy[k] = true
}

// leave: nobody wants the hook any more.
func (k *hook) leave() {
	k.gone, k.lag = true, 0
	delete(k.h.busy, k)
	k.h.notes[hookNote+k.ID] = nil
	for _, j := range k.queue {
		k.h.notes[k.jobNote(j)] = nil
	}
	k.h.due -= len(k.queue)
	k.queue = nil
	for slot, used := range k.used {
		if used && !k.slots[slot] {
			k.drop(slot)
		}
	}
}

// drop lets the keeper forget a place, once what was there is written down.
func (k *hook) drop(slot int) {
	name := spec.RunName(k.ID)
	k.h.starts = append(k.h.starts, func() { k.h.c.Keeper.Drop(name, slot) })
}

// recall brings back what was due when the process before us died, and the
// commands that the keeper holds. Whatever of that nobody wants is ended.
func (h *Hooks) recall() {
	held := map[uint64]*Held{}
	for i := range h.c.Held {
		held[h.c.Held[i].Run] = &h.c.Held[i]
	}
	for name, raw := range h.c.Saved {
		rest, isJob := strings.CutPrefix(name, jobNote)
		number, id, ok := strings.Cut(rest, " ")
		seq, err := strconv.ParseUint(number, 10, 64)
		var v keptJob
		switch k := h.hooks[id]; {
		case !isJob:
			if id, ok := strings.CutPrefix(name, hookNote); ok && h.hooks[id] == nil {
				h.notes[name] = nil
			}
		case !ok || err != nil || k == nil || json.Unmarshal(raw, &v) != nil:
			h.notes[name] = nil
		default:
			j := &job{seq: seq, id: v.ID, tries: v.Tries, run: v.Run, slot: v.Slot}
			k.queue = append(k.queue, j)
			h.due++
			h.busy[k] = true
			if v.Run != 0 && held[v.Run] != nil {
				k.resume(j, held[v.Run])
				delete(held, v.Run)
			}
			if !j.atWork {
				j.run = 0
			}
		}
	}
	for _, k := range h.hooks {
		slices.SortFunc(k.queue, func(a, b *job) int { return int(int64(a.seq) - int64(b.seq)) })
	}
	for _, v := range held {
		h.disown(v)
	}
}

// disown ends a command that nobody waits for.
func (h *Hooks) disown(v *Held) {
	h.c.Log.Warn("ending a hook's command that nobody waits for", "hook", v.Name, "run", v.Run)
	t := &try{h: h, name: v.Name, index: v.Index, run: v.Run, once: true, done: func(result) {}}
	h.tries[v.Run] = t
	h.active++
	if v.Ended != nil {
		t.over(*v.Ended)
		return
	}
	t.kill("nobody waits for it")
}

// wants reports whether an event is the hook's business.
func (k *hook) wants(ev *Event) bool {
	if ev.ID.Program == "" {
		return k.Program == "" && len(k.Programs) == 0
	}
	return k.Concerns(ev.ID.Program) && k.Selects(ev.Ended, ev.Code, ev.Signal, ev.Attempt)
}

// has reports whether an event, or a later one, is due already.
func (k *hook) has(seq uint64) bool { return len(k.queue) > 0 && k.queue[len(k.queue)-1].seq >= seq }

func (k *hook) add(j *job) {
	k.queue = append(k.queue, j)
	k.h.due++
	k.h.busy[k] = true
	k.noteJob(j)
}

// remove takes a job out that is over.
func (k *hook) remove(j *job) {
	if n := slices.Index(k.queue, j); n >= 0 {
		k.queue = slices.Delete(k.queue, n, n+1)
		k.h.due--
	}
	if !k.gone {
		k.h.notes[k.jobNote(j)] = nil
	}
}

// schedule starts what can start: of each instance one at a time, in order. It
// returns when something waits to be tried again.
func (k *hook) schedule(now time.Time) (next time.Time) {
	if len(k.queue) == 0 || k.h.closing {
		return next
	}
	var taken map[reconcile.InstanceID]bool
	for _, j := range slices.Clone(k.queue) {
		if taken[j.id] {
			continue
		}
		if taken == nil {
			taken = map[reconcile.InstanceID]bool{}
		}
		taken[j.id] = true
		switch {
		case j.atWork:
		case j.next.After(now):
			next = earlier(next, j.next)
		case k.active >= perHook || k.Run != nil && (k.h.active >= maxActive || k.place() < 0):
			return next
		default:
			k.start(j)
		}
	}
	return next
}

// start tries a job once.
func (k *hook) start(j *job) {
	if j.ev == nil {
		events, _, err := k.h.c.Read(j.seq-1, 1, func(string) bool { return true })
		if err != nil || len(events) == 0 || events[0].Seq != j.seq {
			j.tries = k.Retries + 1
			k.bury(j, result{answer: "the event is no longer kept"})
			return
		}
		j.ev = &events[0]
	}
	j.tries++
	j.atWork = true
	k.active++
	t := &try{h: k.h, began: time.Now(), done: func(r result) { k.finish(j, r) }}
	vars := map[string]string{"PROCNANNY_HOOK": k.ID, "PROCNANNY_HOOK_TRY": strconv.Itoa(j.tries), "PROCNANNY_EVENT": k.Event}
	if k.Webhook != nil {
		k.noteJob(j)
		k.h.starts = append(k.h.starts, func() { t.post(k.Webhook, j.ev, vars) })
		return
	}
	j.slot = k.place()
	k.slots[j.slot], k.used[j.slot] = true, true
	j.run = t.prepare(spec.RunName(k.ID), j.slot, k.Run.Timeout.D())
	k.noteJob(j)
	c := Command{Name: t.name, Index: t.index, Run: t.run, Hook: k.Run, Identity: k.identity, Event: j.ev, Vars: vars}
	k.h.starts = append(k.h.starts, func() { k.h.c.Keeper.Start(c) })
}

// resume goes on with a command that was started before us.
func (k *hook) resume(j *job, v *Held) {
	t := &try{h: k.h, name: v.Name, index: v.Index, run: v.Run, began: v.At, done: func(r result) { k.finish(j, r) }}
	if k.Run != nil {
		t.deadline = v.At.Add(k.Run.Timeout.D())
	} else {
		t.deadline = v.At
	}
	k.h.tries[t.run] = t
	k.h.active++
	k.active++
	j.atWork = true
	if j.slot >= 0 && j.slot < perHook {
		k.slots[j.slot], k.used[j.slot] = true, true
	}
	if v.Ended != nil {
		t.over(*v.Ended)
	}
}

// finish takes what came of a try.
func (k *hook) finish(j *job, r result) {
	k.active--
	if j.run != 0 && j.slot >= 0 && j.slot < perHook {
		k.slots[j.slot] = false
		if k.gone {
			defer k.drop(j.slot)
		}
	}
	j.run, j.atWork = 0, false
	switch {
	case k.gone:
		return
	case r.ok:
		k.done++
		k.remove(j)
		k.tell(j, r, false)
	case j.tries > k.Retries:
		k.bury(j, r)
	default:
		k.failed++
		j.next = time.Now().Add(backoff(j.tries))
		k.noteJob(j)
		k.tell(j, r, false)
	}
}

// bury puts a job aside that failed for good.
func (k *hook) bury(j *job, r result) {
	k.failed++
	k.remove(j)
	k.dead = append(k.dead, Dead{Seq: j.seq, ID: j.id, At: time.Now(), Tries: j.tries, Answer: r.answer})
	if n := len(k.dead) - maxDead; n > 0 {
		k.dead = slices.Delete(k.dead, 0, n)
		k.dropped += uint64(n)
	}
	k.note()
	k.h.c.Log.Warn("a hook failed for good; see procnanny hooks", "hook", k.ID, "event", j.seq, "instance", j.id.String(), "answer", r.answer)
	k.tell(j, r, true)
}

func (k *hook) tell(j *job, r result, dead bool) {
	o := Outcome{Hook: k.ID, Event: k.Event, ID: j.id, Seq: j.seq, Try: j.tries, OK: r.ok, Dead: dead, Answer: r.answer, Took: r.took}
	k.last, k.lastAt = &o, time.Now()
	k.h.c.Tell(o)
}

// revive makes dead events due again.
func (k *hook) revive(seq uint64) (n int) {
	k.dead = slices.DeleteFunc(k.dead, func(d Dead) bool {
		if seq != 0 && d.Seq != seq || slices.ContainsFunc(k.queue, func(j *job) bool { return j.seq == d.Seq }) {
			return false
		}
		k.add(&job{seq: d.Seq, id: d.ID})
		n++
		return true
	})
	slices.SortFunc(k.queue, func(a, b *job) int { return int(int64(a.seq) - int64(b.seq)) })
	k.note()
	return n
}

func (k *hook) status() Status {
	s := Status{
		ID: k.ID, Event: k.Event, Program: k.Program, Waiting: len(k.queue), Running: k.active, Behind: k.lag != 0,
		Done: k.done, Failed: k.failed, Last: k.last, LastAt: k.lastAt, Dead: slices.Clone(k.dead), DeadDropped: k.dropped,
	}
	if k.Run != nil {
		s.Action, s.What = "run", k.Run.Command
		return s
	}
	s.Action = "webhook"
	if u, err := url.Parse(k.Webhook.URL); err == nil {
		s.What = u.Scheme + "://" + u.Host // the rest may be a secret
	}
	return s
}

// Pauses between tries: 1s, 2s, 4s and so on up to a minute, a fifth more or
// less, so that what failed together does not come back together.
const (
	firstPause = time.Second
	longest    = time.Minute
)

func backoff(tries int) time.Duration {
	d := min(firstPause<<min(tries-1, 10), longest)
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}
