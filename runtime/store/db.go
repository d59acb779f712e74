package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

const (
	// format is the version of everything in both databases.
	format = 1

	// Format is what a binary must know at least to take over our state.
	Format = format
	// lockWait is how long a control that was killed may need to be gone.
	lockWait = 5 * time.Second
)

// brokenError is a database whose bytes are not what bbolt wrote.
type brokenError struct{ cause any }

func (e *brokenError) Error() string { return fmt.Sprintf("the file is broken: %v", e.cause) }

// newerError is a database of a version that we do not know.
type newerError struct {
	path   string
	format uint64
}

func (e *newerError) Error() string {
	return fmt.Sprintf("cannot open %s: it has format %d, written by a newer procnanny; this one knows %d", e.path, e.format, format)
}

// guard runs fn on a database. bbolt trusts its file: what it does with a
// broken one (a panic, a fault on a page that is not there) is an error here.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			err = &brokenError{v}
		}
	}()
	return fn()
}

// database is one open bbolt file.
type database struct {
	path string
	db   *bbolt.DB
	// stamp is the file that is open: another one may come to stand at path.
	stamp    os.FileInfo
	readOnly bool
	// dead is set by the first panic inside bbolt: its locks may be held forever,
	// so nobody may go in again.
	dead atomic.Bool
}

var options = bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType, NoStatistics: true}

// schema is what a database must have.
type schema struct {
	holds   string // for people
	buckets [][]byte
	init    func(*bbolt.Tx) error // fills a new one
}

func (s schema) create(tx *bbolt.Tx) error {
	for _, name := range s.buckets {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	return errors.Join(putUint(tx.Bucket(bucketMeta), keyFormat, format), s.init(tx))
}

// openDatabase opens an existing file, or makes a new one. A file system that
// refuses writes gives a read-only one.
func openDatabase(path string, s schema) (*database, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		if err := create(path, s.create); err != nil {
			return nil, fmt.Errorf("cannot create %s: %w", path, err)
		}
		return open(path, s)
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("cannot open %s: it is not a regular file", path)
	}
	return open(path, s)
}

func open(path string, s schema) (*database, error) {
	d := &database{path: path}
	err := guard(func() error {
		if err := checkPages(path); err != nil {
			return err
		}
		o := options
		db, err := bbolt.Open(path, 0o600, &o)
		if isRefused(err) {
			o.ReadOnly, d.readOnly = true, true
			db, err = bbolt.Open(path, 0o600, &o)
		}
		d.db = db
		return err
	})
	if err == nil {
		d.stamp, err = os.Stat(path)
	}
	if err == nil {
		err = d.check(s)
	}
	if err != nil {
		d.close()
		return nil, classify(path, err)
	}
	return d, nil
}

func isRefused(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM)
}

// classify tells a broken file from a system that does not let us open it.
func classify(path string, err error) error {
	var errno syscall.Errno
	var newer *newerError
	switch {
	case errors.As(err, &newer), isBroken(err):
		return err
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("cannot open %s: another process holds it", path)
	case errors.As(err, &errno):
		return fmt.Errorf("cannot open %s: %w", path, err)
	}
	return &brokenError{err}
}

var (
	bucketMeta = []byte("meta")
	keyFormat  = []byte("format")
)

func (d *database) check(s schema) error {
	return d.view(func(tx *bbolt.Tx) error {
		for _, name := range s.buckets {
			if tx.Bucket(name) == nil {
				return &brokenError{"it has no bucket " + string(name)}
			}
		}
		meta := tx.Bucket(bucketMeta)
		switch got := getUint(meta, keyFormat); {
		case got > format:
			return &newerError{d.path, got}
		case got == 0:
			return &brokenError{"it has no format"}
		}
		return nil
	})
}

// create makes the file under another name first: a file at path is whole. A
// directory that somebody removed is made again.
func create(path string, init func(*bbolt.Tx) error) error {
	tmp := path + ".new"
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(tmp, 0o600, &options)
	if err != nil {
		return err
	}
	err = guard(func() error { return db.Update(init) })
	err = errors.Join(err, db.Close())
	if err == nil {
		err = install(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
	}
	return err
}

// install moves a finished file into place, durably.
func install(tmp, path string) error {
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (d *database) view(fn func(*bbolt.Tx) error) error {
	return d.enter(func() error { return d.db.View(fn) })
}

// enter runs fn unless the database has proved broken.
func (d *database) enter(fn func() error) error {
	if d.dead.Load() {
		return &brokenError{"it proved broken while it was in use"}
	}
	err := guard(fn)
	if isBroken(err) {
		d.dead.Store(true)
	}
	return err
}

func isBroken(err error) bool {
	var broken *brokenError
	return errors.As(err, &broken)
}

// update is durable when it returns nil.
func (d *database) update(fn func(*bbolt.Tx) error) error {
	if d.readOnly {
		return fmt.Errorf("cannot write %s: %w", d.path, syscall.EROFS)
	}
	return d.enter(func() error { return d.db.Update(fn) })
}

// writable says why a read-only database cannot be opened to write, if so.
func (d *database) writable() error {
	if err := unix.Access(d.path, unix.W_OK); err != nil {
		return fmt.Errorf("cannot write %s: %w", d.path, err)
	}
	return nil
}

// replaced reports whether the open file is no longer the one at path.
func (d *database) replaced() bool {
	info, err := os.Stat(d.path)
	return err != nil && errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(info, d.stamp)
}

// close waits a second for queries to end. One that proved broken is left as it
// is, with its descriptor, until we end.
func (d *database) close() {
	if d == nil || d.db == nil || d.dead.Load() {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = guard(d.db.Close)
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
	}
}

// aside moves a broken file out of the way and returns its new name.
func aside(path string, now time.Time) (string, error) {
	to := path + ".broken-" + now.UTC().Format("20060102T150405.000000")
	return to, os.Rename(path, to)
}

// openOrReplace opens path. A broken file is put aside, named in the loss, and
// a new one begun.
func openOrReplace(path string, s schema, now time.Time) (*database, string, error) {
	d, err := openDatabase(path, s)
	var broken *brokenError
	if !errors.As(err, &broken) {
		return d, "", err
	}
	to, moved := aside(path, now)
	if moved != nil {
		return nil, "", fmt.Errorf("cannot put the broken %s aside: %w", path, moved)
	}
	d, err = openDatabase(path, s)
	return d, fmt.Sprintf("%s: %v; it was put aside as %s and %s begins anew", path, broken.cause, to, s.holds), err
}
