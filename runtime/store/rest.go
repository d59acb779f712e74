package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// The rest is what an orderly stop of many left for the next start: the journal as
// it was, beside the database, which does not have all of it yet. To bring thousands
// of events and runs there takes longer than anything else that is left to do while
// somebody waits for the stop, and nobody will ask for them before the next start.
// That one finds them in the journal, as after a kill, or after a reboot, which
// takes the run directory away, in the rest.
const (
	restFrom  = 256         // events and runs that wait, below which they are committed
	restBytes = 16 << 20    // of a journal that is left, at the most
	endingFor = time.Second // how long commits are put off
)

func (s *Store) restPath() string { return filepath.Join(filepath.Dir(s.dbPath), "history.rest") }

// Ending says that everything is being stopped and Close will follow: what is
// recorded until then is left to it, within a second.
func (s *Store) Ending() { s.ending.Store(true) }

// putOff waits for Close while everything is being stopped, as long as there is room
// for what waits. It is true when Close came.
func (s *Store) putOff(timer *time.Timer) bool {
	for waited := time.Duration(0); s.ending.Load() && waited < endingFor && s.roomy(); waited += restMax {
		if s.rest(timer, restMax, nil) {
			return true
		}
	}
	return false
}

func (s *Store) roomy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.q.bytes < maxQueueBytes/2 && len(s.q.events) < s.q.most/2 && len(s.q.runs) < s.q.most/2
}

// leaveRest leaves what the database does not have yet beside it. It is false where
// that is little, or cannot be done: then it is committed.
func (s *Store) leaveRest() bool {
	size, ok := s.endJournal()
	if !ok {
		return false
	}
	path := s.restPath()
	err := copyFile(s.j.path, path+".new", size)
	if err == nil {
		err = install(path+".new", path)
	}
	if err != nil {
		_ = os.Remove(path + ".new")
		s.c.Log.Warn("cannot leave the journal to the next start", "error", err)
	}
	return err == nil
}

// endJournal says in the journal that it is the rest, from which number on.
func (s *Store) endJournal() (size int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.db.Load()
	if !s.ending.Load() || d == nil || d.readOnly || s.committed == 0 || len(s.q.events) == 0 ||
		len(s.q.events)+len(s.q.runs) < restFrom || s.j.broken != nil || s.j.size > restBytes {
		return 0, false
	}
	f := newFrame(nil)
	f.item(itemRest, func(b []byte) []byte { return binary.AppendUvarint(b, s.committed) })
	err := s.j.append(f.finish())
	return s.j.size, err == nil
}

// copyFile makes a durable copy of the first size bytes.
func copyFile(from, to string, size int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(out, in, size)
	return errors.Join(err, out.Sync(), out.Close())
}

// orRest is what the journal says, or, where there is none of ours, the rest. A rest
// that is not of this database as it is was left before somebody else wrote to it.
func (s *Store) orRest(p *past, l ledger) (*past, error) {
	s.rested = true // whatever is there is removed when the database has all
	if l.clean || p.found && p.history == s.intent.history {
		return p, nil
	}
	r, err := readJournal(s.restPath(), l.seq)
	if err != nil {
		return nil, err
	}
	if r.err != nil || r.history != s.intent.history || r.base == 0 || r.base != l.seq {
		return p, nil
	}
	return r, nil
}

// dropRest removes the rest once the database has what it says.
func (s *Store) dropRest() {
	if !s.rested {
		return
	}
	if err := os.Remove(s.restPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.c.Log.Warn("cannot remove what the last stop left", "error", fmt.Errorf("cannot remove %s: %w", s.restPath(), err))
		return
	}
	s.rested = false
}
