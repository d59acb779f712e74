package keeper

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// watch has a pipe served whenever there is something in it.
func (m *mover) watch(f *flow) error {
	m.gen++
	for len(m.slots) <= f.pipe {
		m.slots = append(m.slots, flowSlot{})
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(f.pipe), Pad: m.gen}
	if err := unix.EpollCtl(m.ep, unix.EPOLL_CTL_ADD, f.pipe, &ev); err != nil {
		return fmt.Errorf("cannot watch descriptor %d: %w", f.pipe, err)
	}
	m.slots[f.pipe] = flowSlot{f, m.gen}
	f.armed = true
	return nil
}

// arm has the kernel tell when there is something in a pipe; where it cannot,
// somebody looks again.
func (m *mover) arm(f *flow) {
	switch {
	case f.armed:
	case m.slots[f.pipe].f != f:
		if m.watch(f) != nil {
			m.plan(f, sinceBegan()+int64(retryFirst))
		}
	default:
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(f.pipe), Pad: m.slots[f.pipe].gen}
		f.armed = unix.EpollCtl(m.ep, unix.EPOLL_CTL_MOD, f.pipe, &ev) == nil
	}
}

// ignore ends the watch of a pipe that is looked at by the clock until it is
// armed again. Even one that nobody waits for costs its writer a tenth of each
// small write: the kernel calls whoever watches, and only then sees that nothing
// is asked for.
func (m *mover) ignore(f *flow) {
	if m.slots[f.pipe].f == f {
		_ = unix.EpollCtl(m.ep, unix.EPOLL_CTL_DEL, f.pipe, nil)
		m.slots[f.pipe] = flowSlot{}
	}
	f.armed = false
}

// unwatch must come before the close.
func (m *mover) unwatch(f *flow) {
	if f.pipe >= 0 && f.pipe < len(m.slots) {
		m.ignore(f)
	}
	if f.index >= 0 && len(f.todo) == 0 {
		m.due.drop(f)
	}
}
