package store

import (
	"bytes"
	"encoding/binary"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/reconcile"
)

// Retention works in small steps, in the transactions that bring new history:
// each takes away as much as it brings, and a little more.
const (
	trimEvents   = 2_000
	trimRuns     = 500
	trimWalk     = 20_000 // keys looked at for it: living runs stay
	ageEvery     = time.Hour
	believeAfter = time.Hour
	fsShare      = 20 // a twentieth of the file system at most
)

// bounded is k with defaults, and with bytes that fit the file system of dir.
func (k Keep) bounded(dir string) Keep {
	set := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	set(&k.Events, 1_000_000)
	set(&k.RunsPerProgram, 10_000)
	share := int64(1 << 40)
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) == nil && fs.Blocks > 0 {
		share = int64(fs.Blocks) * fs.Bsize / fsShare
	}
	for _, p := range []*int64{&k.EventBytes, &k.RunBytes} {
		if *p <= 0 {
			*p = min(256<<20, share)
		}
	}
	if k.Age <= 0 {
		k.Age = 90 * 24 * time.Hour
	}
	return k
}

// trimmed is what a step took away.
type trimmed struct {
	topics   map[string]uint64 // last events that are gone: nothing comes before the next
	runBytes int64             // negative
	more     bool
}

// oldest is the time before which history is too old; zero while the clock cannot
// be believed: until it has gone evenly for believeAfter, somebody may set it any
// moment.
func (s *Store) oldest() time.Time {
	now, up := s.c.Now(), s.c.Uptime()
	if booted := now.Add(-up); booted.Sub(s.booted).Abs() > time.Second {
		s.booted, s.steady = booted, up
	}
	if up-s.steady < believeAfter {
		return time.Time{}
	}
	return now.Add(-s.keep.Age)
}

func (s *Store) trim(tx *bbolt.Tx, w *work) (t trimmed, err error) {
	t.topics = map[string]uint64{}
	oldest := s.oldest()
	if err = s.trimEvents(tx, &t, oldest, len(w.events)+trimEvents); err != nil {
		return t, err
	}
	programs := map[string]bool{}
	for _, r := range w.runs {
		programs[r.ID.Program] = true
	}
	for program := range programs {
		if n := getRunStat(tx, program).count - int64(s.keep.RunsPerProgram); n > 0 {
			if err = trimProgram(tx, &t, program, step{runs: min(int(n), len(w.runs)+trimRuns)}); err != nil {
				return t, err
			}
		}
	}
	if excess := s.runBytes + w.runBytes + t.runBytes - s.keep.RunBytes; excess > 0 {
		if program := largest(tx); program != "" {
			if err = trimProgram(tx, &t, program, step{runs: len(w.runs) + trimRuns, bytes: excess}); err != nil {
				return t, err
			}
		}
	}
	err = s.trimAge(tx, &t, oldest)
	return t, err
}

// trimEvents takes the oldest away until count, bytes and age are within
// bounds, at most n.
func (s *Store) trimEvents(tx *bbolt.Tx, t *trimmed, oldest time.Time, n int) error {
	b, meta := tx.Bucket(bucketEvents), tx.Bucket(bucketMeta)
	c := b.Cursor()
	last, _ := c.Last()
	if last == nil {
		return nil
	}
	size, max := int64(getUint(meta, keyEventBytes)), binary.BigEndian.Uint64(last)
	var keys [][]byte
	gone := int64(0)
	for k, v := c.First(); k != nil && len(keys) <= n; k, v = c.Next() {
		raw, err := unseal(v)
		var e Event
		if err == nil {
			e, err = parseEvent(raw)
		}
		count := max - binary.BigEndian.Uint64(k) + 1
		if err == nil && count <= uint64(s.keep.Events) && size-gone <= s.keep.EventBytes && !e.Time.Before(oldest) {
			break
		}
		if len(keys) == n {
			t.more = true
			break
		}
		keys = append(keys, bytes.Clone(k))
		gone += int64(len(v))
		if err == nil {
			t.topics[topicName(e.Topic)] = e.Seq
		}
	}
	if len(keys) == 0 {
		return nil
	}
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	if err := trimTopics(tx, t); err != nil {
		return err
	}
	return putUint(meta, keyEventBytes, uint64(size-min(gone, size)))
}

// trimTopics forgets the topics whose last event is gone.
func trimTopics(tx *bbolt.Tx, t *trimmed) error {
	b := tx.Bucket(bucketTopics)
	for topic, seq := range t.topics {
		if getUint(b, topicKey(topic)) != seq {
			delete(t.topics, topic)
			continue
		}
		if err := b.Delete(topicKey(topic)); err != nil {
			return err
		}
	}
	return nil
}

// step is how much of a program's history goes at once.
type step struct {
	runs   int       // at most
	bytes  int64     // no more once so many are gone; 0: no matter
	before time.Time // only what ended before; zero: no matter
}

// spares reports whether a run stays because of its age.
func (l step) spares(end int64) bool { return !l.before.IsZero() && end >= l.before.UnixNano() }

// trimProgram takes the oldest ended runs of a program away.
func trimProgram(tx *bbolt.Tx, t *trimmed, program string, l step) error {
	b := tx.Bucket(bucketRuns)
	c, from, to := b.Cursor(), runKey(program, 0), runKey(program, ^reconcile.RunID(0))
	var keys [][]byte
	s, walked, gone := getRunStat(tx, program), 0, int64(0)
	for k, v := c.Seek(from); k != nil && bytes.Compare(k, to) <= 0 && walked < trimWalk; k, v = c.Next() {
		walked++
		living, spared := false, false
		if len(v) >= runHead {
			_, end := runHeadOf(v)
			living, spared = end == 0, l.spares(end)
		}
		if living {
			continue
		}
		if spared || l.bytes > 0 && gone >= l.bytes {
			break
		}
		if len(keys) == l.runs {
			t.more = true
			break
		}
		keys = append(keys, bytes.Clone(k))
		s.count, s.bytes, gone = s.count-1, s.bytes-int64(len(v)), gone+int64(len(v))
	}
	t.runBytes -= gone
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return putRunStat(tx, program, s)
}

// largest is the program with the most history: it gives first, so that one
// that crashes all day takes nothing from the others.
func largest(tx *bbolt.Tx) (program string) {
	most := int64(0)
	_ = tx.Bucket(bucketRunStats).ForEach(func(k, v []byte) error {
		if s := parseRunStat(v); s.bytes > most {
			most, program = s.bytes, string(k)
		}
		return nil
	})
	return program
}

// trimAge looks at every program once an hour, if anything happens at all.
func (s *Store) trimAge(tx *bbolt.Tx, t *trimmed, oldest time.Time) error {
	now := s.c.Now()
	if since := now.Sub(s.agedAt); oldest.IsZero() || since >= 0 && since < ageEvery {
		return nil
	}
	var programs []string
	_ = tx.Bucket(bucketRunStats).ForEach(func(k, _ []byte) error {
		programs = append(programs, string(k))
		return nil
	})
	before := t.runBytes
	for _, program := range programs {
		if err := trimProgram(tx, t, program, step{runs: trimRuns, before: oldest}); err != nil {
			return err
		}
	}
	if t.runBytes == before {
		s.agedAt = now
	} else {
		t.more = true
	}
	return nil
}

func totalRunBytes(d *database) (total int64) {
	if d == nil {
		return 0
	}
	_ = d.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketRunStats).ForEach(func(_, v []byte) error {
			total += parseRunStat(v).bytes
			return nil
		})
	})
	return total
}
