package store

import (
	"bytes"
	"errors"
	"os"

	"go.etcd.io/bbolt"
)

// renew writes the file anew from what is known to be durable, because the old
// one was deleted, replaced, or failed to reach the disk.
func (in *intent) renew() error {
	kept := map[uint64][]byte{}
	err := in.d.view(func(tx *bbolt.Tx) error {
		for _, g := range in.generations {
			if v := tx.Bucket(bucketGenerations).Get(uintKey(g.Number)); v != nil {
				kept[g.Number] = bytes.Clone(v)
			}
		}
		return nil
	})
	if err != nil {
		in.log.Error("generations could not be read again", "file", in.path, "error", err)
	}
	if _, err := os.Stat(in.path); err == nil && in.d.replaced() {
		if _, err := aside(in.path, in.now()); err != nil {
			return err
		}
	}
	err = create(in.path, func(tx *bbolt.Tx) error { return in.writeAll(tx, kept) })
	if err != nil {
		return err
	}
	d, err := open(in.path, intentSchema)
	if err != nil {
		return err
	}
	in.log.Warn("wrote what was set and accepted into a new file", "file", in.path)
	in.d.close()
	in.d, in.suspect = d, false
	return nil
}

func (in *intent) writeAll(tx *bbolt.Tx, specs map[uint64][]byte) error {
	if err := intentSchema.create(tx); err != nil {
		return err
	}
	meta := tx.Bucket(bucketMeta)
	err := errors.Join(meta.Put(keyHistory, []byte(in.history)), putUint(meta, keyPinned, in.pinned),
		putUint(meta, keySeqFloor, in.seqFloor), putUint(meta, keyRunFloor, in.runFloor), putOverrides(tx, in.overrides))
	for n, v := range specs {
		err = errors.Join(err, tx.Bucket(bucketGenerations).Put(uintKey(n), v))
	}
	return err
}
