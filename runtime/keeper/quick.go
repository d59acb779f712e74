package keeper

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// System calls that wait for nothing but the processor. They go to the kernel past
// Go's scheduler, which after an idle time wakes a thread of its own at the next
// system call: on the one processor that a chain of wakes runs on, that thread
// comes before whoever waits for our news. Nothing that a disk, a program or
// another machine may hold up belongs here: it would hold up all of us.

// quick makes a call again that a signal interrupted.
func quick(trap, a, b, c uintptr) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(trap, a, b, c)
		if errno == 0 {
			return int(n), nil
		}
		if errno != unix.EINTR {
			return -1, errno
		}
	}
}

// quickOpen opens one of the kernel's own files for reading.
func quickOpen(path string) (int, error) { return quickOpenAt(unix.AT_FDCWD, path) }

// quickOpenAt is quickOpen for a path below the directory dir.
func quickOpenAt(dir int, path string) (int, error) {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return -1, err
	}
	for {
		fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(name)), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
		if errno == 0 {
			return int(fd), nil
		}
		if errno != unix.EINTR {
			return -1, errno
		}
	}
}

// quickRead reads one of the kernel's own files, or a descriptor that never
// blocks; b is not empty.
func quickRead(fd int, b []byte) (int, error) {
	return quick(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
}

// quickReadAgain is quickRead from the file's beginning.
func quickReadAgain(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// quickClose closes a descriptor of the kernel's own. It is closed also when a
// signal interrupts that, close(2).
func quickClose(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// quickSend sends to a socket what it takes at once; b is not empty.
func quickSend(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// quickReceive receives from a socket that never blocks what is there, with the
// descriptors that came along; see recvmsg(2). room and rights are not empty.
func quickReceive(fd int, room, rights []byte) (n, nrights, flags int, err error) {
	iov := unix.Iovec{Base: &room[0]}
	iov.SetLen(len(room))
	msg := unix.Msghdr{Iov: &iov, Control: &rights[0]}
	msg.SetIovlen(1)
	msg.SetControllen(len(rights))
	got, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_CMSG_CLOEXEC)
	if errno != 0 {
		return 0, 0, 0, errno
	}
	return int(got), int(msg.Controllen), int(msg.Flags), nil
}

// quickPoll reports whether there is something to read now.
func quickPoll(fd int) (bool, error) {
	fds := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	var now unix.Timespec
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	if errno != 0 {
		return false, errno
	}
	return n != 0 && fds.Revents&unix.POLLIN != 0, nil
}

// quickEvents is what is ready in an epoll set; events is not empty.
func quickEvents(fd int, events []unix.EpollEvent) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 && errno != unix.EINTR {
		return 0, errno
	}
	return max(0, int(n)), nil
}

// quickWait is waitid(2) with WNOHANG.
func quickWait(idType, id int, si *siginfo, options int, used *unix.Rusage) error {
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_WAITID, uintptr(idType), uintptr(id), uintptr(unsafe.Pointer(si)), uintptr(options|unix.WNOHANG), uintptr(unsafe.Pointer(used)), 0)
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return errno
		}
	}
}

// quickRemove removes a directory of the kernel's own.
func quickRemove(path string) error {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	at := unix.AT_FDCWD
	_, err = quick(unix.SYS_UNLINKAT, uintptr(at), uintptr(unsafe.Pointer(name)), unix.AT_REMOVEDIR)
	return err
}

// quickSignal is pidfd_send_signal(2).
func quickSignal(pidfd int, sig spec.Signal, flags int) error {
	if _, _, errno := unix.RawSyscall6(unix.SYS_PIDFD_SEND_SIGNAL, uintptr(pidfd), uintptr(sig), 0, uintptr(flags), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// quickPause lets go of the processor for a moment: 50 us, which is how exact the
// kernel's timers are for us. It lets us go on once a child of vfork executes, but
// before that one has executed, and where both share a processor we came first,
// with all that we and control do about the start. Refused: sched_yield, which on
// a busy machine gives away a whole turn of everybody else's. Where somebody made
// our timers less exact (systemd's TimerSlackNSec) there is no pause.
func quickPause() {
	if slack, err := quick(unix.SYS_PRCTL, unix.PR_GET_TIMERSLACK, 0, 0); err != nil || slack > defaultSlack {
		return
	}
	least := unix.Timespec{Nsec: 1}
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&least)), 0, 0)
}

// BootTime is CLOCK_BOOTTIME in nanoseconds: what facts are dated in. For
// control, too, which asks with each of them, it goes past the scheduler.
func BootTime() int64 {
	var ts unix.Timespec
	_, _ = quick(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&ts)), 0) // cannot fail for this clock
	return ts.Nano()
}

// quickYield lets whoever waits for this processor have it first, sched_yield(2).
func quickYield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
