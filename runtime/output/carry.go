package output

import (
	"errors"

	"golang.org/x/sys/unix"
)

const (
	// carryMost is how much goes by carry at once: what a lens holds.
	carryMost = 2 * lookMax
	// scratchSize is how much is read over and over to take bytes out of a pipe:
	// it stays in the first cache.
	scratchSize = 32 << 10
)

// carry is splice for a writer that is fast. A splice to a file holds the lock of
// the pipe as long as it copies, so that its writer and we work by turns. Here
// the pages go to a second pipe first, by tee(2), which takes no byte and no
// time; from there to the file, while the writer goes on; then they are taken out.
// Killed before that, the next process finds them in both, and knows it from the
// witness and the end of the file (see recall).
func (s *Sink) carry(pipe, n int) (int, error) {
	e := s.pace.witnessed(s, pipe)
	if e == nil || s.needLens() != nil {
		return s.splice(pipe, n)
	}
	l := s.lens
	got, err := unix.Tee(pipe, l.pipe[1], min(n, carryMost), unix.SPLICE_F_NONBLOCK)
	if err != nil || got <= 0 {
		return s.splice(pipe, n)
	}
	if e.begin(s.off) != nil {
		s.dropLens() // with what is in it
		return s.splice(pipe, n)
	}
	done, err := s.splice(l.pipe[0], int(got))
	if done < int(got) {
		s.dropLens()
	}
	if done == 0 {
		e.end()
		return 0, err
	}
	var last [1]byte
	if k, _ := preadFull(s.fd, last[:], s.pos-1); k == 0 {
		e.end()
		_, gone := s.dir.consume(pipe, done)
		return done, errors.Join(err, gone)
	}
	return done, firstError(err, s.takeOut(pipe, e, l.buf[:scratchSize], done, last[0]))
}

// takeOut takes n bytes out of the pipe which are in the file, too; the last of
// them is last.
func (s *Sink) takeOut(pipe int, e *entry, scratch []byte, n int, last byte) error {
	_ = e.aim(last) // the page is there: see begin
	var all [carryMost/scratchSize + 1][]byte
	list := all[:0]
	for left := n - 1; left > 0; left -= len(list[len(list)-1]) {
		list = append(list, scratch[:min(left, scratchSize)])
	}
	list = append(list, e.target())
	got, err := unix.Readv(pipe, list)
	for errors.Is(err, unix.EINTR) {
		got, err = unix.Readv(pipe, list)
	}
	if got == n {
		return nil
	}
	// Somebody reads the pipe, or cut the witness.
	e.end()
	_, err = s.dir.consume(pipe, n-max(got, 0))
	return err
}

// recall takes out of a pipe what a former process had brought to the file and
// not taken out. It says how much that is.
func (s *Sink) recall(pipe int) (int, error) {
	e := s.dir.witness.doubted(pipe)
	if e == nil {
		return 0, nil
	}
	n := s.off - e.head
	if n <= 0 || n > carryMost {
		e.free()
		return 0, nil
	}
	data, err := s.look(pipe, int(n))
	if err != nil {
		return 0, err
	}
	if len(data) == int(n) {
		err = s.takeOut(pipe, e, make([]byte, scratchSize), len(data), data[n-1])
	}
	e.free()
	return len(data), err
}

// acquit is for bytes that are dropped instead.
func (s *Sink) acquit(pipe int) {
	if e := s.dir.witness.doubted(pipe); e != nil {
		e.free()
	}
}
