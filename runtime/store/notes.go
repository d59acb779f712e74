package store

import (
	"bytes"

	"go.etcd.io/bbolt"
)

// notes are not there in a database of an earlier version.
func (l *ledger) notes(b *bbolt.Bucket) error {
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, v []byte) error {
		if raw, err := unseal(v); err == nil {
			l.image.notes[string(k)] = bytes.Clone(raw)
		}
		return nil
	})
}

func (w *work) putNotes(tx *bbolt.Tx) error {
	if len(w.notes) == 0 {
		return nil
	}
	b, err := tx.CreateBucketIfNotExists(bucketNotes)
	for name, v := range w.notes {
		if err == nil {
			err = putOrDelete(b, []byte(name), v)
		}
	}
	return err
}
