package keeper

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// handler is whoever a descriptor's events are for.
type handler interface {
	ready(k *keeper, events uint32)
}

// slot is what is watched at one descriptor number. gen tells an event of this
// watch from one of a descriptor that had the same number earlier in the turn.
type slot struct {
	h   handler
	gen int32
}

// poller is one epoll set. Descriptor numbers are small and dense, so the table
// is a slice.
//
// It is not waited for in the kernel itself but by Go's own poller, in which the
// set is one descriptor. A goroutine that waits in a system call has to get its
// processor back afterwards, and wakes a thread of the runtime for that, which
// then runs before whoever waits for our news, and fifty times more.
type poller struct {
	fd     int
	file   *os.File
	raw    syscall.RawConn
	gen    int32
	slots  []slot
	events [256]unix.EpollEvent
	// look asks the kernel without waiting: n and err are what it said.
	look func(fd uintptr) bool
	n    int
	err  error
	// until is when the wait ends at the latest, by CLOCK_MONOTONIC as time.Now has
	// it; zero is never.
	until time.Time
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make an epoll set: %w", err)
	}
	p := &poller{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return nil, fmt.Errorf("cannot watch an epoll set: %w", err)
	}
	p.look = func(fd uintptr) bool {
		p.n, p.err = quickEvents(int(fd), p.events[:])
		return p.n != 0 || p.err != nil
	}
	return p, nil
}

// add watches fd until remove. EPOLLHUP and EPOLLERR come always.
func (p *poller) add(fd int, events uint32, h handler) error {
	p.gen++
	ev := unix.EpollEvent{Events: events, Fd: int32(fd), Pad: p.gen}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("cannot watch descriptor %d: %w", fd, err)
	}
	for len(p.slots) <= fd {
		p.slots = append(p.slots, slot{})
	}
	p.slots[fd] = slot{h, p.gen}
	return nil
}

// change sets the events that fd is watched for.
func (p *poller) change(fd int, events uint32) {
	ev := unix.EpollEvent{Events: events, Fd: int32(fd), Pad: p.slots[fd].gen}
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, fd, &ev) // it is watched, so there is nothing to fail
}

// remove ends the watch; it must come before the close.
func (p *poller) remove(fd int) {
	if fd < 0 || fd >= len(p.slots) || p.slots[fd].h == nil {
		return
	}
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil)
	p.slots[fd] = slot{}
}

// removeClose ends the watch of fd and closes it; -1 is nothing.
func (p *poller) removeClose(fd int) {
	if fd >= 0 {
		p.remove(fd)
		quickClose(fd)
	}
}

// wait returns what is ready; timeout is in milliseconds, -1 for ever. It may
// return nothing sooner.
func (p *poller) wait(timeout int) ([]unix.EpollEvent, error) {
	if timeout == 0 {
		p.look(uintptr(p.fd))
	} else {
		p.limit(timeout)
		p.n, p.err = 0, nil
		if err := p.raw.Read(p.look); errors.Is(err, os.ErrDeadlineExceeded) {
			p.until = time.Time{}
			_ = p.file.SetReadDeadline(p.until)
		} else if err != nil {
			p.err = err
		}
	}
	if p.err != nil {
		return nil, fmt.Errorf("cannot wait for events: %w", p.err)
	}
	return p.events[:p.n], nil
}

// limit has the wait end after timeout. One that ends sooner is left as it is: to
// wake once for nothing costs less than to set it each time.
func (p *poller) limit(timeout int) {
	if timeout < 0 {
		return
	}
	at := time.Now().Add(time.Duration(timeout) * time.Millisecond)
	if p.until.IsZero() || at.Before(p.until) {
		p.until = at
		_ = p.file.SetReadDeadline(at)
	}
}

// dispatch hands an event to its handler, unless that watch has ended since.
func (p *poller) dispatch(k *keeper, ev unix.EpollEvent) {
	if s := p.slots[ev.Fd]; s.h != nil && s.gen == ev.Pad {
		s.h.ready(k, ev.Events)
	}
}
