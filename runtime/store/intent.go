package store

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

const (
	keepGenerations = 20
)

var (
	bucketOverrides   = []byte("overrides")
	bucketGenerations = []byte("generations")

	keyHistory  = []byte("history")   // names the history; the journal says to which one it belongs
	keyPinned   = []byte("pinned")    // a generation
	keySeqFloor = []byte("seq_floor") // no event has a number above it
	keyRunFloor = []byte("run_floor") // no run has
)

// intent is what people want: overrides, generations, the pin. It is small,
// precious, and on disk before anybody is told that it was done.
type intent struct {
	path  string
	now   func() time.Time
	log   *slog.Logger
	write sync.Mutex // held by one writer, through its fsync

	// mu guards what follows, and is never held during I/O. A reader sees the
	// last state that is durable.
	mu          sync.RWMutex
	overrides   []spec.Override
	generations []Generation
	pinned      uint64

	// Guarded by write.
	d                  *database
	suspect            bool // a commit failed: the file is written anew before the next one
	history            string
	adopted            bool // history is another than the file says
	seqFloor, runFloor uint64
	chunks             chunks
	genFloor           uint64       // instances ran under it: its number is taken
	fault              func() error // tests: what the disk says to a commit
}

var intentSchema = schema{
	holds:   "what was set and accepted",
	buckets: [][]byte{bucketMeta, bucketOverrides, bucketGenerations},
	init: func(tx *bbolt.Tx) error {
		id := make([]byte, 8)
		_, _ = rand.Read(id) // never fails
		return tx.Bucket(bucketMeta).Put(keyHistory, []byte(hex.EncodeToString(id)))
	},
}

func putUint(b *bbolt.Bucket, key []byte, v uint64) error {
	return b.Put(key, seal(binary.BigEndian.AppendUint64(nil, v)))
}

// getUint is 0 for what is missing or broken.
func getUint(b *bbolt.Bucket, key []byte) uint64 {
	raw, err := unseal(b.Get(key))
	if err != nil || len(raw) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(raw)
}

func uintKey(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func openIntent(path string, c Config) (*intent, []string, error) {
	in := &intent{path: path, now: c.Now, log: c.Log}
	d, loss, err := openOrReplace(path, intentSchema, c.Now())
	if err != nil {
		return nil, nil, err
	}
	in.d = d
	var losses []string
	if loss != "" {
		losses = append(losses, loss)
	}
	if d.readOnly {
		losses = append(losses, path+" cannot be written: what is set now will be refused")
	}
	bad, err := in.load()
	if err != nil {
		d.close()
		return nil, nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return in, append(losses, bad...), nil
}

// load reads everything but the specs. A value that is broken is left out and
// named.
func (in *intent) load() (losses []string, err error) {
	err = in.d.view(func(tx *bbolt.Tx) error {
		meta, overrides, generations := tx.Bucket(bucketMeta), tx.Bucket(bucketOverrides), tx.Bucket(bucketGenerations)
		in.history = string(meta.Get(keyHistory))
		in.pinned, in.seqFloor, in.runFloor = getUint(meta, keyPinned), getUint(meta, keySeqFloor), getUint(meta, keyRunFloor)
		_ = overrides.ForEach(func(_, v []byte) error {
			o, err := decodeOverride(v)
			if err != nil {
				losses = append(losses, fmt.Sprintf("%s: an override is unreadable (%v) and is left out", in.path, err))
				return nil
			}
			in.overrides = append(in.overrides, o)
			return nil
		})
		return generations.ForEach(func(k, v []byte) error {
			g, err := decodeLight(v)
			if err != nil {
				losses = append(losses, fmt.Sprintf("%s: generation %d is unreadable (%v) and is left out", in.path, binary.BigEndian.Uint64(k), err))
				return nil
			}
			in.generations = append(in.generations, g)
			return nil
		})
	})
	return losses, err
}

func decodeOverride(v []byte) (o spec.Override, err error) {
	raw, err := unseal(v)
	if err != nil {
		return o, err
	}
	err = json.Unmarshal(raw, &o)
	return o, err
}

// update commits fn durably, or says why not. The caller holds write.
func (in *intent) update(fn func(*bbolt.Tx) error) error {
	if in.d.readOnly && in.d.writable() == nil {
		in.d.close() // its lock would be in our way
		d, err := open(in.path, intentSchema)
		if err != nil {
			return fmt.Errorf("cannot open %s to write: %w", in.path, err)
		}
		in.d = d
	}
	if !in.d.readOnly && (in.suspect || in.d.dead.Load() || in.d.replaced()) {
		if err := in.renew(); err != nil {
			return fmt.Errorf("cannot write %s anew: %w", in.path, err)
		}
	}
	err := in.d.update(fn)
	if err == nil && in.fault != nil {
		err = in.fault()
	}
	if err != nil {
		// What a failed fsync left on the disk nobody knows, and trying it again
		// would be told that all is well.
		in.suspect = true
		return fmt.Errorf("cannot write %s: %w", in.path, err)
	}
	return nil
}

func putOverrides(tx *bbolt.Tx, os []spec.Override) error {
	if err := tx.DeleteBucket(bucketOverrides); err != nil {
		return err
	}
	b, err := tx.CreateBucket(bucketOverrides)
	if err != nil {
		return err
	}
	for i, o := range os {
		raw, err := json.Marshal(o)
		if err != nil {
			return err
		}
		if err := b.Put(uintKey(uint64(i)), seal(raw)); err != nil {
			return err
		}
	}
	return nil
}

func (in *intent) setOverrides(os []spec.Override) error {
	os = slices.Clone(os)
	in.write.Lock()
	defer in.write.Unlock()
	if err := in.update(func(tx *bbolt.Tx) error { return putOverrides(tx, os) }); err != nil {
		return err
	}
	in.mu.Lock()
	in.overrides = os
	in.mu.Unlock()
	return nil
}

func (in *intent) addGeneration(g Generation) (Generation, error) {
	in.write.Lock()
	defer in.write.Unlock()
	g.Number, g.Programs, g.Instances = 1, len(g.Spec.Programs), 0
	if n := len(in.generations); n > 0 {
		g.Number = in.generations[n-1].Number + 1
	}
	g.Number = max(g.Number, in.genFloor+1)
	for _, p := range g.Spec.Programs {
		g.Instances += p.Instances
	}
	raw, keep, err := in.encode(g)
	if err != nil {
		return g, fmt.Errorf("cannot encode generation %d: %w", g.Number, err)
	}
	kept, gone := in.retire(append(slices.Clone(in.generations), light(g)))
	err = in.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketGenerations)
		for _, old := range gone {
			if err := b.Delete(uintKey(old)); err != nil {
				return err
			}
		}
		return b.Put(uintKey(g.Number), raw)
	})
	if err != nil {
		return g, err
	}
	in.chunks.last = keep
	in.mu.Lock()
	in.generations = kept
	in.mu.Unlock()
	return g, nil
}

func (in *intent) encode(g Generation) (raw []byte, keep []chunk, err error) {
	shared := g.Shared
	g.Shared = nil
	if len(shared) > 0 && len(shared) == len(g.Spec.Programs) {
		return in.chunks.encode(g, shared)
	}
	raw, err = encodeGeneration(g)
	return raw, nil, err
}

// setCommit adds to generation n the git commit that it turned out to be.
func (in *intent) setCommit(n uint64, commit string) error {
	g, err := in.generation(n)
	if err != nil {
		return err
	}
	g.Commit = commit
	raw, err := encodeGeneration(g)
	if err != nil {
		return fmt.Errorf("cannot encode generation %d: %w", n, err)
	}
	in.write.Lock()
	defer in.write.Unlock()
	if err := in.update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketGenerations).Put(uintKey(n), raw) }); err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	all := slices.Clone(in.generations) // who lists them may still look
	for i := range all {
		if all[i].Number == n {
			all[i].Commit = commit
		}
	}
	in.generations = all
	return nil
}

// retire drops the oldest above the limit, but not the pinned one: it runs.
func (in *intent) retire(all []Generation) (kept []Generation, gone []uint64) {
	excess := len(all) - keepGenerations
	for _, g := range all {
		if excess > 0 && g.Number != in.pinned {
			gone = append(gone, g.Number)
			excess--
			continue
		}
		kept = append(kept, g)
	}
	return kept, gone
}

// commit is the git commit of generation n, empty when it is not known.
func (in *intent) commit(n uint64) string {
	in.mu.RLock()
	defer in.mu.RUnlock()
	for i := len(in.generations) - 1; i >= 0; i-- {
		if g := &in.generations[i]; g.Number == n {
			return g.Commit
		}
	}
	return ""
}

func (in *intent) setPinned(n uint64) error {
	in.write.Lock()
	defer in.write.Unlock()
	if err := in.update(func(tx *bbolt.Tx) error { return putUint(tx.Bucket(bucketMeta), keyPinned, n) }); err != nil {
		return err
	}
	in.mu.Lock()
	in.pinned = n
	in.mu.Unlock()
	return nil
}

// adopt reports whether a journal belongs to us. A state directory that is new
// takes a running history over.
func (in *intent) adopt(history string, freshHistory bool) bool {
	if history == in.history {
		return true
	}
	if !freshHistory || in.seqFloor != 0 || len(in.generations) > 0 {
		return false
	}
	in.history, in.adopted = history, true
	return true
}

// raise keeps the floors above everything that the history may have given out.
func (in *intent) raise(seq uint64, run reconcile.RunID) error {
	in.write.Lock()
	defer in.write.Unlock()
	if !in.adopted && seq+reserve/2 <= in.seqFloor && uint64(run)+reserve/2 <= in.runFloor {
		return nil
	}
	seq, run = max(seq+reserve, in.seqFloor), max(run+reserve, reconcile.RunID(in.runFloor))
	err := in.update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		return errors.Join(meta.Put(keyHistory, []byte(in.history)), putUint(meta, keySeqFloor, seq), putUint(meta, keyRunFloor, uint64(run)))
	})
	if err == nil {
		in.seqFloor, in.runFloor, in.adopted = seq, uint64(run), false
	}
	return err
}

func (in *intent) generation(n uint64) (g Generation, err error) {
	in.write.Lock() // the file may be exchanged by a writer
	defer in.write.Unlock()
	var raw []byte
	err = in.d.view(func(tx *bbolt.Tx) error {
		raw = bytes.Clone(tx.Bucket(bucketGenerations).Get(uintKey(n)))
		return nil
	})
	if err == nil && raw == nil {
		err = errNotKept
	}
	if err == nil {
		g, err = decodeGeneration(raw)
	}
	if err != nil {
		return g, fmt.Errorf("cannot read generation %d: %w", n, err)
	}
	return g, nil
}

var errNotKept = errors.New("it is not kept")
