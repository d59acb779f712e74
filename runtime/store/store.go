package store

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// Bounds of what waits for the disk. What waits is in memory and in the
// journal; above this the oldest is given up.
const (
	maxQueueBytes = 16 << 20
	maxQueueLen   = reserve / 2 // events and runs
)

// Store is everything that outlives the control process. Its methods may be
// called from any goroutine.
type Store struct {
	c      Config
	intent *intent
	dbPath string // of the history

	// mu guards what Record works on. It is never held during I/O on a disk.
	mu      sync.Mutex
	m       *image
	j       *journal
	q       queue
	scratch []byte // the frame that is being built
	retryAt time.Time
	closed  bool
	// committed is the number of the last event in the database.
	committed uint64

	// db is nil while there is none. The committer exchanges it; queries go on
	// with the one they have.
	db atomic.Pointer[database]

	runBytes int64 // of the runs in the database; the committer's own
	keep     Keep
	agedAt   time.Time // the committer's: when every program was looked at for age
	// The committer's: when the machine was booted by the wall clock, and since
	// which uptime that clock has gone evenly.
	booted  time.Time
	steady  time.Duration
	rested  bool          // a rest may be there, of which the database has nothing yet
	ending  atomic.Bool   // see Ending
	kick    chan struct{} // something is queued
	urgent  chan struct{} // much is queued
	closing chan struct{}
	done    chan struct{}
	losses  chan string // from Record to the committer, who tells

	// For tests: end as kill -9 does; what the disk says to a commit.
	aborted atomic.Bool
	fault   func() error
}

// queue is what the journal has and the database not yet.
type queue struct {
	events    []Event // ascending
	runs      map[reconcile.RunID]*Run
	instances map[reconcile.InstanceID]bool
	programs  map[string]bool
	notes     map[string]bool
	counters  bool // nothing but the counters changed
	most      int  // events, and runs: maxQueueLen but in tests
	bytes     int  // of events and runs, about
	// What the committer is writing now: queries still see it.
	inflight int // of events, the first ones
	busy     map[reconcile.RunID]*Run

	droppedEvents, droppedRuns uint64 // given up since the last report
	droppedFrom, droppedTo     uint64 // numbers of those events
}

func newQueue() queue {
	return queue{most: maxQueueLen, runs: map[reconcile.RunID]*Run{}, instances: map[reconcile.InstanceID]bool{}, programs: map[string]bool{}, notes: map[string]bool{}}
}

const runCost = 400 // bytes of a queued run, about

func eventCost(e Event) int { return len(e.Topic) + len(e.Body) + 64 }

func (q *queue) addEvent(e Event) {
	q.events = append(q.events, e)
	q.bytes += eventCost(e)
}

// addRun takes r, which nobody changes from then on.
func (q *queue) addRun(r *Run) {
	if _, ok := q.runs[r.Run]; !ok {
		q.bytes += runCost
	}
	q.runs[r.Run] = r
}

// bound gives the oldest up until the queue is within its limits. An eighth
// goes at once, so that a full queue does not pay for each new event.
func (q *queue) bound(f *frame) {
	if q.bytes <= maxQueueBytes && len(q.events) <= q.most && len(q.runs) <= q.most {
		return
	}
	events, runs := q.droppedEvents, q.droppedRuns
	n := q.inflight + (len(q.events)-q.inflight)/8
	for _, e := range q.events[q.inflight:n] {
		q.giveUp(e)
	}
	if len(q.runs) > q.most || q.bytes > maxQueueBytes {
		ids := sortedRuns(q.runs)
		for _, id := range ids[:len(ids)/8] {
			delete(q.runs, id)
			q.bytes -= runCost
			q.droppedRuns++
		}
	}
	q.events = slices.Concat(q.events[:q.inflight], q.events[n:])
	f.dropped(q.droppedEvents-events, q.droppedRuns-runs)
}

func (q *queue) giveUp(e Event) {
	q.bytes -= eventCost(e)
	if q.droppedEvents == 0 {
		q.droppedFrom = e.Seq
	}
	q.droppedTo = e.Seq
	q.droppedEvents++
}

func (c *Config) setDefaults() {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Uptime == nil {
		c.Uptime = uptime
	}
	if c.BootedAt.IsZero() {
		c.BootedAt = c.Now().Add(-c.Uptime())
	}
	if c.Lost == nil {
		c.Lost = func(what string) { c.Log.Error("history was lost", "what", what) }
	}
}

// Record writes a turn down so that it survives our death, numbers the drafts
// and returns them as events. It makes one write(2) and never waits for a disk.
func (s *Store) Record(b reconcile.Batch, drafts []Draft) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := newFrame(s.scratch)
	s.recordWorld(f, b)
	events := s.number(f, drafts)
	if next := max(b.NextRun, s.m.nextRun); next != s.m.nextRun || !f.empty() {
		s.q.counters = s.q.counters || next != s.m.nextRun
		s.m.nextRun = next
		f.counters(s.m.nextRun, s.m.seq)
	}
	if f.empty() {
		return nil
	}
	s.q.bound(f)
	s.write(f)
	s.wake()
	return events
}

func (s *Store) recordWorld(f *frame, b reconcile.Batch) {
	f.expect(len(b.Changed) + len(b.Events))
	if b.ClockSet != 0 {
		s.m.booted = s.m.booted.Add(b.ClockSet)
		f.clock(s.m.booted)
	}
	for _, ev := range b.Events {
		if ev.Kind != reconcile.EventRunEnded || ev.Exit == nil || ev.Exit.Run == 0 {
			continue
		}
		s.endRun(f, s.m.ended(ev.ID, ev.Exit))
	}
	for _, i := range b.Changed {
		ended, living := s.m.instance(i)
		s.endRun(f, ended)
		if living != nil {
			s.q.addRun(clone(s.stamp(living)))
		}
		s.m.instances[i.ID] = f.changed(i)
		s.q.instances[i.ID] = true
	}
	for _, p := range b.Programs {
		if len(p.Instances) == 0 {
			delete(s.m.programs, p.Name)
			s.q.programs[p.Name] = true
			f.program(p.Name, nil)
			continue
		}
		packed := appendRoll(nil, new(p.Roll()))
		s.m.programs[p.Name] = packed
		s.q.programs[p.Name] = true
		f.program(p.Name, packed)
	}
	for _, id := range b.Gone {
		s.m.forget(id)
		s.q.instances[id] = true
		f.item(itemGone, func(b []byte) []byte { return appendID(b, id) })
	}
}

// stamp notes under which commit a run was started.
func (s *Store) stamp(r *Run) *Run {
	if r.Commit == "" && r.Generation > 0 {
		r.Commit = s.intent.commit(r.Generation)
	}
	return r
}

func (s *Store) endRun(f *frame, r *Run) {
	if r != nil {
		s.q.addRun(s.stamp(r))
		f.run(r)
	}
}

func (s *Store) number(f *frame, drafts []Draft) []Event {
	events := make([]Event, len(drafts))
	s.q.events = slices.Grow(s.q.events, len(drafts))
	for n, d := range drafts {
		s.m.seq++
		topic := topicName(d.Topic)
		e := Event{Seq: s.m.seq, Prev: s.m.topics[topic], Time: d.Time, Topic: d.Topic}
		e.Body = d.Encode(e.Seq, e.Prev)
		s.m.topics[topic] = e.Seq
		s.q.addEvent(e)
		f.event(e)
		events[n] = e
	}
	return events
}

// write appends the frame; a journal that cannot be written is rewritten when
// there is room again, at most once a second.
func (s *Store) write(f *frame) {
	b := f.finish()
	s.scratch = b[:0]
	if cap(b) > 64<<10 && !s.ending.Load() { // the frame of a thousand starts is not kept
		s.scratch = nil
	}
	first := s.j.broken == nil
	err := s.j.append(b)
	if err == nil && (s.j.size < s.j.limit || s.ending.Load() && s.j.size < restBytes) {
		return
	}
	now := s.c.Now()
	if err != nil && now.Before(s.retryAt) {
		return
	}
	if again := s.j.rewrite(s.snapshot); again != nil {
		s.retryAt = now.Add(time.Second)
		s.j.limit = s.j.size + minCompact // try again later, not each time
		if err != nil && first {
			s.lose(err.Error() + untilRoom)
		}
	}
}

// Behind reports whether something was recorded that our death would lose: the
// journal does not take it, and the database does not have it yet.
func (s *Store) Behind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.j.broken != nil && len(s.q.events)+len(s.q.runs)+len(s.q.busy) > 0
}

// SetNotes writes down what others want to find again, by name; an empty note is
// taken away. Like Record it survives our death at once, and a reboot a moment
// later.
func (s *Store) SetNotes(notes map[string][]byte) {
	if len(notes) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := newFrame(s.scratch)
	for name, note := range notes {
		if len(note) == 0 {
			delete(s.m.notes, name)
		} else {
			s.m.notes[name] = slices.Clone(note)
		}
		s.q.notes[name] = true
		f.note(name, note)
	}
	s.write(f)
	s.wake()
}

// Seq is the number of the last event.
func (s *Store) Seq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m.seq
}

// lose leaves a message for the committer; there is room for a few.
func (s *Store) lose(what string) {
	select {
	case s.losses <- what:
	default:
	}
}

// wake tells the committer, who may be asleep.
func (s *Store) wake() {
	signal(s.kick)
	if s.q.bytes > commitBytes || len(s.q.runs) > commitRuns {
		signal(s.urgent)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// SetOverrides replaces the overrides; they are on disk when it returns nil.
func (s *Store) SetOverrides(os []spec.Override) error { return s.intent.setOverrides(os) }

// Overrides are those set last.
func (s *Store) Overrides() []spec.Override {
	s.intent.mu.RLock()
	defer s.intent.mu.RUnlock()
	return append([]spec.Override(nil), s.intent.overrides...)
}

// AddGeneration numbers g and keeps it; the oldest go when there are more than
// 20. It is on disk when it returns.
func (s *Store) AddGeneration(g Generation) (Generation, error) { return s.intent.addGeneration(g) }

// SetPinned remembers the generation that a rollback pinned; 0 is none.
func (s *Store) SetPinned(n uint64) error { return s.intent.setPinned(n) }

// SetCommit adds to generation n the git commit that it turned out to be; durable
// when it returns. Generations are added and changed by one goroutine.
func (s *Store) SetCommit(n uint64, commit string) error { return s.intent.setCommit(n, commit) }

// Generation is generation n with its Spec and Source.
func (s *Store) Generation(n uint64) (Generation, error) { return s.intent.generation(n) }

// Generations lists those kept, oldest first, without Spec and Source.
func (s *Store) Generations() []Generation {
	s.intent.mu.RLock()
	defer s.intent.mu.RUnlock()
	return append([]Generation(nil), s.intent.generations...)
}
