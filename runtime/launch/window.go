package launch

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// window is a few low descriptors that carry what a child gets. The child
// shares our table of descriptors until its first system call, which gives it a
// table of its own with only those below the window's end: neither the copy
// nor the closing at exec then costs anything for the thousands of others that
// a keeper holds (90 of 180 ms for 1000 starts, before).
type window struct {
	mu   sync.Mutex
	once sync.Once
	null int    // what the slots hold while nobody uses them
	slot [4]int // our numbers for what becomes 0, 1, 2, and for the escrow
	end  int    // the first number that no child gets
	err  error
}

var low window

var lent = [4]string{"stdin", "stdout", "stderr", "the escrow"}

// reserve takes the slots, as low as can be at the first start.
func (w *window) reserve() {
	if w.null, w.err = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); w.err != nil {
		return
	}
	for i := range w.slot {
		if w.slot[i], w.err = unix.FcntlInt(uintptr(w.null), unix.F_DUPFD_CLOEXEC, 3); w.err != nil {
			return
		}
		w.end = max(w.end, w.slot[i]+1)
	}
}

// lend puts the descriptors of io into the window and returns their numbers
// there, and that of its escrow. The window is the caller's until it calls back.
func (w *window) lend(io Stdio) (_ Stdio, escrow int, back func(), err error) {
	w.once.Do(w.reserve)
	if w.err != nil {
		return io, -1, nil, &StepError{Step: "reserving descriptors", Errno: asErrno(w.err)}
	}
	escrow = -1
	if io.Escrow != nil {
		escrow = io.Escrow.Socket
	}
	w.mu.Lock()
	for i, fd := range []*int{&io.In, &io.Out, &io.Err, &escrow} {
		if *fd < w.end {
			continue
		}
		if err := unix.Dup3(*fd, w.slot[i], unix.O_CLOEXEC); err != nil {
			w.empty()
			return io, -1, nil, &StepError{Step: "passing " + lent[i], Errno: asErrno(err)}
		}
		*fd = w.slot[i]
	}
	return io, escrow, w.empty, nil
}

// empty lets go of what was lent: a pipe's end that we held would never end.
func (w *window) empty() {
	for _, slot := range w.slot {
		for unix.Dup3(w.null, slot, unix.O_CLOEXEC) == syscall.EINTR { //nolint:errorlint // an errno as it is
			continue
		}
	}
	w.mu.Unlock()
}
