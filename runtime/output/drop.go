package output

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// dropSuffix is of a file of one record: how much was dropped and not yet told in
// the stream's own file. It is made while there is room, and from then on only
// written over, which a full disk does not refuse: so that a keeper which is
// killed meanwhile forgets no more than it dropped in its last turn.
const dropSuffix = ".drop"

func (st stream) drop() string { return st.base + dropSuffix }

// discard drops bytes and counts them.
func (s *Sink) discard(pipe, n int) (int, error) {
	s.acquit(pipe)
	done, err := s.dir.consume(pipe, n)
	s.dropped += int64(done)
	s.unmarked += int64(done)
	s.keepCount()
	return done, err
}

// tellDropped writes a line about dropped bytes once the file takes it.
func (s *Sink) tellDropped(now time.Time) error {
	if s.unmarked == 0 {
		return nil
	}
	line := fmt.Sprintf("--- procnanny: %d bytes dropped here: the log could not be written ---\n", s.unmarked)
	if s.stamped {
		line = stampOf(now) + line
	}
	if s.pos > 0 && !s.endsLine() {
		line = "\n" + line
	}
	// The index first: it tells the mark from the child's own bytes.
	s.mark(record{kind: kindGap, dropped: s.unmarked, markSize: uint8(len(line))}, now)
	if s.indexFault != nil {
		return s.indexFault
	}
	if err := s.write([]byte(line)); err != nil {
		return err
	}
	s.off, s.unmarked = s.off+s.unmarked, 0
	s.keepCount() // if not: it is about another offset than this
	return nil
}

// reserve makes the file for the count.
func (s *Sink) reserve(dir int) {
	if s.dropFD >= 0 {
		return
	}
	fd, st, err := openRegular(dir, s.drop(), unix.O_RDWR)
	switch {
	case errors.Is(err, errForeign):
		if _, err = moveAside(dir, s.drop()); err == nil {
			fd, err = s.dir.createAt(dir, s.drop())
		}
	case errors.Is(err, unix.ENOENT):
		fd, err = s.dir.createAt(dir, s.drop())
	}
	if err != nil {
		s.warn(s.drop(), fmt.Errorf("cannot be made, to count what is dropped: %w", err))
		return
	}
	s.dropFD = fd
	if st.Size < recordSize {
		s.keepCount()
	}
}

// keepCount writes how much is not yet told. Without room it is kept in memory
// alone.
func (s *Sink) keepCount() {
	if s.dropFD < 0 {
		return
	}
	r := record{kind: kindGap, time: s.dir.now().UnixNano(), offset: s.off, start: s.start, run: s.run, inode: s.inode, dropped: s.unmarked}
	_ = pwriteFull(s.dropFD, r.append(nil), 0)
}

// recount learns what a former keeper dropped behind the last byte that is kept
// and did not tell.
func (s *Sink) recount(dir int) error {
	records, err := readIndex(dir, s.drop(), recordSize)
	if err != nil || len(records) == 0 {
		return err
	}
	if r := records[0]; r.offset == s.off && r.start == s.start && r.dropped > s.unmarked {
		s.dropped += r.dropped - s.unmarked
		s.unmarked = r.dropped
	}
	return nil
}

func (s *Sink) closeDrop() {
	if s.dropFD >= 0 {
		_ = unix.Close(s.dropFD)
		s.dropFD = -1
	}
}
