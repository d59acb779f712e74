package keeper

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/runtime/oom"
	"github.com/procnanny/procnanny/spec"
)

const (
	// quickDeath is how young a control dies whose start is then put off, from
	// the patience-th time on.
	quickDeath = time.Second
	patience   = 5
	firstDelay = 100 * time.Millisecond
	mostDelay  = 5 * time.Second
	// lastTries is how many young deaths of control, once we are asked to stop,
	// make the keeper stop everything itself.
	lastTries = 3
	// mostUpgrades is how many young controls in a row may ask to be replaced.
	mostUpgrades = 3

	readFirst = 4 << 10
	readSize  = 64 << 10
	// maxLastReads bounds what is read of a control that is dead.
	maxLastReads = 1 << 10
	// maxUnread bounds what is kept for a control that does not read: a few
	// facts for each of 100,000 instances.
	maxUnread = 64 << 20

	// helloRuns is how many runs one Hello carries: well within a frame.
	helloRuns = 500

	// reserved descriptors are the keeper's own: log files that are open, what a start
	// needs for a moment, leaves that are watched while they empty. See Reserved.
	reserved = 2*maxOpen + 256
)

// control is the control process and what passes between us.
type control struct {
	pid, pidfd int
	sock       int
	since      int64 // started, CLOCK_MONOTONIC ns
	young      int   // deaths in a row within quickDeath
	listening  bool  // it has the list, so facts mean something to it
	backlog    bool  // whole orders wait in in
	full       bool  // the socket takes no more at the moment
	leaving    bool  // it was told that we end
	in         []byte
	out        []byte
	// holds is true when it keeps duplicates of descriptors; give are the runs
	// whose it is still to get.
	holds, giveLocks, giveEscrow bool
	give                         []*run
}

// controlSocket and controlExit are the keeper as handlers of control's socket
// and pidfd.
type (
	controlSocket struct{}
	controlExit   struct{}
)

func (controlSocket) ready(k *keeper, events uint32) {
	if events&unix.EPOLLOUT != 0 {
		k.ctl.full = false
		k.poll.change(k.ctl.sock, unix.EPOLLIN)
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 && !k.ctl.backlog {
		k.readControl()
	}
}

func (controlExit) ready(k *keeper, _ uint32) { k.controlGone() }

func (k *keeper) startControl() {
	if k.done || k.ctl.sock >= 0 || k.ctl.leaving {
		return
	}
	k.unset(alarmControl)
	pid, pidfd, sock, err := k.deps.control()
	if err != nil {
		k.log.Error("cannot start control", "path", k.c.Control.Path, "error", err)
		k.controlLater(0)
		return
	}
	crashpoint.Here(crashpoint.ControlForked)
	k.ctl = control{pid: pid, pidfd: pidfd, sock: sock, since: k.now(), young: k.ctl.young}
	err = k.poll.add(sock, unix.EPOLLIN, controlSocket{})
	if err == nil && pidfd >= 0 {
		err = k.poll.add(pidfd, unix.EPOLLIN, controlExit{})
	}
	if err != nil {
		k.log.Error("cannot watch control", "error", err)
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	k.controls++
	k.log.Debug("control started", "pid", pid)
}

// forkControl starts the control process: the null device as stdin, our stderr
// as stdout and stderr, the socket as 3. It has a process group of its own, so
// that ctrl-C on a terminal reaches only the keeper, which then asks it.
func forkControl(c Control) (pid, pidfd, sock int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, -1, -1, fmt.Errorf("cannot make a socket pair: %w", err)
	}
	defer unix.Close(pair[1])
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(pair[0])
		return 0, -1, -1, fmt.Errorf("cannot open %s: %w", os.DevNull, err)
	}
	defer unix.Close(null)
	pidfd = -1
	err = calmly(func() error {
		return oom.AsBorn(func() (err error) {
			pid, err = syscall.ForkExec(c.Path, append([]string{c.Path}, c.Args...), &syscall.ProcAttr{
				Dir: "/", Env: c.Env,
				Files: []uintptr{uintptr(null), 2, 2, uintptr(pair[1])},
				Sys:   &syscall.SysProcAttr{Setpgid: true, PidFD: &pidfd},
			})
			return err
		})
	})
	if err == nil {
		err = unix.SetNonblock(pair[0], true)
	}
	if err != nil {
		unix.Close(pair[0])
		return 0, -1, -1, fmt.Errorf("cannot execute %s: %w", c.Path, err)
	}
	return pid, pidfd, pair[0], nil
}

func (k *keeper) readControl() {
	// Mostly one order is there, and room for many takes longer to get than it.
	for _, size := range []int{readFirst, readSize} {
		at := len(k.ctl.in)
		k.ctl.in = slices.Grow(k.ctl.in, size)
		n, err := unix.Read(k.ctl.sock, k.ctl.in[at:at+size])
		if err == unix.EAGAIN || err == unix.EINTR {
			break
		}
		if err != nil || n <= 0 {
			k.hangUp("it closed its socket")
			return
		}
		k.ctl.in = k.ctl.in[:at+n]
		if n < size {
			break
		}
	}
	k.obeyAll()
}

// obeyAll carries out orders that have come whole, a turn's worth; backlog says
// that more are waiting.
func (k *keeper) obeyAll() {
	list, err := k.turnOfOrders()
	for i := range list {
		k.launcher.follows = i+1 < len(list) && list[i+1].Kind == OrderStart
		k.obey(&list[i])
		if k.ctl.sock < 0 {
			break // it went meanwhile
		}
	}
	k.settle()
	if err != nil {
		k.hangUp(err.Error())
	}
}

// turnOfOrders takes up to maxOrders off what has come. With an error nothing
// behind them makes sense.
func (k *keeper) turnOfOrders() (list []Order, err error) {
	rest := k.ctl.in
	k.ctl.backlog = false
	for {
		body, after, ok, err := cutFrame(rest)
		if err != nil {
			return list, err
		}
		if !ok {
			break
		}
		if len(list) == maxOrders {
			k.ctl.backlog = true
			break
		}
		o, err := DecodeOrder(body)
		if err != nil {
			return list, err
		}
		list, rest = append(list, o), after
	}
	switch {
	case len(rest) > 0:
		k.ctl.in = slices.Delete(k.ctl.in, 0, len(k.ctl.in)-len(rest))
	case cap(k.ctl.in) > readSize/2:
		k.ctl.in = nil
	default:
		k.ctl.in = k.ctl.in[:0]
	}
	return list, nil
}

// flush writes the facts of this turn. What the socket does not take waits.
func (k *keeper) flush() {
	if k.ctl.sock < 0 {
		k.facts = nil
		return
	}
	if len(k.facts) > 0 {
		k.ctl.out = append(k.ctl.out, k.facts...)
		k.facts = k.facts[:0]
	}
	for len(k.ctl.out) > 0 && !k.ctl.full {
		n, err := quickSend(k.ctl.sock, k.ctl.out)
		switch {
		case errors.Is(err, unix.EAGAIN):
			k.ctl.full = true
			k.poll.change(k.ctl.sock, unix.EPOLLIN|unix.EPOLLOUT)
		case errors.Is(err, unix.EINTR):
		case err != nil:
			k.lastOrders()
			k.hangUp(err.Error())
			return
		default:
			k.ctl.out = k.ctl.out[n:]
		}
	}
	switch {
	case len(k.ctl.out) > maxUnread:
		k.hangUp("it does not read what it is told")
	case len(k.ctl.out) == 0 && cap(k.ctl.out) > readSize:
		k.ctl.out = nil
	case len(k.ctl.out) == 0:
		k.ctl.out = k.ctl.out[:0]
	}
	if k.give(); len(k.ctl.give) == 0 {
		k.escrow.empty()
	}
}

// hangUp ends the conversation with a control that cannot go on; its process is
// killed if it has not ended, and its end brings the next.
func (k *keeper) hangUp(why string) {
	if k.ctl.sock < 0 {
		return
	}
	k.poll.removeClose(k.ctl.sock)
	k.ctl.sock, k.ctl.listening, k.ctl.backlog = -1, false, false
	k.ctl.in, k.ctl.out, k.facts = nil, nil, nil
	k.ctl.holds, k.ctl.giveLocks, k.ctl.giveEscrow, k.ctl.give = false, false, false, nil
	if k.ctl.pidfd < 0 {
		k.controlEnded(ending{})
		return
	}
	if !k.ctl.leaving {
		if e, ok, _ := wait(unix.P_PIDFD, k.ctl.pidfd, unix.WNOWAIT); !ok {
			k.log.Warn("control is killed", "pid", k.ctl.pid, "reason", why, "exit", e.code)
			_ = unix.PidfdSendSignal(k.ctl.pidfd, unix.SIGKILL, nil, 0)
		}
	}
}

// controlGone reaps the control process.
func (k *keeper) controlGone() {
	if k.ctl.pidfd < 0 {
		return
	}
	e, ok, err := wait(unix.P_PIDFD, k.ctl.pidfd, 0)
	if err == nil && !ok {
		return
	}
	k.lastOrders()
	k.poll.removeClose(k.ctl.sock)
	k.poll.removeClose(k.ctl.pidfd)
	k.controlEnded(e)
}

// lastOrders carries out what a control that is dead had ordered: it wrote that
// down before it sent it.
func (k *keeper) lastOrders() {
	room := make([]byte, readSize)
	for range maxLastReads {
		if k.ctl.sock < 0 {
			return
		}
		n, err := read(k.ctl.sock, room)
		if err != nil || n <= 0 {
			return
		}
		k.ctl.in = append(k.ctl.in, room[:n]...)
		for again := true; again && k.ctl.sock >= 0; again = k.ctl.backlog {
			k.obeyAll()
		}
	}
}

// controlEnded decides what the end of a control means.
func (k *keeper) controlEnded(e ending) {
	pid, lived := k.ctl.pid, time.Duration(k.now()-k.ctl.since)
	k.ctl = control{pidfd: -1, sock: -1, young: k.ctl.young, leaving: k.ctl.leaving}
	k.facts = nil
	switch {
	case k.ctl.leaving:
		k.end(k.exit, nil)
	case e.code == ExitRefused && k.nobodyLives():
		k.end(1, fmt.Errorf("control (pid %d) refused to work; it says why above", pid))
	case e.code == ExitUpgrade && k.ctl.young < mostUpgrades:
		k.log.Info("control is replaced", "pid", pid)
		k.upgrade()
		if k.ctl.young++; lived >= quickDeath {
			k.ctl.young = 0
		}
		k.startControl()
	default:
		crashpoint.Here(crashpoint.ControlDied)
		k.log.Error("control ended", "pid", pid, "code", e.code, "signal", e.signal.String(), "lived", lived)
		k.controlLater(lived)
	}
}

// controlLater starts control again: at once, but after more and more time
// while it does not live for a second.
func (k *keeper) controlLater(lived time.Duration) {
	if lived >= quickDeath {
		k.ctl.young = 0
	} else {
		k.ctl.young++
	}
	if k.asked != 0 {
		if k.tries++; k.tries >= lastTries {
			k.stopEverything("control cannot be started")
			return
		}
	}
	if k.ctl.young <= patience || k.asked != 0 {
		k.set(alarmControl, 0)
		return
	}
	k.set(alarmControl, min(firstDelay<<min(k.ctl.young-patience-1, 8), mostDelay))
}

// orderList answers with all that is known, in parts; from then on control
// hears facts.
func (k *keeper) orderList(o *Order) {
	kind, degraded := k.box.describe()
	exe, _ := os.Readlink("/proc/self/exe")
	h := Hello{
		Version: Version, BootID: k.boot, PID: os.Getpid(), Binary: exe, Contain: kind, Degraded: degraded,
		Asked: k.asked, NoFile: noFile(), Reserved: Reserved(noFile()),
		Exec: k.c.Self.Path, Supervised: k.c.Supervised, Release: k.c.Release, Origin: k.origin(), Raised: k.raised(), First: k.controls == 1,
	}
	k.ctl.listening = true
	if o.Run != Version {
		k.tell(Fact{Kind: FactHello, AtNS: BootTime(), Hello: &h})
		k.ctl.listening = false
		return
	}
	if o.Holds { // first: who knows the list serves, and must then be able to inherit
		k.giveAll()
		k.give()
		crashpoint.Here(crashpoint.ControlHolds)
	}
	for _, r := range k.runs {
		h.Runs = append(h.Runs, r.list())
		if len(h.Runs) == helloRuns {
			h.More = true
			k.tell(Fact{Kind: FactHello, AtNS: BootTime(), Hello: &h})
			h.Runs, h.More = nil, false
		}
	}
	k.tell(Fact{Kind: FactHello, AtNS: BootTime(), Hello: &h})
	k.tellFaults()
	k.flush()
	crashpoint.Here(crashpoint.ControlListed)
}

func noFile() uint64 {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return l.Cur
}

// sigOf names a signal number of the kernel as ours.
func sigOf(s syscall.Signal) spec.Signal { return spec.Signal(s) }
