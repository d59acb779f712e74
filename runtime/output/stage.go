package output

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// A chunk whose bytes are changed on their way (a time before each line) cannot
// go to the file by splice. It goes by splice to a file of its own first, the
// stage, with a header that says where its result belongs:
//
//	0  offset of the first byte, 8 bytes
//	8  time, Unix ns, 8 bytes
//	16 offset of the live file's first byte, 8 bytes
//	24 size of the live file before, 8 bytes
//	32 the bytes as they were in the pipe
//
// Then the result is written to the live file, then the stage is emptied.
// Whoever finds a stage that is not empty, after a crash or a full disk, takes
// what is beyond that size back and writes the result again: every byte is
// in the file exactly once here too.
const (
	stageSuffix = ".stage"
	stageHeader = 32
	// stageMax is more than any stage of ours has.
	stageMax = stageHeader + 2*lookMax
)

func (st stream) stage() string { return st.base + stageSuffix }

// putOnStage moves n bytes from the pipe to the stage and says how many went.
func (s *Sink) putOnStage(pipe, n int, now time.Time) (int, error) {
	if err := s.openStage(); err != nil {
		return 0, err
	}
	var head []byte
	for _, v := range []int64{s.off, now.UnixNano(), s.start, s.pos} {
		head = order.AppendUint64(head, uint64(v))
	}
	if err := pwriteFull(s.stageFD, head, 0); err != nil {
		return 0, errors.Join(err, s.clearStage())
	}
	n, err := spliceAll(pipe, s.stageFD, stageHeader, n)
	if n == 0 && err != nil {
		err = errors.Join(err, s.clearStage())
	}
	s.staged = n > 0
	return n, err
}

func (s *Sink) openStage() error {
	if s.stageFD >= 0 {
		return nil
	}
	dir, err := s.dir.openProgram(s.program, false)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	fd, _, err := openRegular(dir, s.stage(), unix.O_RDWR)
	if errors.Is(err, errForeign) {
		if _, err = moveAside(dir, s.stage()); err == nil {
			err = unix.ENOENT
		}
	}
	if errors.Is(err, unix.ENOENT) {
		fd, err = s.dir.createAt(dir, s.stage())
	}
	if err != nil {
		return fmt.Errorf("cannot open %s: %w", s.path(s.stage()), err)
	}
	s.stageFD = fd
	return s.clearStage()
}

// onStage reports whether a chunk waits on the stage. It makes and opens
// nothing: most programs never have one.
func (s *Sink) onStage() bool {
	st, err := statAt(s.dir.root, s.path(s.stage()))
	s.staged = err == nil && st.Size > stageHeader
	return s.staged
}

// clearStage says that the chunk is in the file.
func (s *Sink) clearStage() error {
	s.staged = false
	return unix.Ftruncate(s.stageFD, 0)
}

func (s *Sink) closeStage() {
	if s.stageFD >= 0 {
		_ = unix.Close(s.stageFD)
		s.stageFD = -1
	}
}

// finishStage writes what is on the stage to the live file, which is open.
func (s *Sink) finishStage() error {
	if s.stageFD < 0 {
		fd, _, err := openRegular(s.dir.root, s.path(s.stage()), unix.O_RDWR)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, errForeign) {
			s.staged = false
			return nil
		}
		if err != nil {
			return err
		}
		s.stageFD = fd
	}
	b := make([]byte, stageMax)
	n, err := preadFull(s.stageFD, b, 0)
	if err != nil {
		return err
	}
	if n > stageHeader {
		if err := s.replay(b[:stageHeader], b[stageHeader:n]); err != nil {
			return err
		}
	}
	return s.clearStage()
}

// replay brings data from the stage to the end of the live file, which may have
// it already, or a part of it.
func (s *Sink) replay(head, data []byte) error {
	off, start, pos := int64(order.Uint64(head)), int64(order.Uint64(head[16:])), int64(order.Uint64(head[24:]))
	switch {
	case start == s.start && pos <= s.pos:
		if err := unix.Ftruncate(s.fd, pos); err != nil {
			return err
		}
		s.pos, s.off = pos, off
	case off+int64(len(data)) <= s.off: // in a file that was put aside or lost since
		return nil
	}
	out, _, _ := s.stamp(data, time.Unix(0, int64(order.Uint64(head[8:]))), false)
	if err := s.write(out); err != nil {
		return err
	}
	s.off += int64(len(data))
	return nil
}
