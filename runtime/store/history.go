package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/procnanny/procnanny/reconcile"
)

// reserve is how far numbers may run ahead of the database. Should the journal
// be lost with the machine, counting goes on above that: a number that was
// given out never comes again.
const reserve = 1 << 16

var (
	bucketInstances = []byte("instances") // program \0 index -> packed instance
	bucketPrograms  = []byte("programs")  // program -> packed roll
	bucketRuns      = []byte("runs")      // program \0 run -> index, end, packed run
	bucketRunStats  = []byte("run_stats") // program -> count, bytes
	bucketEvents    = []byte("events")    // number -> event
	bucketTopics    = []byte("topics")    // topic -> its last number
	bucketNotes     = []byte("notes")     // name -> note; there once there is one

	keyBoot       = []byte("boot")
	keySeq        = []byte("seq")      // of the last event that is here
	keyNextRun    = []byte("next_run") // of the world
	keyReserved   = []byte("reserved")
	keyRunReserve = []byte("run_reserved")
	keyClean      = []byte("clean") // 1: closed in order, nothing was given out after
	keyEventBytes = []byte("event_bytes")
)

var historySchema = schema{
	holds:   "history",
	buckets: [][]byte{bucketMeta, bucketInstances, bucketPrograms, bucketRuns, bucketRunStats, bucketEvents, bucketTopics},
	init: func(tx *bbolt.Tx) error {
		return errors.Join(putUint(tx.Bucket(bucketMeta), keyNextRun, 1), putUint(tx.Bucket(bucketMeta), keyClean, 1))
	},
}

// ledger is what the database says at the start.
type ledger struct {
	image    *image
	boot     string
	fresh    bool   // nothing was ever committed
	clean    bool   // closed in order
	seq      uint64 // of the last event that is here
	reserved uint64
	runs     uint64 // reserved run ids
	bad      int    // values that are not what was written
}

func readLedger(d *database) (l ledger, err error) {
	l.image = newImage()
	m := l.image
	err = d.view(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		l.boot, l.clean = string(meta.Get(keyBoot)), getUint(meta, keyClean) == 1
		l.reserved, l.runs = getUint(meta, keyReserved), getUint(meta, keyRunReserve)
		l.fresh, l.seq = l.boot == "", getUint(meta, keySeq)
		m.seq, m.nextRun = l.seq, reconcile.RunID(getUint(meta, keyNextRun))
		return errors.Join(
			tx.Bucket(bucketInstances).ForEach(func(k, v []byte) error { return l.instance(k, v) }),
			tx.Bucket(bucketPrograms).ForEach(func(k, v []byte) error {
				if raw, err := unseal(v); err == nil {
					m.programs[string(k)] = bytes.Clone(raw)
				}
				return nil
			}),
			l.notes(tx.Bucket(bucketNotes)),
			tx.Bucket(bucketTopics).ForEach(func(k, v []byte) error {
				if raw, err := unseal(v); err == nil && len(raw) == 8 {
					m.topics[string(k[:len(k)-1])] = binary.BigEndian.Uint64(raw)
				}
				return nil
			}))
	})
	m.nextRun = max(m.nextRun, 1)
	return l, err
}

func (l *ledger) instance(k, v []byte) error {
	raw, err := unseal(v)
	id, ok := parseInstanceKey(k)
	var i reconcile.Instance
	if err != nil || !ok || unpack(raw, &i) != nil {
		l.bad++
		return nil
	}
	l.image.instances[id] = bytes.Clone(raw)
	l.image.instance(&i) // a living run is known by its instance
	return nil
}

// Names hold no NUL, so that keys of one program stand together.
func instanceKey(id reconcile.InstanceID) []byte {
	return binary.BigEndian.AppendUint32(append([]byte(id.Program), 0), uint32(id.Index))
}

func parseInstanceKey(k []byte) (reconcile.InstanceID, bool) {
	n := len(k) - 5
	if n < 1 || k[n] != 0 {
		return reconcile.InstanceID{}, false
	}
	return reconcile.InstanceID{Program: string(k[:n]), Index: int(binary.BigEndian.Uint32(k[n+1:]))}, true
}

func runKey(program string, run reconcile.RunID) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(program), 0), uint64(run))
}

// A run's value begins with what selects it: its index and its end in epoch
// nanoseconds, 0 while it lives.
const runHead = 12

func appendRunValue(b []byte, r *Run) []byte {
	var end int64
	if !r.End.IsZero() {
		end = r.End.UnixNano()
	}
	b = binary.BigEndian.AppendUint32(b, uint32(r.ID.Index))
	b = binary.BigEndian.AppendUint64(b, uint64(end))
	return appendRun(b, r)
}

func runHeadOf(v []byte) (index int, end int64) {
	return int(binary.BigEndian.Uint32(v)), int64(binary.BigEndian.Uint64(v[4:]))
}

func decodeRun(b []byte) (r Run, err error) {
	if len(b) < runHead {
		return r, errShort
	}
	err = unpack(b[runHead:], &r)
	return r, err
}

// work is what one transaction brings to the database.
type work struct {
	boot      string
	seq       uint64
	nextRun   reconcile.RunID
	clean     bool
	events    []Event
	runs      map[reconcile.RunID]*Run
	instances map[reconcile.InstanceID][]byte // nil: gone
	programs  map[string][]byte               // nil: gone
	notes     map[string][]byte               // nil: gone
	given     uint64                          // the last number given out
	counters  bool
	bytes     int   // of events, about
	runBytes  int64 // that its runs added to the database
}

func (w *work) empty() bool {
	return len(w.events)+len(w.runs)+len(w.instances)+len(w.programs)+len(w.notes) == 0
}

func (w *work) put(tx *bbolt.Tx) error {
	meta := tx.Bucket(bucketMeta)
	return errors.Join(w.putTallies(tx), w.putEvents(tx), w.putRuns(tx), w.putWorld(tx), w.putMeta(meta), putUint(meta, keyTallied, w.seq))
}

func (w *work) putEvents(tx *bbolt.Tx) error {
	b, topics := tx.Bucket(bucketEvents), map[string]uint64{}
	b.FillPercent = 0.95 // numbers only grow
	size := 0
	for _, e := range w.events {
		v := seal(appendEvent(nil, e))
		size += len(v)
		if err := b.Put(uintKey(e.Seq), v); err != nil {
			return err
		}
		topics[topicName(e.Topic)] = e.Seq
	}
	for topic, seq := range topics {
		if err := putUint(tx.Bucket(bucketTopics), topicKey(topic), seq); err != nil {
			return err
		}
	}
	meta := tx.Bucket(bucketMeta)
	return putUint(meta, keyEventBytes, getUint(meta, keyEventBytes)+uint64(size))
}

// topicName bounds what is remembered of a topic.
func topicName(topic string) string { return topic[:min(len(topic), 1024)] }

// topicKey is never empty, as bbolt demands.
func topicKey(topic string) []byte { return append([]byte(topic), 0) }

func (w *work) putRuns(tx *bbolt.Tx) error {
	b := tx.Bucket(bucketRuns)
	stats := map[string]runStat{}
	for _, id := range sortedRuns(w.runs) {
		r := w.runs[id]
		key, v := runKey(r.ID.Program, r.Run), seal(appendRunValue(nil, r))
		s, ok := stats[r.ID.Program]
		if !ok {
			s = getRunStat(tx, r.ID.Program)
		}
		if old := b.Get(key); old != nil {
			s.count, s.bytes = s.count-1, s.bytes-int64(len(old))
			w.runBytes -= int64(len(old))
		}
		s.count, s.bytes = s.count+1, s.bytes+int64(len(v))
		w.runBytes += int64(len(v))
		stats[r.ID.Program] = s
		if err := b.Put(key, v); err != nil {
			return err
		}
	}
	for program, s := range stats {
		if err := putRunStat(tx, program, s); err != nil {
			return err
		}
	}
	return nil
}

func sortedRuns(runs map[reconcile.RunID]*Run) []reconcile.RunID {
	ids := make([]reconcile.RunID, 0, len(runs))
	for id := range runs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// runStat is how much history a program has.
type runStat struct{ count, bytes int64 }

func getRunStat(tx *bbolt.Tx, program string) runStat {
	return parseRunStat(tx.Bucket(bucketRunStats).Get([]byte(program)))
}

func parseRunStat(v []byte) runStat {
	raw, err := unseal(v)
	if err != nil || len(raw) != 16 {
		return runStat{}
	}
	return runStat{int64(binary.BigEndian.Uint64(raw)), int64(binary.BigEndian.Uint64(raw[8:]))}
}

func putRunStat(tx *bbolt.Tx, program string, s runStat) error {
	if s.count <= 0 {
		return errors.Join(tx.Bucket(bucketRunStats).Delete([]byte(program)), forgetTallies(tx, program))
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(s.count))
	return tx.Bucket(bucketRunStats).Put([]byte(program), seal(binary.BigEndian.AppendUint64(b, uint64(s.bytes))))
}

func (w *work) putWorld(tx *bbolt.Tx) error {
	instances, programs := tx.Bucket(bucketInstances), tx.Bucket(bucketPrograms)
	for id, v := range w.instances {
		if err := putOrDelete(instances, instanceKey(id), v); err != nil {
			return err
		}
	}
	for name, v := range w.programs {
		if err := putOrDelete(programs, []byte(name), v); err != nil {
			return err
		}
	}
	return w.putNotes(tx)
}

func putOrDelete(b *bbolt.Bucket, key, v []byte) error {
	if v == nil {
		return b.Delete(key)
	}
	return b.Put(key, seal(bytes.Clone(v)))
}

func (w *work) putMeta(meta *bbolt.Bucket) error {
	clean, ahead := uint64(1), uint64(0)
	if !w.clean {
		clean, ahead = 0, reserve
	}
	return errors.Join(meta.Put(keyBoot, []byte(w.boot)), putUint(meta, keyClean, clean), putUint(meta, keySeq, w.seq),
		putUint(meta, keyNextRun, uint64(w.nextRun)), putUint(meta, keyReserved, w.seq+ahead), putUint(meta, keyRunReserve, uint64(w.nextRun)+ahead))
}

// readEvents reads at most limit events after since. Broken ones are left out
// and counted.
func readEvents(d *database, since uint64, limit int) (out []Event, bad int, err error) {
	err = d.view(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketEvents).Cursor()
		for k, v := c.Seek(uintKey(since + 1)); k != nil && len(out) < limit; k, v = c.Next() {
			raw, err := unseal(v)
			if err != nil {
				bad++
				continue
			}
			e, err := parseEvent(raw)
			if err != nil {
				bad++
				continue
			}
			out = append(out, e)
		}
		return nil
	})
	return out, bad, err
}

// readRuns reads the newest limit runs that q selects, newest first.
func readRuns(d *database, q RunQuery) (out []Run, bad int, err error) {
	from, since := runKey(q.Program, 0), q.since()
	err = d.view(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketRuns).Cursor()
		k, v := c.Seek(runKey(q.Program, ^reconcile.RunID(0)))
		if k == nil {
			k, v = c.Last()
		} else if !bytes.Equal(k, runKey(q.Program, ^reconcile.RunID(0))) {
			k, v = c.Prev()
		}
		for ; k != nil && bytes.Compare(k, from) >= 0 && len(out) < q.Limit; k, v = c.Prev() {
			if len(v) < runHead {
				bad++
				continue
			}
			if index, end := runHeadOf(v); q.Instance != nil && index != *q.Instance || end != 0 && end < since {
				continue
			}
			raw, err := unseal(v)
			if err != nil {
				bad++
				continue
			}
			r, err := decodeRun(raw)
			if err != nil {
				bad++
				continue
			}
			if q.selects(&r) {
				out = append(out, r)
			}
		}
		return nil
	})
	return out, bad, err
}

func (q RunQuery) since() int64 {
	if q.Since.IsZero() {
		return 0
	}
	return q.Since.UnixNano()
}

// selects says whether r, which may not be in the database yet, is asked for.
func (q RunQuery) selects(r *Run) bool {
	return r.ID.Program == q.Program && (q.Instance == nil || *q.Instance == r.ID.Index) && (r.End.IsZero() || q.Since.IsZero() || !r.End.Before(q.Since)) &&
		(q.Until.IsZero() || !r.Start.After(q.Until)) && (q.Select == nil || q.Select(r))
}

func openHistory(path string, c Config) (*database, ledger, string, error) {
	d, loss, err := openOrReplace(path, historySchema, c.Now())
	if err != nil {
		return nil, ledger{image: newImage()}, loss, err
	}
	l, err := readLedger(d)
	if err == nil {
		return d, l, loss, nil
	}
	d.close()
	to, moved := aside(path, c.Now())
	if moved != nil {
		return nil, l, loss, fmt.Errorf("cannot put the broken %s aside: %w", path, moved)
	}
	loss = fmt.Sprintf("%s: %v; it was put aside as %s and history begins anew", path, err, to)
	if d, err = openDatabase(path, historySchema); err != nil {
		return nil, ledger{image: newImage()}, loss, err
	}
	l, err = readLedger(d)
	return d, l, loss, err
}
