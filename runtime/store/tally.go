package store

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/procnanny/procnanny/reconcile"
)

var (
	// bucketTallies has, by program \0 index, the packed tally of an instance; and
	// by program \0 the age of those of the program. It is there once there is one.
	bucketTallies = []byte("tallies")

	keyTallied  = []byte("tallied")   // the last event when tallies were brought up to date
	keyTallyAge = []byte("tally_age") // tallies of another age lack runs that are kept
)

// Tally sums up all runs of an instance, also those that are no longer kept.
type Tally struct {
	Index int       `json:"index"`
	Since time.Time `json:"since"` // when the first one began
	// Up is how long it ran until Until, when the last one ended.
	Up      time.Duration `json:"up"`
	Until   time.Time     `json:"until"`
	CPU     time.Duration `json:"cpu,omitempty"`
	Starts  int           `json:"starts"`
	Ends    int           `json:"ends"`
	Crashes int           `json:"crashes,omitempty"`
	// Last is the newest run in it: one that comes again is not counted twice.
	Last reconcile.RunID `json:"last"`
	// Living is when the run began that lives; zero is none.
	Living time.Time `json:"-"`
}

// add counts a run. Runs do not overlap: what one of them is said to have lived
// before the last one's end is not counted again.
func (t *Tally) add(r *Run) {
	if r.Run <= t.Last {
		return
	}
	if t.Since.IsZero() || r.Start.Before(t.Since) {
		t.Since = r.Start
	}
	if r.End.IsZero() {
		if r.PID != 0 {
			t.Starts, t.Living, t.Last = t.Starts+1, r.Start, r.Run
		}
		return
	}
	t.Starts, t.Ends, t.Last = t.Starts+1, t.Ends+1, r.Run
	if x := r.Exit; x != nil {
		t.CPU += x.CPU
		if x.Cause.Crash() {
			t.Crashes++
		}
	}
	from := r.Start
	if from.Before(t.Until) {
		from = t.Until
	}
	if r.PID != 0 && r.End.After(from) {
		t.Up, t.Until = t.Up+r.End.Sub(from), r.End
	}
}

// tallies are those of one program.
type tallies map[int]*Tally

func (l tallies) add(r *Run) {
	t := l[r.ID.Index]
	if t == nil {
		t = &Tally{Index: r.ID.Index}
		l[r.ID.Index] = t
	}
	t.add(r)
}

// tallyMark is the key of a program's age of tallies.
func tallyMark(program string) []byte { return append([]byte(program), 0) }

// staleTallies reports whether tallies of a program lack runs that are kept:
// another version wrote them down, or there were no tallies yet.
func staleTallies(tx *bbolt.Tx, program string) bool {
	b, meta := tx.Bucket(bucketTallies), tx.Bucket(bucketMeta)
	return b == nil || getUint(meta, keyTallied) != getUint(meta, keySeq) || getUint(b, tallyMark(program)) != getUint(meta, keyTallyAge)
}

// readTallies reads those of a program, or of one instance, and adds what they
// lack.
func readTallies(tx *bbolt.Tx, program string, index *int) tallies {
	out, mark := tallies{}, tallyMark(program)
	if b := tx.Bucket(bucketTallies); b != nil {
		c, from := b.Cursor(), mark
		if index != nil {
			from = instanceKey(reconcile.InstanceID{Program: program, Index: *index})
		}
		for k, v := c.Seek(from); k != nil && bytes.HasPrefix(k, from); k, v = c.Next() {
			var t Tally
			if raw, err := unseal(v); len(k) > len(mark) && err == nil && unpack(raw, &t) == nil {
				out[t.Index] = &t
			}
		}
	}
	if staleTallies(tx, program) {
		countKept(tx, program, index, out)
	}
	return out
}

// countKept counts ended runs of a program that are kept and not counted yet.
func countKept(tx *bbolt.Tx, program string, index *int, out tallies) {
	c, from := tx.Bucket(bucketRuns).Cursor(), tallyMark(program)
	for k, v := c.Seek(from); k != nil && bytes.HasPrefix(k, from); k, v = c.Next() {
		if len(v) < runHead {
			continue
		}
		if at, end := runHeadOf(v); end == 0 || index != nil && at != *index {
			continue
		}
		raw, err := unseal(v)
		if err != nil {
			continue
		}
		if r, err := decodeRun(raw); err == nil {
			out.add(&r)
		}
	}
}

// putTallies counts the runs of a transaction, before they are put.
func (w *work) putTallies(tx *bbolt.Tx) error {
	b, err := tx.CreateBucketIfNotExists(bucketTallies)
	if err != nil {
		return err
	}
	meta := tx.Bucket(bucketMeta)
	if getUint(meta, keyTallyAge) == 0 || getUint(meta, keyTallied) != getUint(meta, keySeq) {
		if err := putUint(meta, keyTallyAge, getUint(meta, keyTallyAge)+1); err != nil {
			return err
		}
		if err := putUint(meta, keyTallied, getUint(meta, keySeq)); err != nil { // for readTallies, below
			return err
		}
	}
	ended := map[string][]*Run{}
	for _, id := range sortedRuns(w.runs) {
		if r := w.runs[id]; !r.End.IsZero() {
			ended[r.ID.Program] = append(ended[r.ID.Program], r)
		}
	}
	for program, runs := range ended {
		if err := putTally(tx, b, program, runs); err != nil {
			return err
		}
	}
	return nil
}

func putTally(tx *bbolt.Tx, b *bbolt.Bucket, program string, runs []*Run) error {
	all, stale := tallies{}, staleTallies(tx, program)
	for _, r := range runs {
		if _, ok := all[r.ID.Index]; ok || stale {
			continue
		}
		maps.Copy(all, readTallies(tx, program, &r.ID.Index))
	}
	if stale {
		all = readTallies(tx, program, nil)
	}
	for _, r := range runs {
		all.add(r)
	}
	for index, t := range all {
		if err := b.Put(instanceKey(reconcile.InstanceID{Program: program, Index: index}), seal(appendTally(nil, t))); err != nil {
			return err
		}
	}
	if !stale {
		return nil
	}
	return putUint(b, tallyMark(program), getUint(tx.Bucket(bucketMeta), keyTallyAge))
}

// forgetTallies takes those of a program away whose history is gone.
func forgetTallies(tx *bbolt.Tx, program string) error {
	b := tx.Bucket(bucketTallies)
	if b == nil {
		return nil
	}
	var keys [][]byte
	c, from := b.Cursor(), tallyMark(program)
	for k, _ := c.Seek(from); k != nil && bytes.HasPrefix(k, from); k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// Tallies sums up all runs of a program's instances, or of one of them, in the
// order of their indexes. It sees every run that Record has returned for.
func (s *Store) Tallies(program string, index *int) ([]Tally, error) {
	// First what waits: a run that moves between is known by its number.
	waiting := s.waitingRuns(RunQuery{Program: program, Instance: index})
	all := tallies{}
	err := s.query(func(d *database) (bad int, err error) {
		return 0, d.view(func(tx *bbolt.Tx) error {
			all = readTallies(tx, program, index)
			return nil
		})
	})
	if err != nil && len(waiting) == 0 {
		return nil, fmt.Errorf("cannot read the totals of %s: %w", program, err)
	}
	for _, id := range sortedRuns(waiting) {
		if r := waiting[id]; index == nil || r.ID.Index == *index {
			all.add(r)
		}
	}
	out := make([]Tally, 0, len(all))
	for _, n := range slices.Sorted(maps.Keys(all)) {
		out = append(out, *all[n])
	}
	return out, nil
}
