package store

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/crashpoint"
)

// One transaction brings at most this much, so that its memory is bounded.
const (
	commitBytes  = 2 << 20
	commitEvents = 10_000
	commitRuns   = 4_000
)

// The committer rests after each transaction so that the next one is worth its
// fsync: three times as long as it took, within these.
const (
	restMin    = 10 * time.Millisecond
	restMax    = 100 * time.Millisecond
	restFailed = time.Second
)

// commitLoop is the one goroutine that writes the history. With nothing queued
// it has no timer.
func (s *Store) commitLoop() {
	defer close(s.done)
	rest := time.NewTimer(time.Hour)
	rest.Stop()
	for {
		select {
		case <-s.closing:
			if !s.aborted.Load() {
				s.last()
			}
			return
		case <-s.kick:
		}
		s.patience(rest)
		if s.putOff(rest) {
			continue
		}
		began := time.Now()
		more, err := s.commit(false)
		pause := min(max(3*time.Since(began), restMin), restMax)
		if err != nil {
			pause = restFailed
		}
		if more || err != nil {
			signal(s.kick)
		}
		s.tell(err == nil)
		s.rest(rest, pause, s.urgentUnless(err))
	}
}

// patience first lets whoever caused this get on: a restart shares the processor
// with us, and what follows it comes along in the same transaction; so does the
// start or the stop of a thousand.
func (s *Store) patience(timer *time.Timer) {
	for waited := time.Duration(0); waited < restMax; waited += restMin {
		before := s.Seq()
		if s.rest(timer, restMin, s.urgent) || s.Seq() == before {
			return
		}
	}
}

// rest waits for a pause, or is disturbed by the end of the store or something
// urgent.
func (s *Store) rest(timer *time.Timer, pause time.Duration, urgent <-chan struct{}) (disturbed bool) {
	timer.Reset(pause)
	select {
	case <-timer.C:
	case <-s.closing:
		disturbed = true
	case <-urgent:
		disturbed = true
	}
	timer.Stop()
	return disturbed
}

// urgentUnless is nil, which never comes, after a failure: a full disk is not
// asked again for each new event.
func (s *Store) urgentUnless(err error) chan struct{} {
	if err != nil {
		return nil
	}
	return s.urgent
}

// last commits what is left and says that the end was orderly.
func (s *Store) last() {
	if s.leaveRest() {
		return
	}
	for range maxQueueLen/commitRuns + maxQueueLen/commitEvents + maxQueueBytes/commitBytes + 8 {
		more, err := s.commit(true)
		if err != nil {
			s.c.Log.Error("history was not written to its end; the run directory keeps it until a reboot", "error", err)
			return
		}
		if !more {
			return
		}
	}
}

// commit brings one transaction's worth to the database.
func (s *Store) commit(closing bool) (more bool, err error) {
	d, err := s.ready()
	if err != nil {
		return false, err
	}
	w, more := s.take()
	w.clean = closing && !more
	if w.empty() && !w.counters && !closing {
		return false, nil
	}
	// First the floor, then what may come close to it.
	if err := s.intent.raise(w.given, w.nextRun); err != nil {
		s.c.Log.Warn("numbers are not secured against the loss of the history", "error", err)
	}
	var t trimmed
	crashpoint.Here(crashpoint.CommitBegun)
	err = d.update(func(tx *bbolt.Tx) error {
		if s.fault != nil {
			if err := s.fault(); err != nil {
				return err
			}
		}
		if err := w.put(tx); err != nil {
			return err
		}
		var err error
		t, err = s.trim(tx, w)
		return err
	})
	crashpoint.Here(crashpoint.CommitDone)
	s.took(w, t, err)
	if err == nil {
		unmap(d)
	}
	if err == nil && !more {
		s.dropRest()
	}
	return more || t.more, err
}

// take copies what one transaction brings. What it takes stays visible to
// queries until the database has it.
func (s *Store) take() (w *work, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := &s.q
	w = &work{boot: s.c.BootID, seq: s.m.seq, given: s.m.seq, nextRun: s.m.nextRun, counters: q.counters, runs: map[reconcile.RunID]*Run{}, instances: map[reconcile.InstanceID][]byte{}, programs: map[string][]byte{}, notes: map[string][]byte{}}
	n := 0
	for n < len(q.events) && n < commitEvents && w.bytes < commitBytes {
		w.bytes += eventCost(q.events[n])
		n++
	}
	w.events, q.inflight = slices.Clone(q.events[:n]), n
	if n < len(q.events) {
		w.seq, more = q.events[n].Seq-1, true
	}
	ids := sortedRuns(q.runs)
	for _, id := range ids[:min(len(ids), commitRuns)] {
		w.runs[id] = q.runs[id]
		delete(q.runs, id)
	}
	q.busy = w.runs
	for id := range q.instances {
		if len(w.instances) == commitRuns {
			break
		}
		w.instances[id] = s.m.instances[id]
		delete(q.instances, id)
	}
	for name := range q.programs {
		w.programs[name] = s.m.programs[name]
	}
	clear(q.programs)
	for name := range q.notes {
		w.notes[name] = s.m.notes[name]
	}
	clear(q.notes)
	q.counters = false
	return w, more || len(q.runs) > 0 || len(q.instances) > 0
}

// took settles the queue after a transaction: what is in the database leaves
// it, what is not comes back unless something newer is there.
func (s *Store) took(w *work, t trimmed, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := &s.q
	q.busy, q.inflight = nil, 0
	if err == nil {
		q.drop(w)
		s.committed = w.seq
		s.runBytes += t.runBytes + w.runBytes
		for topic, seq := range t.topics {
			if s.m.topics[topic] == seq {
				delete(s.m.topics, topic)
			}
		}
		return
	}
	for id, r := range w.runs {
		if q.runs[id] == nil {
			q.runs[id] = r
		} else {
			q.bytes -= runCost
		}
	}
	for id := range w.instances {
		q.instances[id] = true
	}
	for name := range w.programs {
		q.programs[name] = true
	}
	for name := range w.notes {
		q.notes[name] = true
	}
	q.counters = true
}

func (q *queue) drop(w *work) {
	n := 0
	for n < len(q.events) && len(w.events) > 0 && q.events[n].Seq <= w.events[len(w.events)-1].Seq {
		q.bytes -= eventCost(q.events[n])
		n++
	}
	left := copy(q.events, q.events[n:])
	clear(q.events[left:])
	q.events = q.events[:left]
	q.bytes -= runCost * len(w.runs)
	q.shrink()
}

// shrink lets go of the room that a burst needed.
func (q *queue) shrink() {
	if len(q.events) == 0 && cap(q.events) > smallQueue {
		q.events = nil
	}
	if len(q.runs) == 0 {
		q.runs = map[reconcile.RunID]*Run{}
	}
	if len(q.instances) == 0 {
		q.instances = map[reconcile.InstanceID]bool{}
	}
	if len(q.programs) == 0 {
		q.programs = map[string]bool{}
	}
}

// smallQueue is the room for events that is kept.
const smallQueue = 64

// unmap gives the pages back that the transaction touched: they are the
// kernel's cache of the file, and need not count as our memory. All pages that
// a transaction sees are mapped, so its size is never more than the mapping,
// which the transaction also holds in place; the file may well be longer.
func unmap(d *database) {
	_ = d.view(func(tx *bbolt.Tx) error {
		if data := tx.DB().Info().Data; data != 0 && tx.Size() >= unmapAbove {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, data, uintptr(tx.Size()), unix.MADV_DONTNEED)
		}
		return nil
	})
}

const unmapAbove = 4 << 20

// tell hands on what could not be kept. A gap in the events is told once the
// database takes them again: then it is known from where to where.
func (s *Store) tell(works bool) {
	for {
		select {
		case what := <-s.losses:
			s.c.Lost(what)
			continue
		default:
		}
		break
	}
	if !works {
		return
	}
	s.mu.Lock()
	events, runs, from, to := s.q.droppedEvents, s.q.droppedRuns, s.q.droppedFrom, s.q.droppedTo
	s.q.droppedEvents, s.q.droppedRuns = 0, 0
	s.mu.Unlock()
	if events+runs > 0 {
		s.c.Lost(droppedText(events, runs, from, to))
	}
}

func droppedText(events, runs, from, to uint64) string {
	text := fmt.Sprintf("the disk did not take the history: %d events", events)
	if from != 0 {
		text += fmt.Sprintf(" (numbers %d to %d)", from, to)
	}
	return text + fmt.Sprintf(" and %d runs were given up", runs)
}

// snapshot is everything a new control must know, and what the database does
// not have yet. The caller holds mu.
func (s *Store) snapshot(w io.Writer) error {
	f := newFrame(nil)
	flush := func(limit int) error {
		if len(f.b) < limit || f.empty() {
			return nil
		}
		_, err := w.Write(f.finish())
		f = newFrame(f.b)
		return err
	}
	f.item(itemHeader, func(b []byte) []byte { return appendString(appendString(b, s.c.BootID), s.intent.history) })
	f.counters(s.m.nextRun, s.m.seq)
	f.clock(s.m.booted)
	f.dropped(s.q.droppedEvents, s.q.droppedRuns)
	for id, packed := range s.m.instances {
		f.instance(id, packed)
		if err := flush(snapshotFrame); err != nil {
			return err
		}
	}
	for name, packed := range s.m.programs {
		f.program(name, packed)
	}
	for name, note := range s.m.notes {
		f.note(name, note)
		if err := flush(snapshotFrame); err != nil {
			return err
		}
	}
	for _, runs := range []map[reconcile.RunID]*Run{s.q.busy, s.q.runs} { // the newer last
		for _, id := range slices.Sorted(maps.Keys(runs)) {
			f.run(runs[id])
			if err := flush(snapshotFrame); err != nil {
				return err
			}
		}
	}
	for _, r := range s.m.living {
		f.run(r)
	}
	for _, e := range s.q.events {
		f.event(e)
		if err := flush(snapshotFrame); err != nil {
			return err
		}
	}
	return flush(0)
}

// snapshotFrame is how large a frame of a snapshot grows, about.
const snapshotFrame = 256 << 10

// Close commits what is queued and lets go of the files. Nothing may be
// recorded after it.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	close(s.closing)
	<-s.done
	s.db.Load().close()
	s.intent.write.Lock()
	defer s.intent.write.Unlock()
	s.intent.d.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.j.close()
	return nil
}
