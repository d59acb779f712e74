package output

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// batch is the longest that bytes wait in a pipe so that more come along; of
	// a pipe that is loud, longMost: loudRate or more, bytes a second.
	batch    = time.Millisecond
	longMost = 8 * time.Millisecond
	loudRate = 4 << 20
	// fastRate or more, bytes a second, and a pipe is moved by carry. It is expected
	// to come again, less and less for about fastMemory: its writer may only wait
	// for a processor.
	fastRate   = 100 << 20
	fastMemory = 50 * time.Millisecond
	// tooShort is a wait that costs more than it saves.
	tooShort = 60 * time.Microsecond
	// The wait after a failure, doubled up to the latter.
	backoffMin = 20 * time.Millisecond
	backoffMax = time.Second

	pipeDefault = 64 << 10
	pipeSome    = 256 << 10 // for each of many
	pipeMax     = 1 << 20   // for a few
	// grownMax bounds what the pipes of a process get beyond their default,
	// together: kernel memory, and for an ordinary user a share of what he may
	// have in all (pipe-user-pages-soft: 64 MiB).
	grownMax = 32 << 20
)

// pace decides how long a pipe is left alone, and how large it is. A wake-up
// costs the same for one byte as for a quarter of a pipe.
type pace struct {
	pipe     int
	inode    uint64 // of the pipe, once it got larger
	more     int64  // bytes it got
	refused  bool   // it cannot get larger
	capacity int
	last     time.Time // when the pipe was empty
	moved    int       // bytes since then
	most     int       // that were found in it since then
	delay    time.Duration
	peak     float64   // the highest rate of late, of much, less with time
	peaked   time.Time // when that was
	fast     bool      // it is fastRate
	left     int       // that carry found in it at last
	eager    bool      // look again at once
	entry    *entry    // of the witness; nil: none, or not yet
	unproven bool      // there is none to be had
}

// Delay is how long to leave the pipe alone after the last Drain: 0 to poll it
// at once, up to 1 ms when much comes, longer after an error.
func (s *Sink) Delay() time.Duration { return s.pace.delay }

// drained learns from one Drain that found avail bytes and took n; blocked: it
// could take no more.
func (p *pace) drained(s *Sink, pipe, avail, n int, now time.Time, blocked bool) {
	if p.capacity == 0 || p.pipe != pipe {
		p.forget(s)
		p.pipe, p.capacity = pipe, max(pipeSize(pipe), 1)
	}
	p.moved += n
	p.most = max(p.most, avail)
	left := p.left
	p.eager, p.left = false, 0
	if blocked {
		p.delay = min(max(2*p.delay, backoffMin), backoffMax)
		return
	}
	since := max(now.Sub(p.last), time.Microsecond)
	rate := float64(p.moved) / since.Seconds()
	if avail >= p.capacity/2 && since <= 2*longMost {
		p.grow(s, rate)
	}
	p.remember(rate, now)
	if avail > n {
		return // it is drained again at once
	}
	before, full := p.delay, p.most > p.capacity*3/4
	p.last, p.moved, p.most, p.delay = now, 0, 0, 0
	if p.eager = left >= eagerMin; p.eager {
		return
	}
	if rate == 0 || since > 2*longMost {
		return // the first after a pause goes at once
	}
	p.wait(rate, before, full)
}

// remember knows a fast writer also while it stops for a moment: by what comes
// then it would be left alone for so long that its pipe is full when it goes on.
func (p *pace) remember(rate float64, now time.Time) {
	p.peak *= max(0, 1-now.Sub(p.peaked).Seconds()/fastMemory.Seconds())
	p.peaked = now
	if p.moved >= eagerMin {
		p.peak = max(p.peak, rate)
	}
	p.fast = p.peak >= fastRate
}

// wait decides how long the pipe is left alone: until it is half full, if it goes
// on like this. If it was full, its writer may have waited: then the rate is ours,
// not its own.
func (p *pace) wait(rate float64, before time.Duration, full bool) {
	most := batch
	if rate >= loudRate {
		most = longMost
	}
	if p.fast {
		rate = p.peak
	}
	p.delay = time.Duration(min(most.Seconds(), float64(p.capacity/2)/rate) * float64(time.Second))
	switch {
	case full && p.fast:
		p.delay /= 2
	case full:
		p.delay = min(p.delay, before/2)
	}
	if p.delay < tooShort {
		p.delay = 0
	}
}

// grow gives a busy pipe more room, as far as the kernel and our bound allow: at
// first some, then, if that too is soon full, much.
func (p *pace) grow(s *Sink, rate float64) {
	size := pipeSome
	if p.capacity >= pipeSome {
		size = pipeMax
	}
	// Much only where it is half full before the longest wait is over.
	if p.capacity >= size || p.refused || size == pipeMax && rate*longMost.Seconds() < pipeMax/2 {
		return
	}
	more := int64(size - p.capacity)
	var st unix.Stat_t
	if unix.Fstat(p.pipe, &st) != nil || !s.dir.lend(more) {
		p.refused = true
		return
	}
	if _, err := unix.FcntlInt(uintptr(p.pipe), unix.F_SETPIPE_SZ, size); err != nil {
		p.refused = true
		s.dir.lend(-more)
		return
	}
	p.inode, p.more, p.capacity = st.Ino, p.more+more, size
}

// witnessed is the pipe's entry of the witness; nil: there is none.
func (p *pace) witnessed(s *Sink, pipe int) *entry {
	switch w := s.dir.witness; {
	case w == nil || p.unproven || p.pipe != pipe:
		return nil
	case p.entry == nil:
		var st unix.Stat_t
		if unix.Fstat(pipe, &st) == nil {
			p.entry = w.find(st.Ino, true)
		}
		p.unproven = p.entry == nil
	}
	return p.entry
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
	p.entry.free()
	*p = pace{}
}

func pipeSize(pipe int) int {
	n, err := unix.FcntlInt(uintptr(pipe), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return pipeDefault
	}
	return n
}
