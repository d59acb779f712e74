package zmq

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// waker ends a poll(2) from any goroutine.
type waker struct {
	fd      int
	pending atomic.Bool
}

func newWaker() (*waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cannot make an eventfd: %w", err)
	}
	return &waker{fd: fd}, nil
}

// wake is one write for any number of calls before the next clear.
func (w *waker) wake() {
	if !w.pending.Swap(true) {
		_, _ = unix.Write(w.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // fails only at 2^64 wake-ups
	}
}

// clear comes before looking at what the wake-up was for. readable is whether
// poll found it so. Reading first and lowering the flag then loses no wake-up: a
// writer in between has put its thing where we look next.
func (w *waker) clear(readable bool) {
	if readable {
		var b [8]byte
		_, _ = unix.Read(w.fd, b[:])
	}
	w.pending.Store(false)
}

func (w *waker) close() { _ = unix.Close(w.fd) }

// yield lets whoever waits for this processor have it first, sched_yield(2).
func yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
