package keeper

import (
	"errors"
	"fmt"

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
type poller struct {
	fd     int
	gen    int32
	slots  []slot
	events [256]unix.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make an epoll set: %w", err)
	}
	return &poller{fd: fd}, nil
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
		unix.Close(fd)
	}
}

// wait returns what is ready; timeout is in milliseconds, -1 for ever.
func (p *poller) wait(timeout int) ([]unix.EpollEvent, error) {
	n, err := unix.EpollWait(p.fd, p.events[:], timeout)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return nil, fmt.Errorf("cannot wait for events: %w", err)
	}
	return p.events[:max(n, 0)], nil
}

// dispatch hands an event to its handler, unless that watch has ended since.
func (p *poller) dispatch(k *keeper, ev unix.EpollEvent) {
	if s := p.slots[ev.Fd]; s.h != nil && s.gen == ev.Pad {
		s.h.ready(k, ev.Events)
	}
}
