package store

import (
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"
)

// ready makes sure that there is a database, whole and the one at its path.
func (s *Store) ready() (*database, error) {
	d := s.db.Load()
	var err error
	switch {
	case d == nil || d.readOnly:
		err = s.reopen()
	case d.dead.Load():
		err = s.begin()
	case d.replaced():
		err = s.restore(d)
	}
	return s.db.Load(), err
}

// reopen tries again what failed at the start.
func (s *Store) reopen() error {
	if old := s.db.Load(); old != nil { // read-only: its lock would be in our way
		if err := old.writable(); err != nil {
			return err
		}
		s.exchange(nil)
	}
	d, _, loss, err := openHistory(s.dbPath, s.c)
	if err != nil {
		return fmt.Errorf("cannot write history down: %w", err)
	}
	if d.readOnly {
		d.close()
		return fmt.Errorf("cannot write history down: %s is read-only", s.dbPath)
	}
	s.exchange(d)
	if loss != "" {
		s.lose(loss)
	}
	return nil
}

// restore puts a copy of what is still open where somebody deleted or replaced
// the file.
func (s *Store) restore(from *database) error {
	if _, err := os.Stat(s.dbPath); err == nil {
		if _, err := aside(s.dbPath, s.c.Now()); err != nil {
			return fmt.Errorf("cannot put the wrong %s aside: %w", s.dbPath, err)
		}
	}
	tmp := s.dbPath + ".new"
	err := from.enter(func() error { return from.copyTo(tmp) })
	if err == nil {
		err = install(tmp, s.dbPath)
	}
	var d *database
	if err == nil {
		d, err = open(s.dbPath, historySchema)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("cannot write %s again: %w", s.dbPath, err)
	}
	s.exchange(d)
	s.lose(s.dbPath + " was deleted or replaced while it was in use; it was written again, nothing is lost")
	return nil
}

func (d *database) copyTo(path string) error {
	_ = os.Remove(path)
	to, err := bbolt.Open(path, 0o600, &options)
	if err != nil {
		return err
	}
	return errors.Join(bbolt.Compact(to, d.db, commitBytes), to.Close())
}

// begin puts a database that proved broken aside and starts a new one, with
// the world as it is.
func (s *Store) begin() error {
	to, err := aside(s.dbPath, s.c.Now())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot put the broken %s aside: %w", s.dbPath, err)
	}
	s.lose(fmt.Sprintf("%s proved broken while it was in use; it was put aside as %s and history begins anew", s.dbPath, to))
	s.exchange(nil)
	return s.reopen()
}

// exchange makes d the database. Its picture of the world may be an old one.
func (s *Store) exchange(d *database) {
	s.db.Swap(d).close()
	s.runBytes = totalRunBytes(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.m.instances {
		s.q.instances[id] = true
	}
	for name := range s.m.programs {
		s.q.programs[name] = true
	}
	for name := range s.m.notes {
		s.q.notes[name] = true
	}
	s.queueLiving()
}
