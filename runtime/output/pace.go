package output

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// batch is the longest that bytes wait in a pipe so that more come along.
	batch = time.Millisecond
	// tooShort is a wait that costs more than it saves.
	tooShort = 100 * time.Microsecond
	// The wait after a failure, doubled up to the latter.
	backoffMin = 20 * time.Millisecond
	backoffMax = time.Second

	pipeDefault = 64 << 10
	pipeMax     = 1 << 20
	// grownMax bounds what the pipes of a process get beyond their default,
	// together: kernel memory, and for an ordinary user a share of what he may
	// have in all (pipe-user-pages-soft: 64 MiB).
	grownMax = 32 << 20
)

// pace decides how long a pipe is left alone, and how large it is. A wake-up
// costs the same for one byte as for a quarter of a pipe.
type pace struct {
	pipe     int
	inode    uint64 // of the pipe, once we tried to make it larger
	more     int64  // bytes it got
	capacity int
	last     time.Time
	delay    time.Duration
}

// Delay is how long to leave the pipe alone after the last Drain: 0 to poll it
// at once, up to 1 ms when much comes, longer after an error.
func (s *Sink) Delay() time.Duration { return s.pace.delay }

// drained learns from one Drain that found avail bytes; blocked: and left them.
func (p *pace) drained(s *Sink, pipe, avail int, now time.Time, blocked bool) {
	since := now.Sub(p.last)
	p.last = now
	if p.capacity == 0 || p.pipe != pipe {
		p.pipe, p.capacity = pipe, max(pipeSize(pipe), 1)
	}
	switch {
	case blocked:
		p.delay = min(max(2*p.delay, backoffMin), backoffMax)
		return
	case avail == 0 || since > 4*batch:
		p.delay = 0 // the first after a pause goes at once
		return
	}
	if avail >= p.capacity/2 {
		p.grow(s)
	}
	// When it will be a quarter full, if it goes on like this.
	p.delay = min(batch, time.Duration(float64(since)*float64(p.capacity/4)/float64(avail)))
	if p.delay < tooShort {
		p.delay = 0
	}
}

// grow gives a busy pipe the largest size that the kernel and our bound allow.
func (p *pace) grow(s *Sink) {
	more := int64(pipeMax - p.capacity)
	if p.capacity >= pipeMax || p.inode != 0 || !s.dir.lend(more) {
		return
	}
	var st unix.Stat_t
	if unix.Fstat(p.pipe, &st) == nil {
		p.inode = st.Ino // once, even if it fails
		if _, err := unix.FcntlInt(uintptr(p.pipe), unix.F_SETPIPE_SZ, pipeMax); err == nil {
			p.more, p.capacity = more, pipeMax
			return
		}
	}
	s.dir.lend(-more)
}

// lend books bytes for a pipe, if there are enough.
func (d *Dir) lend(more int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.grown+more > grownMax {
		return false
	}
	d.grown += more
	return true
}

// rest gives back what grow took, if it is still the same pipe.
func (p *pace) rest(s *Sink) {
	var st unix.Stat_t
	if p.more > 0 && unix.Fstat(p.pipe, &st) == nil && st.Ino == p.inode {
		// Refused while it is fuller than that: then it stays large.
		_, _ = unix.FcntlInt(uintptr(p.pipe), unix.F_SETPIPE_SZ, pipeDefault)
	}
	p.forget(s)
}

// renew is for a new run, whose pipe mostly is another one under the same
// number.
func (p *pace) renew(s *Sink) {
	var st unix.Stat_t
	if p.more == 0 || unix.Fstat(p.pipe, &st) != nil || st.Ino != p.inode {
		p.forget(s)
	}
}

// forget is rest for a pipe that is closed.
func (p *pace) forget(s *Sink) {
	if p.more > 0 {
		s.dir.lend(-p.more)
	}
	*p = pace{}
}

func pipeSize(pipe int) int {
	n, err := unix.FcntlInt(uintptr(pipe), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return pipeDefault
	}
	return n
}
