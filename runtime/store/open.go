package store

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/reconcile"
)

// Open finds what was recorded and goes on from there. It fails only where
// nothing could be kept at all, or where a newer version has written.
func Open(c Config) (*Store, Recovered, error) {
	c.setDefaults()
	in, losses, err := openIntent(filepath.Join(c.StateDir, "procnanny.db"), c)
	if err != nil {
		return nil, Recovered{}, err
	}
	s := &Store{
		c: c, booted: c.BootedAt, steady: c.Uptime(), intent: in, dbPath: filepath.Join(c.StateDir, "history.db"), j: newJournal(c.RunDir), q: newQueue(), keep: c.Keep.bounded(c.StateDir),
		kick: make(chan struct{}, 1), urgent: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}), losses: make(chan string, 16),
	}
	rec, err := s.recover(losses)
	if err != nil {
		in.d.close()
		s.db.Load().close()
		s.j.close()
		return nil, Recovered{}, err
	}
	go s.commitLoop()
	signal(s.kick)
	return s, rec, nil
}

func (s *Store) recover(losses []string) (Recovered, error) {
	d, l, loss, err := openHistory(s.dbPath, s.c)
	if _, ok := errors.AsType[*newerError](err); ok {
		return Recovered{}, err
	}
	if err != nil {
		s.c.Log.Error("history cannot be written down", "error", err)
		losses = append(losses, fmt.Sprintf("history cannot be written down until this is mended: %v", err))
	}
	losses = appendSome(losses, loss)
	if l.bad > 0 {
		losses = append(losses, fmt.Sprintf("%s: %d instances were unreadable", s.dbPath, l.bad))
	}
	s.db.Store(d)
	s.m, s.runBytes = l.image, totalRunBytes(d)
	past, err := s.readJournals(l.seq)
	if err != nil {
		return Recovered{}, err
	}
	if past, err = s.orRest(past, l); err != nil {
		return Recovered{}, err
	}
	s.committed = l.seq
	losses = append(losses, s.settle(l, past)...)
	rec := Recovered{Rebooted: rebooted(s.c.BootID, l.boot, past)}
	bad := 0
	if rec.World, bad = s.m.world(); bad > 0 {
		losses = append(losses, fmt.Sprintf("%d recorded instances were unreadable", bad))
	}
	s.followClock(&rec, past.m.booted)
	if rec.Rebooted {
		rec.Ended = s.m.reboot(&rec.World, s.c.BootedAt, s.c.Now())
		s.rewriteWorld(rec)
	}
	if err := s.j.rewrite(s.snapshot); err != nil {
		if !noRoom(err) {
			return Recovered{}, err
		}
		// What lives must be answered for, and what ended started again, without it.
		s.j.fail(err)
		losses = append(losses, err.Error()+untilRoom)
	}
	if err := s.unclean(l); err != nil {
		losses = append(losses, err.Error())
	}
	rec.Overrides, rec.Generations, rec.Pinned = s.Overrides(), s.Generations(), s.intent.pinned
	rec.Loss, rec.Notes = losses, maps.Clone(s.m.notes)
	return rec, nil
}

// untilRoom follows why the run directory takes no more.
const untilRoom = ": until it takes more, what happens is remembered in memory only"

func noRoom(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

func appendSome(list []string, s string) []string {
	if s == "" {
		return list
	}
	return append(list, s)
}

// rebooted is told by whoever knows: the journal, or the database without one.
func rebooted(boot, db string, p *past) bool {
	if p.found {
		return p.boot != boot
	}
	return db != "" && db != boot
}

// settle joins what the journal says with what the database says, and decides
// which numbers come next.
func (s *Store) settle(l ledger, p *past) (losses []string) {
	m, ours := s.m, false
	// The journal is the newer picture of the world, and a whole one, unless the run
	// directory took no more of it while the database did.
	stale := p.found && p.history == s.intent.history && p.m.seq < l.seq
	if p.found && !stale {
		m.instances, m.programs, m.living = p.m.instances, p.m.programs, p.m.living
		m.nextRun = max(m.nextRun, p.m.nextRun)
		if ours = s.intent.adopt(p.history, l.fresh); ours {
			losses = append(losses, s.queuePast(p)...)
		} else {
			losses = append(losses, "the run directory belongs to another state directory: its events were left there")
		}
	}
	if stale {
		losses = append(losses, s.j.path+" is older than the history: the run directory took no more of it")
	}
	s.queueLiving()
	if p.err != nil {
		losses = append(losses, fmt.Sprintf("%s: %v; what was recorded after that is lost", s.j.path, p.err))
	}
	whole := ours && p.err == nil && !p.behind
	orderly := p.err == nil && l.clean && (!l.fresh || s.intent.seqFloor == 0)
	if whole || orderly {
		return losses
	}
	return appendSome(losses, s.skip(l))
}

// queuePast takes over what the database does not have yet.
func (s *Store) queuePast(p *past) (losses []string) {
	for _, e := range p.events {
		s.q.addEvent(e)
		s.m.topics[topicName(e.Topic)] = max(e.Seq, s.m.topics[topicName(e.Topic)])
	}
	for _, r := range p.runs {
		s.q.addRun(r)
	}
	s.m.seq = max(s.m.seq, p.m.seq)
	if p.droppedEvents+p.droppedRuns > 0 {
		losses = append(losses, droppedText(p.droppedEvents, p.droppedRuns, 0, 0))
	}
	for id := range s.m.instances {
		s.q.instances[id] = true
	}
	s.takeNotes(p)
	return losses
}

// takeNotes: the journal's are the newer ones, and all that there are.
func (s *Store) takeNotes(p *past) {
	for name := range s.m.notes {
		s.q.notes[name] = true
	}
	s.m.notes = p.m.notes
	for name := range s.m.notes {
		s.q.notes[name] = true
	}
}

// queueLiving makes the database know what lives, whatever it knew before.
func (s *Store) queueLiving() {
	for _, r := range s.m.living {
		if r.PID != 0 {
			s.q.addRun(clone(r))
		}
	}
}

// skip moves the numbers above everything that may have been given out.
func (s *Store) skip(l ledger) string {
	from := s.m.seq
	s.m.seq = max(from, l.reserved, s.intent.seqFloor)
	s.m.nextRun = max(s.m.nextRun, reconcile.RunID(l.runs), reconcile.RunID(s.intent.runFloor))
	if s.m.seq == from {
		return ""
	}
	return fmt.Sprintf("the last events before this start may be lost: numbers go on after %d, and those from %d on are not there", s.m.seq, from+1)
}

// clockNoise is how much later or earlier a boot may seem to be without anybody
// having set the clock.
const clockNoise = 20 * time.Millisecond

// followClock moves what was remembered in this boot when the wall clock was set
// while nobody of us looked. booted is what the clock that it is dated by says.
func (s *Store) followClock(rec *Recovered, booted time.Time) {
	s.m.booted = s.c.BootedAt
	d := s.m.booted.Sub(booted)
	if rec.Rebooted || booted.IsZero() || d.Abs() < clockNoise {
		return
	}
	s.c.Log.Warn("the clock was set while procnanny-control did not run", "by", d.String())
	rec.World = reconcile.ClockSet(rec.World, d)
	for name, p := range rec.World.Programs {
		if s.m.programs[name] != nil {
			s.m.programs[name] = appendRoll(nil, new(p.Roll()))
		}
		for _, i := range p.Instances {
			s.m.instances[i.ID] = appendInstance(nil, i)
		}
	}
	for _, r := range s.m.living {
		r.Start = r.Start.Add(d)
	}
}

// rewriteWorld records what a boot made of the world.
func (s *Store) rewriteWorld(rec Recovered) {
	for n := range rec.Ended {
		s.q.addRun(clone(&rec.Ended[n]))
	}
	for _, p := range rec.World.Programs {
		for _, i := range p.Instances {
			s.m.instances[i.ID] = appendInstance(nil, i)
			s.q.instances[i.ID] = true
		}
		s.q.programs[p.Name] = true // gone: a boot forgets rolls
	}
}

// unclean is on disk before the first number is given out: should the machine
// die now, the next start must know that numbers were.
func (s *Store) unclean(l ledger) error {
	d := s.db.Load()
	if d == nil || !l.clean {
		return nil
	}
	w := work{boot: l.boot, seq: l.seq, nextRun: s.m.nextRun}
	return d.update(func(tx *bbolt.Tx) error { return w.putMeta(tx.Bucket(bucketMeta)) })
}

// uptime is CLOCK_BOOTTIME, which nobody sets.
func uptime() time.Duration {
	var up unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) // cannot fail for this clock
	return time.Duration(up.Nano())
}
