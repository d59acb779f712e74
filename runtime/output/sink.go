package output

import (
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// Policy is what may change at any time without touching the program.
type Policy struct {
	// RotateBytes is when a file is put aside; 0 is never. Marks and times
	// count. A file is longer by less than a line, and by at most 64 KiB.
	RotateBytes int64
	// Keep is how many put aside files stay.
	Keep int
	// Drop says that a program must not wait when its file cannot take more:
	// its bytes are dropped, counted, and a line in the file says how many.
	Drop bool
	// Timestamps puts a time before each line.
	Timestamps bool
	// RotateAge puts a file aside when its first byte is older, at the next
	// output; 0 is never.
	RotateAge time.Duration
	// TotalBytes bounds the put aside files of all of a program's instances
	// together; 0 is no bound but Keep.
	TotalBytes int64
}

// Turn is a good max for [Sink.Drain]: large enough to be fast, small enough
// (about 0.2 ms) that the next pipe need not wait.
const Turn = 256 << 10

const (
	// checkEvery is how often we look whether the file still has its name.
	checkEvery = time.Second
	// retryEvery is how often a dropping sink tries the file again.
	retryEvery = 100 * time.Millisecond
)

// Sink takes the bytes of one stream of one instance to its file.
type Sink struct {
	dir *Dir
	key key
	stream
	invalid error // the name is none: every Drain says so
	policy  Policy

	fd      int    // the live file; -1: closed
	stageFD int    // see stage.go; -1: closed
	staged  bool   // there is, or may be, something on it
	inode   uint64 // of the live file
	device  uint64 // it is on
	known   bool   // start and pos are; the files were looked at before
	// start is the offset of the live file's first byte, pos its size, and off
	// the number of the stream's next byte: start+pos, but for times and marks.
	start, pos, off int64
	stamped         bool      // what the index says of the live file's end
	born            time.Time // of the live file, when RotateAge needs it
	segs            []int64   // starts of the put aside files, oldest first

	run     uint64 // current run; 0: none
	marked  bool   // the index knows where run begins
	midLine bool   // the live file begins in the middle of a line
	copying bool   // the file system cannot splice: read and write instead

	checked  time.Time // the path
	indexed  time.Time // a record was added, or tried
	noRotate time.Time // rotation failed: not before this
	full     fullness  // of the live file, once its end is near
	fault    error     // why the file could not take the last bytes
	faultAt  time.Time
	dropped  int64 // all of this sink
	unmarked int64 // of those, not yet told in the file
	dropFD   int   // see drop.go; -1: closed
	// indexFault is why the last record could not be added, or nil.
	indexFault error
	pace       pace
	lens       *lens // while Drain needs one
	beyond     int   // so much more than there was may Drain move
}

// Drain moves at most max bytes from the pipe to the file. It never waits for
// the pipe; n is how many it took from there, and more says that there are
// more, now or in a moment. An error says why the file cannot take more: then no more was taken
// than it took, or, with Policy.Drop, the rest of n was dropped.
//
// A pipe at its end gives 0, false, nil: poll(2) says POLLHUP there.
// Before the pipe is polled again, the caller waits [Sink.Delay].
func (s *Sink) Drain(pipe, max int) (n int, more bool, err error) {
	avail, err := unix.IoctlGetInt(pipe, unix.TIOCINQ)
	if err != nil {
		return 0, false, fmt.Errorf("cannot read the pipe of %s: %w", s.stream, err)
	}
	now := s.dir.now()
	if avail > 0 || s.unmarked > 0 || s.staged && s.invalid == nil && s.onStage() {
		want := min(avail, max, Turn)
		s.beyond = max - want
		n, err = s.take(pipe, want, now)
		s.putLens()
	}
	blocked := err != nil && !s.policy.Drop
	s.pace.drained(s, pipe, avail, n, now, blocked)
	return n, (avail > n || s.pace.eager) && !blocked, err
}

// take is store with what Drop says about failure.
func (s *Sink) take(pipe, want int, now time.Time) (int, error) {
	if s.policy.Drop && s.fault != nil && now.Sub(s.faultAt) < retryEvery {
		n, err := s.discard(pipe, want)
		return n, firstError(err, s.fault)
	}
	n, err := s.store(pipe, want, now)
	if s.fault = err; err == nil {
		return n, nil
	}
	s.fault = fmt.Errorf("cannot write %s: %w", s.stream, err)
	s.faultAt = now
	if s.policy.Drop {
		k, err := s.discard(pipe, want-n)
		return n + k, firstError(err, s.fault)
	}
	return n, s.fault
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// store moves want bytes, which are in the pipe, to the file.
func (s *Sink) store(pipe, want int, now time.Time) (n int, err error) {
	if err := s.ready(now); err != nil {
		return 0, err
	}
	recalled, err := s.recall(pipe)
	if want -= recalled; err != nil {
		return 0, err
	}
	if err := s.tellDropped(now); err != nil {
		return 0, err
	}
	for n < want {
		if err := s.tellFormat(now); err != nil { // of each new file
			return n, err
		}
		var k int
		switch {
		case s.copying:
			k, err = s.plainCopy(pipe, want-n, now)
		case s.stamped:
			k, err = s.copy(pipe, want-n, now)
		default:
			k, err = s.move(pipe, want-n, now)
		}
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}

// move moves a part of left bytes by splice, and puts the file aside when it
// is full. It returns 0 without an error only when it did the latter.
func (s *Sink) move(pipe, left int, now time.Time) (int, error) {
	room := s.room(now)
	switch {
	case int64(left) <= room:
	case room > lookMax: // not yet near the end
		left = int(room - lookMax)
	default:
		return s.cut(pipe, left, int(max(room, 0)), now)
	}
	if s.pace.fast {
		return s.carry(pipe, left, max(left, int(min(int64(left+s.beyond), room-lookMax))))
	}
	return s.splice(pipe, left)
}

// room is how many bytes the live file may still get; at most 0: none.
func (s *Sink) room(now time.Time) int64 {
	if now.Before(s.noRotate) {
		return math.MaxInt64
	}
	if p := s.policy; p.RotateAge > 0 && s.pos > 0 && now.Sub(s.age()) >= p.RotateAge {
		return 0
	}
	if s.policy.RotateBytes <= 0 {
		return math.MaxInt64
	}
	return s.policy.RotateBytes - s.pos
}

// splice moves n bytes that are in the pipe to the end of the file. The kernel
// takes them out of the pipe only as they reach the file, in one system call:
// being killed at any instruction neither loses nor repeats one.
func (s *Sink) splice(pipe, n int) (int, error) {
	done, err := spliceAll(pipe, s.fd, s.pos, n)
	s.pos, s.off = s.pos+int64(done), s.off+int64(done)
	if done == 0 && errors.Is(err, unix.EINVAL) {
		s.copying, err = true, nil
	}
	return done, err
}

// spliceAll moves n bytes that are in the pipe to a place in a file.
func spliceAll(pipe, fd int, at int64, n int) (done int, err error) {
	for done < n {
		k, err := unix.Splice(pipe, nil, fd, &at, n-done, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return done, err
		case k == 0:
			return done, errVanished
		}
		done += int(k) // the kernel moved at as well
	}
	return done, nil
}

// SetPolicy changes the policy; it holds from the next Drain on.
func (s *Sink) SetPolicy(p Policy) { s.policy, s.full = p, fullness{} }

// BeginRun says whose bytes come from now on. It costs nothing until the first
// of them: the index gets its record then. Call it before the first Drain of
// the run, and again for the same run after the keeper was restarted.
func (s *Sink) BeginRun(run uint64) {
	if run != s.run {
		s.run, s.marked = run, false
		s.indexed = time.Time{}
	}
	s.pace.renew(s)
}

// EndRun says that the run's main process ended and its pipe was drained. What
// its descendants still write counts as the run's until the next BeginRun.
func (s *Sink) EndRun() {
	if s.marked && s.known {
		s.mark(record{kind: kindEnd}, s.dir.now())
	}
}

// Device is where the file is, as far as is known: what makes one writer there
// wait may make others wait.
func (s *Sink) Device() uint64 { return s.device }

// Offset is the number of the child's next byte, as far as this process knows: 0
// before the first Drain.
func (s *Sink) Offset() int64 { return s.off }

// Dropped is how many bytes this sink has dropped.
func (s *Sink) Dropped() int64 { return s.dropped }

// Idle closes what is open until the next Drain; the rest is under 1 KiB.
func (s *Sink) Idle() {
	s.pace.rest(s)
	s.closeFile()
	s.closeStage()
	s.closeDrop()
	s.checked = time.Time{}
	if len(s.segs) > idleSegments { // the next Drain reads the directory again
		s.dir.unlist(s.program)
		s.segs, s.known = nil, false
	}
}

// idleSegments bounds what an idle sink remembers of its put aside files.
const idleSegments = 32

// Close ends the sink; Dir.Sink makes a new one.
func (s *Sink) Close() {
	s.Idle()
	if s.known {
		s.dir.giveBack(s.stream, s.segs)
	}
	s.dir.mu.Lock()
	defer s.dir.mu.Unlock()
	delete(s.dir.sinks, s.key)
}

func (s *Sink) closeFile() {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
		s.fd = -1
	}
}
