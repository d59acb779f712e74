package store

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/procnanny/procnanny/reconcile"
)

// What bbolt writes passes, in every shape of tree and list of free pages.
func TestWhatBboltWritesIsWhole(t *testing.T) {
	path := filepath.Join(testDir(t), "x.db")
	db, err := bbolt.Open(path, 0o600, &options)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for round := range 30 {
		err := db.Update(func(tx *bbolt.Tx) error {
			for n := range 5 {
				b, err := tx.CreateBucketIfNotExists(fmt.Appendf(nil, "b%d", n))
				if err != nil {
					return err
				}
				for k := range round * round * n {
					if err := b.Put(fmt.Appendf(nil, "%08d", k*7919%10007), make([]byte, k%300)); err != nil {
						return err
					}
				}
				for k := range round * 20 {
					if err := b.Delete(fmt.Appendf(nil, "%08d", k*(round+1)*7919%10007)); err != nil {
						return err
					}
				}
				if err := b.Put([]byte("large"), make([]byte, round*1000)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := checkPages(path); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

// A page that points to its parent would take bbolt's stack, and us, away.
func TestALoopOfPagesIsFound(t *testing.T) {
	b := newBench(t)
	filled(t, b, false)
	path := filepath.Join(b.c.StateDir, "history.db")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size, found := os.Getpagesize(), 0
	for at := 2 * size; at+size <= len(raw); at += size {
		if native.Uint16(raw[at+8:]) != pageBranch || native.Uint64(raw[at:]) != uint64(at/size) {
			continue
		}
		loop := append([]byte(nil), raw...)
		native.PutUint64(loop[at+headerLen+8:], uint64(at/size)) // its first child is itself
		if err := os.WriteFile(path, loop, 0o600); err != nil {
			t.Fatal(err)
		}
		if checkPages(path) != nil {
			found++ // pages that are free by now are no matter
		}
	}
	if found == 0 {
		t.Error("no loop was found")
	}
}

func FuzzPages(f *testing.F) {
	b := newBench(f)
	filled(f, b, false)
	raw, err := os.ReadFile(filepath.Join(b.c.StateDir, "procnanny.db"))
	if err != nil {
		f.Fatal(err)
	}
	b.remove()
	f.Add(raw, 100, byte(1))
	f.Fuzz(func(t *testing.T, data []byte, at int, v byte) {
		path := filepath.Join(testDir(t), "x.db") // of each try: nobody cleans up after a worker
		if len(data) > 0 {
			data = append([]byte(nil), data...)
			data[uint(at)%uint(len(data))] ^= v
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := open(path, intentSchema)
		if err == nil {
			in := &intent{path: path, d: d}
			_, _ = in.load()
			d.close()
		}
	})
}

func BenchmarkCheckPages(b *testing.B) {
	bench := newBench(b)
	s, _ := bench.open()
	for range 300_000 {
		s.Record(reconcile.Batch{}, []Draft{{Topic: "state.web.0", Time: epoch, Encode: func(uint64, uint64) []byte { return make([]byte, 150) }}})
	}
	settled(b, s)
	s.Close()
	info, err := os.Stat(s.dbPath)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(info.Size())
	for range b.N {
		if err := checkPages(s.dbPath); err != nil {
			b.Fatal(err)
		}
	}
}
