package output

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/crashpoint"
)

const (
	// lookMax is how far before the limit of a file we look for a line's end,
	// and how far beyond it we wait for one.
	lookMax = 64 << 10
	// rotateRetry is how long a file just goes on after it could not be renamed.
	rotateRetry = time.Second
)

// cut moves what still belongs into the live file and puts it aside. left
// bytes are in the pipe, more than room.
func (s *Sink) cut(pipe, left, room int, now time.Time) (int, error) {
	data, err := s.look(pipe, min(left, room+lookMax))
	if err != nil { // no descriptor, no memory: then at any byte
		data = nil
	}
	ended := s.pos == 0 || s.endsLine()
	n, full := cutPoint(data, room, int(min(lookMax, s.overlong(int64(room)))), s.pos > 0 && ended)
	if err != nil {
		n, full = room, true
	}
	done, err := s.splice(pipe, n)
	if err != nil || done < n || !full {
		return done, err
	}
	return done, s.rotate(now)
}

// fullness is at which size the live file, which begins at start, is full.
type fullness struct{ start, size int64 }

// overlong is how many bytes the file may still get for the sake of a line, room
// bytes before it is full. One that is far beyond its limit already (somebody
// made that smaller, or it could not be put aside) is full from now on.
func (s *Sink) overlong(room int64) int64 {
	if s.full.size == 0 || s.full.start != s.start {
		s.full = fullness{s.start, s.pos + room}
	}
	slack := int64(lookMax)
	if s.policy.RotateBytes > 0 {
		slack = min(slack, s.policy.RotateBytes)
	}
	return max(0, s.full.size+slack-s.pos)
}

// cutPoint says how many bytes of data the file still gets, and whether it is
// full then. room is the limit, most is where even an unended line is cut, and
// ended says that the file ends with a line.
func cutPoint(data []byte, room, most int, ended bool) (n int, full bool) {
	if i := bytes.LastIndexByte(data[:min(room, len(data))], '\n'); i >= 0 {
		return i + 1, true
	}
	if ended {
		return 0, true
	}
	// A line that began before is longer than the room: it ends beyond.
	from := min(room, len(data))
	if i := bytes.IndexByte(data[from:min(max(most, from), len(data))], '\n'); i >= 0 {
		return from + i + 1, true
	}
	if len(data) >= most {
		return most, true
	}
	return len(data), false
}

// endsLine reports whether the live file's last byte is a newline.
func (s *Sink) endsLine() bool {
	var last [1]byte
	n, err := preadFull(s.fd, last[:], s.pos-1)
	return n == 1 && err == nil && last[0] == '\n'
}

// rotate puts the live file aside and begins the next. The order makes it
// recoverable from the files at any moment: the new name says where the file
// begins, so its size says where the next one does, until a record says so.
func (s *Sink) rotate(now time.Time) error {
	if s.pos == 0 {
		return nil
	}
	dir, err := s.dir.openProgram(s.program, false)
	if err != nil {
		return s.postpone(err, now)
	}
	defer unix.Close(dir)
	if st, err := statAt(dir, s.live()); err != nil || st.Ino != s.inode {
		s.lost(errors.New("was moved or deleted"))
		return s.open(now)
	}
	s.midLine = !s.endsLine()
	if s.stamped { // so that nobody need count the file's last lines
		s.markIn(dir, record{kind: kindTime}, now)
	}
	crashpoint.Here(crashpoint.RotateBegun)
	if err := s.retire(dir, s.off); err != nil {
		return s.postpone(err, now)
	}
	crashpoint.Here(crashpoint.RotateRenamed)
	// The last one stays until the index knows where the next begins.
	s.prune(dir, max(1, s.policy.Keep))
	crashpoint.Here(crashpoint.RotatePruned)
	if err := s.create(dir, now); err != nil {
		return err
	}
	crashpoint.Here(crashpoint.RotateCreated)
	if s.policy.Keep < 1 {
		s.prune(dir, 0)
	}
	return nil
}

// postpone lets the live file grow on: better too long than not written.
func (s *Sink) postpone(err error, now time.Time) error {
	s.warn(s.live(), fmt.Errorf("cannot be put aside: %w", err))
	s.noRotate, s.full = now.Add(rotateRetry), fullness{}
	return nil
}

// retire gives the live file the name of its first byte. The next one shall
// begin at next.
func (s *Sink) retire(dir int, next int64) error {
	name := s.segment(s.start)
	err := renameNew(dir, s.live(), name)
	if errors.Is(err, unix.EEXIST) {
		var to string
		if to, err = moveAside(dir, name); err != nil {
			return err
		}
		s.warn(name, fmt.Errorf("was in the way: moved aside as %s", to))
		err = renameNew(dir, s.live(), name)
	}
	if err != nil {
		return err
	}
	s.closeFile()
	s.segs = append(s.segs, s.start)
	s.start, s.pos, s.off, s.inode = next, 0, next, 0
	return nil
}

// prune removes the oldest put aside files beyond keep, and of the program's
// those beyond TotalBytes.
func (s *Sink) prune(dir, keep int) {
	drop := max(0, len(s.segs)-keep)
	for _, start := range s.segs[:drop] {
		s.remove(dir, s.segment(start))
	}
	s.segs = append(s.segs[:0], s.segs[drop:]...)
	if s.policy.TotalBytes > 0 && len(s.segs) > 0 {
		s.pruneTotal(dir)
	}
}

func (s *Sink) remove(dir int, name string) {
	err := unix.Unlinkat(dir, name, 0)
	if errors.Is(err, unix.ENOENT) {
		err = unix.Unlinkat(dir, name+packedSuffix, 0)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		s.warn(name, fmt.Errorf("cannot be removed: %w", err))
	}
}

// statSegment looks at a put aside file, or at what it was compressed to.
func statSegment(dir int, name string) (unix.Stat_t, error) {
	st, err := statAt(dir, name)
	if errors.Is(err, unix.ENOENT) {
		st, err = statAt(dir, name+packedSuffix)
	}
	return st, err
}

// aged is a put aside file of any stream of a program.
type aged struct {
	base    string
	start   int64
	size    int64
	changed int64 // Unix, ns
}

// pruneTotal removes the program's oldest files until the rest fits. The one
// just put aside stays: last words are worth more than the bound. Other sinks of
// the program may still believe in what is removed; they find nothing there.
func (s *Sink) pruneTotal(dir int) {
	all, err := listSegments(dir)
	if err != nil {
		s.warn(s.live(), fmt.Errorf("cannot bound the total of its old files: %w", err))
		return
	}
	var files []aged
	var sum int64
	for base, starts := range all {
		for _, start := range starts {
			st, err := statSegment(dir, stream{s.program, base}.segment(start))
			if err != nil || !regular(&st) || base == s.base && start == s.segs[len(s.segs)-1] {
				continue
			}
			files = append(files, aged{base, start, st.Size, st.Mtim.Nano()})
			sum += st.Size
		}
	}
	slices.SortFunc(files, func(a, b aged) int {
		return cmp.Or(cmp.Compare(a.changed, b.changed), cmp.Compare(a.start, b.start))
	})
	room := s.policy.TotalBytes - s.segmentSize(dir)
	for _, f := range files {
		if sum <= room {
			return
		}
		sum -= f.size
		s.remove(dir, stream{s.program, f.base}.segment(f.start))
		if f.base == s.base {
			s.segs = slices.DeleteFunc(s.segs, func(start int64) bool { return start == f.start })
		}
	}
}

// segmentSize is the size of the newest put aside file.
func (s *Sink) segmentSize(dir int) int64 {
	st, err := statSegment(dir, s.segment(s.segs[len(s.segs)-1]))
	if err != nil {
		return 0
	}
	return st.Size
}
