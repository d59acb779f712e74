package output

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// lens looks at bytes in a pipe with tee(2), which takes none.
type lens struct {
	pipe [2]int
	buf  []byte
}

// spareMost is how many lenses are kept that nobody needs.
const spareMost = 2

// look returns a copy of the next bytes in the pipe, at most n, without taking
// them. The slice is good until the next call.
func (s *Sink) look(pipe, n int) ([]byte, error) {
	if err := s.needLens(); err != nil {
		return nil, err
	}
	data, left, err := s.lens.look(pipe, n)
	if left {
		s.dropLens()
	}
	return data, err
}

func (s *Sink) needLens() (err error) {
	if s.lens == nil {
		s.lens, err = s.dir.takeLens()
	}
	return err
}

// dropLens is for one in which something stayed: it would be taken for the next
// look's.
func (s *Sink) dropLens() {
	s.lens.close()
	s.lens = nil
}

// look says with left that something stayed in the lens.
func (l *lens) look(pipe, n int) (data []byte, left bool, err error) {
	n = min(n, len(l.buf))
	got, err := unix.Tee(pipe, l.pipe[1], n, unix.SPLICE_F_NONBLOCK)
	if err != nil {
		return nil, false, err
	}
	data = l.buf[:got]
	for done := 0; done < len(data); {
		k, err := unix.Read(l.pipe[0], data[done:])
		if err != nil && !errors.Is(err, unix.EINTR) || k == 0 {
			return nil, true, fmt.Errorf("cannot look into a pipe: %w", err)
		}
		done += max(0, k)
	}
	return data, false, nil
}

func (l *lens) close() {
	_ = unix.Close(l.pipe[0])
	_ = unix.Close(l.pipe[1])
}

func (d *Dir) takeLens() (*lens, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.spare); n > 0 {
		l := d.spare[n-1]
		d.spare = d.spare[:n-1]
		return l, nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	// A failure only makes looks shorter. There is room for pages that are half
	// full; memory is taken for as many pages as are in it.
	_, _ = unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, 2*carryMost)
	return &lens{p, make([]byte, 2*lookMax)}, nil
}

// putLens gives the lens back when a Drain is over.
func (s *Sink) putLens() {
	l := s.lens
	if l == nil {
		return
	}
	s.lens = nil
	d := s.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.spare) < spareMost {
		d.spare = append(d.spare, l)
		return
	}
	l.close()
}

// consume takes n bytes out of the pipe and drops them.
func (d *Dir) consume(pipe, n int) (int, error) {
	null, err := d.nullDevice()
	if err != nil {
		return 0, err
	}
	done := 0
	for done < n {
		k, err := unix.Splice(pipe, nil, null, nil, n-done, unix.SPLICE_F_NONBLOCK)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return done, err
		case k == 0:
			return done, errVanished
		}
		done += int(k)
	}
	return done, nil
}

func (d *Dir) nullDevice() (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.null < 0 {
		fd, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, fmt.Errorf("cannot open the null device: %w", err)
		}
		d.null = fd
	}
	return d.null, nil
}

// tellFormat has the index know how the file goes on, before it does.
func (s *Sink) tellFormat(now time.Time) error {
	if s.stamped == s.policy.Timestamps {
		return nil
	}
	s.stamped = !s.stamped
	if s.mark(record{kind: kindFormat}, now); s.indexFault != nil {
		s.stamped = !s.stamped
		return s.indexFault
	}
	return nil
}

// write puts all of b at the end of the file, or nothing.
func (s *Sink) write(b []byte) error {
	if err := pwriteFull(s.fd, b, s.pos); err != nil {
		return errors.Join(err, unix.Ftruncate(s.fd, s.pos))
	}
	s.pos += int64(len(b))
	return nil
}
