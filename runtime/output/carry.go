package output

// #include "carry.h"
import "C"

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// carryMost is how much goes by carry at once. Each taking out from a full pipe
	// wakes its writer, mostly on our own processor: 128 KiB cost a tenth of the
	// speed.
	carryMost = 512 << 10
	// eagerMin is how much must be in a pipe for carry to go on at once.
	eagerMin = 32 << 10
)

// carry is splice for a writer that is fast. A splice to a file holds the lock of
// the pipe as long as it copies, so that its writer and we work by turns. Here
// the pages go to a second pipe first, by tee(2), which takes no byte and no
// time; from there to the file, while the writer goes on; then they are taken out.
// Killed before that, the next process finds them in both, and knows it from the
// witness and the end of the file (see recall). It moves more than n bytes, but no
// more than most, while there are many.
func (s *Sink) carry(pipe, n, most int) (int, error) {
	e := s.pace.witnessed(s, pipe)
	if e == nil || s.needLens() != nil {
		return s.splice(pipe, n)
	}
	c := s.carrying(pipe, e)
	c.most, c.chunk, c.least = C.int64_t(most), carryMost, eagerMin
	c.lens = [2]C.int{C.int(s.lens.pipe[0]), C.int(s.lens.pipe[1])}
	code := C.pn_carry(&c)
	if c.rest != 0 {
		s.dropLens()
	}
	done := int(c.done)
	if done == 0 { // then splice says why, or knows how
		return s.splice(pipe, n)
	}
	s.pos, s.off, s.pace.left = int64(c.pos), int64(c.off), int(c.left)
	return done, carryError(code)
}

// carrying is what carry.c must know of the sink.
func (s *Sink) carrying(pipe int, e *entry) C.struct_pn_carry {
	return C.struct_pn_carry{
		pipe: C.int(pipe), file: C.int(s.fd), witness: C.int(e.w.fd),
		inode: C.uint64_t(e.inode), entry: C.int64_t(e.at), target: (*C.uchar)(unsafe.Pointer(e.target())),
		pos: C.int64_t(s.pos), off: C.int64_t(s.off),
	}
}

func carryError(code C.int) error {
	switch code {
	case 0:
		return nil
	case C.PN_VANISHED:
		return errVanished
	}
	return unix.Errno(code)
}

// recall takes out of a pipe what a former process had brought to the file and
// not taken out. It says how much that is.
func (s *Sink) recall(pipe int) (int, error) {
	e := s.dir.witness.doubted(pipe)
	if e == nil {
		return 0, nil
	}
	defer e.free()
	n := s.off - e.head
	found, err := unix.IoctlGetInt(pipe, unix.TIOCINQ)
	if err != nil || n <= 0 || n > carryMost || n > int64(found) {
		return 0, nil
	}
	return int(n), s.takeOut(pipe, e, n)
}

// takeOut takes n bytes out of the pipe that are the file's last, too.
func (s *Sink) takeOut(pipe int, e *entry, n int64) error {
	c := s.carrying(pipe, e)
	return carryError(C.pn_carry_take_out(&c, C.int64_t(n)))
}

// acquit is for bytes that are dropped instead.
func (s *Sink) acquit(pipe int) {
	if e := s.dir.witness.doubted(pipe); e != nil {
		e.free()
	}
}
