package sink

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/spec"
)

// Hooks does what the configuration says for each event. Its methods may be
// called from any goroutine; all of the work is on one, in Run.
type Hooks struct {
	c     Config
	inbox chan func()
	wake  chan struct{} // there are new events
	idle  atomic.Bool   // there are no hooks: events wake nobody
	done  chan struct{} // Run has ended
	web   *poster

	hooks   map[string]*hook
	byEvent map[string][]*hook
	busy    map[*hook]bool // something is due, or the hook is behind
	known   bool           // Set was called: before, nobody knows what is wanted
	pos     uint64         // up to where hooks that are not behind have seen the events
	noted   uint64         // pos as it was saved last
	notes   map[string][]byte
	starts  []func() // once notes are saved
	tries   map[uint64]*try
	nextRun uint64
	active  int // commands
	due     int // events, of all hooks
	closing bool
}

// New returns hooks that do nothing until Run.
func New(c Config) *Hooks {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	h := &Hooks{
		c: c, inbox: make(chan func(), inboxLen), wake: make(chan struct{}, 1), done: make(chan struct{}), web: newPoster(c.Version),
		hooks: map[string]*hook{}, byEvent: map[string][]*hook{}, busy: map[*hook]bool{}, notes: map[string][]byte{}, tries: map[uint64]*try{},
	}
	// Without hooks nobody looks at events, and what is saved may be long ago.
	ours := func(name string) bool { return strings.HasPrefix(name, hookNote) }
	n, err := strconv.ParseUint(string(c.Saved[posNote]), 10, 64)
	if err == nil && slices.ContainsFunc(slices.Collect(maps.Keys(c.Saved)), ours) {
		h.pos = n
	} else {
		h.pos = c.Last()
	}
	h.noted = h.pos
	h.nextRun = firstRun | uint64(time.Now().UnixMicro())
	for _, v := range c.Held { // the clock may have been set back
		h.nextRun = max(h.nextRun, v.Run)
	}
	return h
}

// firstRun keeps the numbers of commands apart from those of programs' runs.
// They count on from the clock, so that none comes again.
const firstRun = 1 << 62

// Wake says that there are new events. It never blocks, and costs nothing while
// there are no hooks.
func (h *Hooks) Wake() {
	if h.idle.Load() {
		return
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// errEnded answers what comes after the end of Run.
var errEnded = errors.New("hooks have ended")

func (h *Hooks) post(ctx context.Context, op func()) error {
	select {
	case h.inbox <- op:
		return nil
	case <-h.done:
		return errEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *Hooks) ask(ctx context.Context, op func()) error {
	answered := make(chan struct{})
	if err := h.post(ctx, func() { op(); close(answered) }); err != nil {
		return err
	}
	select {
	case <-answered:
		return nil
	case <-h.done:
		return errEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Set says what is wanted from now on. A hook that is new begins with what
// happens after this call.
func (h *Hooks) Set(ctx context.Context, s spec.Spec) error {
	last := h.c.Last()
	wanted := wantedHooks(s) // not s itself: who waits for the next call still holds this one
	return h.post(ctx, func() { h.set(wanted, last) })
}

// Ended says what became of a command, once nobody is left of it.
func (h *Hooks) Ended(ctx context.Context, run uint64, e Ended) error {
	return h.post(ctx, func() {
		if t := h.tries[run]; t != nil {
			t.over(e)
		}
	})
}

// List is every hook as it is now, sorted by ID.
func (h *Hooks) List(ctx context.Context) ([]Status, error) {
	var list []Status
	err := h.ask(ctx, func() {
		for _, k := range h.hooks {
			list = append(list, k.status())
		}
	})
	if err != nil {
		return nil, err // it may be made yet
	}
	slices.SortFunc(list, func(a, b Status) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// Retry makes dead events due again: of one hook, or of all when id is empty;
// one event, or all when seq is 0. It returns how many, and whether there is
// such a hook.
func (h *Hooks) Retry(ctx context.Context, id string, seq uint64) (n int, known bool, err error) {
	count, found := 0, id == ""
	if err := h.ask(ctx, func() {
		for _, k := range h.hooks {
			if id == "" || id == k.ID {
				found = true
				count += k.revive(seq)
			}
		}
	}); err != nil {
		return 0, false, err
	}
	return count, found, nil
}

// Run does the work until ctx ends.
func (h *Hooks) Run(ctx context.Context) {
	defer close(h.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if at := h.step(); at.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return
		case op := <-h.inbox:
			op()
		case <-h.wake:
			h.read()
		case <-timer.C:
		}
		for range inboxLen { // what else waits goes into the same step
			select {
			case op := <-h.inbox:
				op()
				continue
			default:
			}
			break
		}
	}
}

// step starts what can start, saves what changed before it does, and says when
// to look again.
func (h *Hooks) step() (next time.Time) {
	now := time.Now()
	for k := range h.busy {
		if k.lag != 0 && len(k.queue) < maxDue/2 {
			h.refill(k)
		}
		next = earlier(next, k.schedule(now))
		if len(k.queue) == 0 && k.lag == 0 {
			delete(h.busy, k)
		}
	}
	for _, t := range h.tries {
		next = earlier(next, t.late(now))
	}
	if len(h.starts) > 0 {
		crashpoint.Here(crashpoint.HookDue)
	}
	h.save(h.pos-h.noted >= savePos)
	for _, start := range h.starts {
		crashpoint.Here(crashpoint.HookNoted)
		start()
		crashpoint.Here(crashpoint.HookStarted)
	}
	h.starts = nil
	return next
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

const posNote = "hooks"

func (h *Hooks) save(pos bool) {
	if len(h.notes) == 0 && !pos {
		return
	}
	if h.pos != h.noted {
		h.notes[posNote] = strconv.AppendUint(nil, h.pos, 10)
		h.noted = h.pos
	}
	h.c.Save(h.notes)
	h.notes = map[string][]byte{}
}

func (h *Hooks) note(name string, v any) {
	raw, err := json.Marshal(v)
	if err != nil { // only our own plain values
		panic(err)
	}
	h.notes[name] = raw
}

// read looks at new events. A hook that has too much to do stays behind, and
// delays nobody.
func (h *Hooks) read() {
	if !h.known || len(h.hooks) == 0 { // one that comes begins with what happens then
		return
	}
	for range 64 { // then others have their turn
		events, next, err := h.c.Read(h.pos, pageLen, func(name string) bool { return len(h.byEvent[name]) > 0 })
		if err != nil {
			h.c.Log.Error("hooks cannot read the events", "after", h.pos, "error", err)
			return
		}
		for i := range events {
			h.offer(&events[i])
		}
		if next <= h.pos {
			return
		}
		h.pos = next
	}
	h.Wake()
}

func (h *Hooks) offer(ev *Event) {
	for _, name := range ev.Names {
		for _, k := range h.byEvent[name] {
			switch {
			case k.lag != 0 || ev.Seq <= k.from || k.has(ev.Seq) || !k.wants(ev):
			case len(k.queue) >= maxDue || h.due >= maxAll:
				k.lag = ev.Seq - 1
				h.busy[k] = true
				k.note()
			default:
				k.add(&job{seq: ev.Seq, id: ev.ID, ev: ev})
			}
		}
	}
}

// refill gives a hook that is behind some more, up to where the others are.
func (h *Hooks) refill(k *hook) {
	defer k.note()
	for k.lag < h.pos {
		events, next, err := h.c.Read(k.lag, pageLen, func(name string) bool { return name == k.Event })
		if err != nil {
			h.c.Log.Error("a hook cannot read the events", "hook", k.ID, "after", k.lag, "error", err)
			return
		}
		for i := range events {
			ev := &events[i]
			if ev.Seq > h.pos || ev.Seq <= k.from || !slices.Contains(ev.Names, k.Event) || !k.wants(ev) {
				continue
			}
			if len(k.queue) >= maxDue || h.due >= maxAll {
				k.lag = ev.Seq - 1
				return
			}
			k.add(&job{seq: ev.Seq, id: ev.ID, ev: ev})
		}
		if next <= k.lag {
			break
		}
		k.lag = next
	}
	k.lag = 0
}
