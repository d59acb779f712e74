package keeper

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/spec"
)

// How a child ended: si_code of waitid(2).
const (
	cldExited = 1
	cldKilled = 2
	cldDumped = 3
)

// ending is what the kernel says about the end of a process.
type ending struct {
	pid, code int
	signal    spec.Signal
	core      bool
	unknown   bool
	cpu, peak int64 // nanoseconds, bytes
}

// siginfo is unix.Siginfo with the part that waitid fills in. The union starts
// at the alignment of a pointer.
type siginfo struct {
	signo, errno, code int32
	_                  [0]uintptr
	pid                int32
	uid                uint32
	status             int32
	_                  [100]byte
}

// wait asks for the end of a child. ok is false while there is none.
func wait(idType, id, options int) (e ending, ok bool, err error) {
	var si siginfo
	var used unix.Rusage
	err = quickWait(idType, id, &si, unix.WEXITED|options, &used)
	if err != nil || si.pid == 0 {
		return ending{}, false, err
	}
	e.pid = int(si.pid)
	e.cpu, e.peak = used.Utime.Nano()+used.Stime.Nano(), used.Maxrss<<10
	if si.code == cldExited {
		e.code = int(si.status)
		return e, true, nil
	}
	e.code, e.signal, e.core = -1, spec.Signal(si.status), si.code == cldDumped
	return e, true, nil
}

// waitFor waits until a child ends.
func waitFor(pidfd int) (ending, bool, error) {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != unix.EINTR {
			return wait(unix.P_PIDFD, pidfd, 0)
		}
	}
}

// youngDeath is how young a process dies by KILL whose cgroup is suspected to
// have been killed by somebody.
const youngDeath = 50 * time.Millisecond

// mainGone takes note that a run's main process has ended. What follows comes
// with tellEnds, once all are reaped that ended together.
func (k *keeper) mainGone(r *run) {
	if r.ended {
		return
	}
	e, ok := k.collect(r)
	if !ok {
		return
	}
	delete(k.mains, r.pid)
	delete(k.exiting, r)
	k.spent = append(k.spent, r.pidfd) // control need not wait until it is closed
	r.pidfd, r.ended = -1, true
	crashpoint.Here(crashpoint.ExitReaped)
	f := r.fact(FactExited)
	f.Code, f.Signal, f.Core, f.Unknown = e.code, e.signal, e.core, e.unknown
	f.CPUNS, f.PeakBytes = e.cpu, e.peak
	f.OutOfMemory = e.signal == spec.SIGKILL && k.box.ranOut(r)
	r.exit, r.telling = &f, true
	k.childless = false // who was below it is ours now
	k.ended = append(k.ended, r)
}

// tellEnds goes on with the runs whose main process was reaped in this turn: their
// output is moved first, then the end is told, then whether anybody is left.
func (k *keeper) tellEnds() {
	for _, r := range k.ended {
		k.emptyPipes(r.in, func() { k.tellEnd(r) })
	}
	clear(k.ended)
	k.ended = k.ended[:0]
}

// tellEnd tells the end of a run's main process, whose output was moved.
func (k *keeper) tellEnd(r *run) {
	r.telling = false
	crashpoint.Here(crashpoint.ExitMoved)
	f := *r.exit
	var empty bool
	f.Left, empty = k.box.left(r)
	if f.Signal == spec.SIGKILL && f.AtNS-r.started < int64(youngDeath) {
		r.in.killed = true
	}
	r.exit = &f
	k.gone = append(k.gone, r) // its output's index gets its mark after the news is out
	k.tell(f)
	if empty {
		k.setEmpty(r)
	} else {
		k.lookEmpty(r)
	}
}

// collect reaps a child, or learns how an adopted process ended.
func (k *keeper) collect(r *run) (ending, bool) {
	if r.adopted {
		return k.collectAdopted(r)
	}
	e, ok, err := wait(unix.P_PIDFD, r.pidfd, 0)
	if errors.Is(err, unix.ECHILD) { // somebody else reaped it: the kernel still tells how it ended
		r.adopted = true
		return k.collectAdopted(r)
	}
	if err != nil {
		k.log.Error("cannot learn how a process ended", "program", r.in.program, "instance", r.in.index, "pid", r.pid, "error", err)
		return ending{unknown: true}, true
	}
	if !ok && pollIn(r.pidfd, 0) {
		return k.collectTraced(r)
	}
	return e, ok
}

// collectTraced is for a child that has ended and is traced by somebody: until
// that one has looked, the kernel does not let us reap it, but lets root see how it
// ended. Once it does, the child is reaped as an orphan is.
func (k *keeper) collectTraced(r *run) (ending, bool) {
	if status, ok := zombieStatus(r.pid); ok {
		return endingOf(status), true
	}
	return k.askAgain(r)
}

// askAgain has the end of a run asked for a little later, and not for ever.
func (k *keeper) askAgain(r *run) (ending, bool) {
	if r.asks++; r.asks > askMost {
		return ending{unknown: true}, true
	}
	if r.asks == 1 {
		k.poll.remove(r.pidfd) // readable from now on
	}
	k.exiting[r] = struct{}{}
	k.set(alarmExit, askEvery)
	return ending{}, false
}

// lookEmpty tells when nobody is left of a run whose main process is gone, and
// otherwise sees to it that we learn of it.
func (k *keeper) lookEmpty(r *run) {
	if !r.emptied && r.ended && !r.telling && !r.leaving && k.box.empty(k, r) {
		r.leaving = true
		k.emptyPipes(r.in, func() { k.setEmpty(r) })
	}
}

// setEmpty takes note that nobody is left and all output was moved.
func (k *keeper) setEmpty(r *run) {
	if r.eventsFD >= 0 {
		k.poll.removeClose(r.eventsFD)
		r.eventsFD = -1
	}
	delete(k.dying, r)
	r.emptied, r.seen = true, nil
	crashpoint.Here(crashpoint.ExitEmptied)
	k.tell(r.fact(FactEmptied))
	k.over = append(k.over, r)
}

// reap takes note of every child that has ended. Those we know are reaped by
// their pidfd; the rest are orphans that became ours.
func (k *keeper) reap() {
	orphans := false
	for range 1 << 16 {
		e, ok, err := wait(unix.P_ALL, 0, unix.WNOWAIT)
		if err != nil || !ok {
			break
		}
		switch r := k.mains[e.pid]; {
		case r != nil:
			k.mainGone(r)
		case e.pid == k.ctl.pid:
			k.controlGone()
		default:
			orphans, k.childless = true, false
			_, _, _ = wait(unix.P_PID, e.pid, 0) // nobody asks how an orphan ended
		}
	}
	k.tellEnds()
	if orphans && len(k.dying) > 0 {
		k.set(alarmSweep, 0)
	}
}

// How often, and how long, the exit status of an adopted process is asked for:
// its own parent must reap it first.
const (
	askEvery = 20 * time.Millisecond
	askMost  = 250 // 5 s
)

// collectAdopted asks the kernel how a process ended that is no child of ours.
func (k *keeper) collectAdopted(r *run) (ending, bool) {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	err := unix.IoctlPidfdInfo(r.pidfd, &info)
	if err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
		return endingOf(unix.WaitStatus(info.Exit_code)), true
	}
	if status, ok := zombieStatus(r.pid); ok {
		return endingOf(status), true
	}
	if err == unix.ENOTTY {
		return ending{unknown: true}, true
	}
	return k.askAgain(r)
}

func (k *keeper) askExits() {
	for r := range k.exiting {
		k.mainGone(r)
	}
	k.tellEnds()
}

func endingOf(w unix.WaitStatus) ending {
	if w.Signaled() {
		return ending{code: -1, signal: spec.Signal(w.Signal()), core: w.CoreDump()}
	}
	return ending{code: w.ExitStatus()}
}
