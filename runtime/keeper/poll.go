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
// It is not waited for in the kernel itself but by Go's own poller. A goroutine
// that waits in a system call has to get its processor back afterwards, and wakes
// a thread of the runtime for that, which then runs before whoever waits for our
// news, and fifty times more. Between the two is the gate, a set of which ours is
// the only member: it opens once for each wait, so that what comes while the loop
// works wakes nobody.
type poller struct {
	fd     int
	gateFD int
	gate   *os.File
	raw    syscall.RawConn // the gate's
	opened func(gate uintptr) bool
	gen    int32
	slots  []slot
	events [256]unix.EpollEvent
	// timer ends a wait at until, by k.now; 0 is never. It is the kernel's: one of
	// Go's would have another thread wait for it, and not the one that is awake.
	timer int
	until int64
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make an epoll set: %w", err)
	}
	p := &poller{fd: fd, gateFD: -1, timer: -1}
	if err := p.build(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// build makes the gate and the timer.
func (p *poller) build() (err error) {
	if p.gateFD, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		err = errors.Join(unix.SetNonblock(p.gateFD, true), unix.EpollCtl(p.gateFD, unix.EPOLL_CTL_ADD, p.fd, &unix.EpollEvent{}))
	}
	if err != nil {
		return fmt.Errorf("cannot make an epoll set: %w", err)
	}
	p.gate = os.NewFile(uintptr(p.gateFD), "epoll")
	if p.raw, err = p.gate.SyscallConn(); err != nil {
		return fmt.Errorf("cannot watch an epoll set: %w", err)
	}
	if p.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return fmt.Errorf("cannot make a timer: %w", err)
	}
	p.opened = func(gate uintptr) bool {
		var through [1]unix.EpollEvent
		n, err := quickEvents(int(gate), through[:])
		return n > 0 || err != nil
	}
	return p.add(p.timer, unix.EPOLLIN, p)
}

func (p *poller) close() {
	closeSome(p.fd, p.timer)
	if p.gate != nil {
		_ = p.gate.Close()
	} else {
		closeSome(p.gateFD)
	}
}

// ready is the timer's.
func (p *poller) ready(*keeper, uint32) {
	var times [8]byte
	_, _ = quickRead(p.timer, times[:])
	p.until = 0
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
	n, err := quickEvents(p.fd, p.events[:])
	if n == 0 && err == nil && timeout != 0 {
		if err = p.sleep(timeout); err == nil {
			n, err = quickEvents(p.fd, p.events[:])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot wait for events: %w", err)
	}
	return p.events[:n], nil
}

// sleep waits until something is ready.
func (p *poller) sleep(timeout int) error {
	p.limit(timeout)
	once := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT}
	if err := unix.EpollCtl(p.gateFD, unix.EPOLL_CTL_MOD, p.fd, &once); err != nil {
		return err
	}
	return p.raw.Read(p.opened)
}

// limit has the wait end after timeout. One that ends sooner is left as it is: to
// wake once for nothing costs less than to set it each time.
func (p *poller) limit(timeout int) {
	if timeout < 0 {
		return
	}
	after := time.Duration(timeout) * time.Millisecond
	if at := sinceBegan() + int64(after); p.until == 0 || at < p.until {
		p.until = at
		setTimer(p.timer, after)
	}
}

// dispatch hands an event to its handler, unless that watch has ended since.
func (p *poller) dispatch(k *keeper, ev unix.EpollEvent) {
	if s := p.slots[ev.Fd]; s.h != nil && s.gen == ev.Pad {
		s.h.ready(k, ev.Events)
	}
}
