package output

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// look returns a copy of the next bytes in the pipe, at most n, without taking
// them. The slice is good until the next call.
func (d *Dir) look(pipe, n int) ([]byte, error) {
	if err := d.openScratch(); err != nil {
		return nil, err
	}
	n = min(n, len(d.buf))
	got, err := unix.Tee(pipe, d.scratch[1], n, unix.SPLICE_F_NONBLOCK)
	if err != nil {
		return nil, err
	}
	data := d.buf[:got]
	for done := 0; done < len(data); {
		k, err := unix.Read(d.scratch[0], data[done:])
		if err != nil && !errors.Is(err, unix.EINTR) || k == 0 {
			// What is left would be taken for the next look's.
			d.closeScratch()
			return nil, fmt.Errorf("cannot look into a pipe: %w", err)
		}
		done += max(0, k)
	}
	return data, nil
}

func (d *Dir) openScratch() error {
	if d.scratch[0] >= 0 {
		return nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("cannot make a pipe: %w", err)
	}
	d.scratch = p
	d.buf = make([]byte, 2*lookMax)
	// A failure only makes looks shorter.
	_, _ = unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, 4*lookMax)
	return nil
}

func (d *Dir) closeScratch() {
	_ = unix.Close(d.scratch[0])
	_ = unix.Close(d.scratch[1])
	d.scratch = [2]int{-1, -1}
}

// consume takes n bytes out of the pipe and drops them.
func (d *Dir) consume(pipe, n int) (int, error) {
	if d.null < 0 {
		fd, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("cannot open the null device: %w", err)
		}
		d.null = fd
	}
	done := 0
	for done < n {
		k, err := unix.Splice(pipe, nil, d.null, nil, n-done, unix.SPLICE_F_NONBLOCK)
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

// discard drops bytes and counts them.
func (s *Sink) discard(pipe, n int) (int, error) {
	done, err := s.dir.consume(pipe, n)
	s.dropped += int64(done)
	s.unmarked += int64(done)
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
	return nil
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
