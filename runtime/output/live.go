package output

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// errVanished is a pipe that has less than it said: somebody else reads it.
var errVanished = errors.New("somebody else reads the pipe")

// ready makes sure that the live file is open, is ours, and is where we think,
// and that the index knows of what comes.
func (s *Sink) ready(now time.Time) error {
	if s.invalid != nil {
		return s.invalid
	}
	if s.fd >= 0 {
		s.check(now)
	}
	if s.fd < 0 {
		if err := s.open(now); err != nil {
			return err
		}
	}
	if s.staged { // before the index tells an offset that this may take back
		if err := s.finishStage(); err != nil {
			return err
		}
	}
	switch {
	case now.Sub(s.indexed) < indexEvery:
	case s.run != 0 && !s.marked:
		s.marked = s.mark(record{kind: kindRun}, now)
	default:
		s.mark(record{kind: kindTime}, now)
	}
	return nil
}

// check closes the live file if it is no longer what we think it is. Deleted
// or changed: every Drain sees it. Moved: within checkEvery.
func (s *Sink) check(now time.Time) {
	var st unix.Stat_t
	err := unix.Fstat(s.fd, &st)
	switch {
	case err != nil:
		s.closeFile() // that we cannot look says nothing about the file
	case st.Nlink == 0:
		s.lost(errors.New("was deleted"))
	case st.Size != s.pos:
		s.closeFile() // open finds it and deals with it
	case now.Sub(s.checked) >= checkEvery:
		s.checked = now
		s.checkPath()
	}
}

func (s *Sink) checkPath() {
	st, err := statAt(s.dir.root, s.path(s.live()))
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		s.lost(errors.New("was moved or deleted"))
	case err != nil:
		s.warn(s.live(), fmt.Errorf("cannot be looked for: %w", err))
	case st.Ino != s.inode:
		s.lost(errors.New("was replaced"))
	}
}

// lost gives the live file up: its bytes are elsewhere or nowhere, and the
// next file begins where it ended.
func (s *Sink) lost(why error) {
	s.warn(s.live(), why)
	s.closeFile()
	s.start, s.pos, s.inode = s.off, 0, 0
}

func (s *Sink) warn(name string, err error) {
	s.dir.alarm(Alarm{s.program, s.path(name), fmt.Errorf("%s %w", s.path(name), err)})
}

// open opens or makes the live file and learns start and pos.
func (s *Sink) open(now time.Time) error {
	dir, err := s.dir.openProgram(s.program, true)
	if err != nil {
		return fmt.Errorf("cannot open directory %s: %w", s.program, err)
	}
	defer unix.Close(dir)
	s.checked = now
	fd, st, err := openRegular(dir, s.live(), unix.O_RDWR)
	switch {
	case errors.Is(err, errForeign):
		if err = s.putAway(dir, err); err != nil {
			return err
		}
	case err == nil:
		s.fd, s.device = fd, st.Dev
	case !errors.Is(err, unix.ENOENT):
		return err
	}
	if err = s.place(dir, &st, now); err != nil {
		s.closeFile()
		return err
	}
	if s.fd < 0 {
		err = s.create(dir, now)
	}
	if err == nil && s.policy.Drop {
		s.reserve(dir)
	}
	return err
}

// create makes the live file, which begins at start.
func (s *Sink) create(dir int, now time.Time) error {
	fd, err := s.dir.createAt(dir, s.live())
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return err
	}
	s.fd, s.inode, s.device, s.pos, s.born = fd, st.Ino, st.Dev, 0, now
	s.markBegin(dir, now)
	return nil
}

// markBegin is the first record of a live file that has no byte yet. A file
// without one counts as not stamped.
func (s *Sink) markBegin(dir int, now time.Time) {
	s.stamped = s.policy.Timestamps
	s.stamped = s.markIn(dir, record{kind: kindSegment}, now) && s.stamped
}

// putAway clears the live file's name of what is not ours.
func (s *Sink) putAway(dir int, why error) error {
	s.closeFile()
	to, err := moveAside(dir, s.live())
	if err != nil {
		return fmt.Errorf("%w, and cannot be moved aside: %w", why, err)
	}
	s.warn(s.live(), fmt.Errorf("%w: moved aside as %s", why, to))
	return nil
}

// place finds out which bytes of the stream the opened file st holds, if there
// is one (fd >= 0), and puts aside what cannot be gone on with: then fd is -1
// and a new file shall begin at start.
func (s *Sink) place(dir int, st *unix.Stat_t, now time.Time) error {
	fresh := !s.known
	if fresh {
		if err := s.recover(dir, st); err != nil {
			return err
		}
	}
	end, size, alone := s.off, st.Size, st.Nlink == 1
	ours := fresh || st.Ino == s.inode
	switch {
	case s.fd < 0:
		s.start, s.pos, s.off = end, 0, end
	case ours && alone && size == s.pos:
		s.inode = st.Ino
	case size == 0 && alone: // truncated, or made for us
		s.start, s.pos, s.inode, s.born = end, 0, st.Ino, now
		s.markBegin(dir, now)
		s.warn(s.live(), errors.New("was emptied"))
	case ours && s.start < end:
		s.warn(s.live(), errors.New("was changed or linked by somebody else: put aside"))
		return s.retire(dir, end)
	default:
		s.start, s.pos, s.off = end, 0, end
		return s.putAway(dir, errors.New("is not ours"))
	}
	return nil
}

// recover learns start, pos, off and the put aside files from the files alone.
// Of a live file that is shorter than the index says it is, pos is what it
// should be.
func (s *Sink) recover(dir int, st *unix.Stat_t) error {
	records, err := readIndex(dir, s.index(), tailSize)
	if err != nil {
		return err
	}
	if s.segs, err = s.dir.segments(dir, s.stream); err != nil {
		return err
	}
	last := lastOf(records)
	s.start, err = s.dir.unpacked.locate(dir, s.stream, records, s.segs, st.Ino)
	if err == nil {
		err = s.goOn(extents(records, s.start), st.Size)
	}
	if err != nil {
		s.dir.giveBack(s.stream, s.segs)
		return err
	}
	if last.start == s.start && last.pos > s.pos {
		s.pos, s.off = last.pos, last.offset
	}
	if err := s.recount(dir); err != nil {
		return err
	}
	s.known = true
	return nil
}

// goOn finds off, where the opened live file (fd >= 0) has size bytes.
func (s *Sink) goOn(list []extent, size int64) error {
	s.pos, s.off, s.stamped, s.midLine = 0, s.start, false, false
	if s.fd < 0 {
		s.off = list[len(list)-1].off
		return nil
	}
	// A mark that a kill left half written, or not at all, is written again.
	if e := list[len(list)-1]; e.dropped > 0 && size < e.pos && size >= e.pos-e.markSize {
		size = e.pos - e.markSize
		if err := unix.Ftruncate(s.fd, size); err != nil {
			return err
		}
		s.unmarked = e.dropped
	}
	for len(list) > 1 && list[len(list)-1].pos > size {
		list = list[:len(list)-1]
	}
	e := list[len(list)-1]
	s.pos, s.stamped, s.midLine = size, e.stamped, size == 0 && !e.fresh
	var err error
	s.off, err = e.endAt(s.fd, size)
	return err
}

// lastOf is the last record, or none.
func lastOf(records []record) (r record) {
	if n := len(records); n > 0 {
		r = records[n-1]
	}
	return r
}

// locate says where the live file with that inode (0: there is none) begins:
// where the last record says, unless a file was put aside after it.
func (u *unpacked) locate(dir int, st stream, records []record, segs []int64, inode uint64) (int64, error) {
	last := lastOf(records)
	if len(segs) == 0 || inode != 0 && inode == last.inode || segs[len(segs)-1] < last.start {
		return last.start, nil
	}
	start := segs[len(segs)-1]
	fd, size, err := u.openSegment(dir, st.segment(start))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, errForeign) { // just deleted by somebody
		return max(start, last.offset), nil
	}
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	list := extents(records, start)
	for len(list) > 1 && list[len(list)-1].pos > size {
		list = list[:len(list)-1]
	}
	return list[len(list)-1].endAt(fd, size)
}

// age is when the live file got its first byte, or the nearest we know.
func (s *Sink) age() time.Time {
	if !s.born.IsZero() {
		return s.born
	}
	var st unix.Statx_t
	s.born = s.dir.now()
	if err := unix.Statx(s.fd, "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st); err == nil && st.Mask&unix.STATX_BTIME != 0 {
		s.born = time.Unix(st.Btime.Sec, int64(st.Btime.Nsec))
	}
	return s.born
}

// mark adds a record to the index, and says in indexFault why it could not. Of
// most records a failure costs only that: the next try is indexEvery later.
func (s *Sink) mark(r record, now time.Time) bool {
	s.indexed = now
	dir, err := s.dir.openProgram(s.program, false)
	if err != nil {
		s.indexFault = err
		return false
	}
	defer unix.Close(dir)
	return s.markIn(dir, r, now)
}

func (s *Sink) markIn(dir int, r record, now time.Time) bool {
	r.time, r.offset, r.start, r.pos, r.run, r.inode = now.UnixNano(), s.off, s.start, s.pos, s.run, s.inode
	r.stamped = s.stamped
	r.fresh = s.pos == 0 && !s.midLine || s.stamped && s.fd >= 0 && s.fresh()
	size, err := s.dir.appendRecord(dir, s.index(), r)
	known := s.indexFault != nil
	s.indexFault = err
	if err == nil && size > indexMax {
		err = s.dir.rewriteIndex(dir, s.index(), s.first())
	}
	if err != nil && !known { // once, however long it lasts
		s.warn(s.index(), err)
	}
	return s.indexFault == nil
}

// first is the offset of the first byte that is kept.
func (s *Sink) first() int64 {
	if len(s.segs) > 0 {
		return s.segs[0]
	}
	return s.start
}
