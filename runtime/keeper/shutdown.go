package keeper

import (
	"errors"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/spec"
)

const (
	// ownTimeout is between TERM and KILL when the keeper stops everything
	// itself and no ShutdownTimeout was given.
	ownTimeout = 10 * time.Second
	// killGrace is how long we wait for what was killed; a process that hangs in
	// the kernel does not end.
	killGrace = 2 * time.Second
)

// stage is how far a shutdown without control has come.
type stage uint8

const (
	stageNone stage = iota
	stageTerm       // TERM was sent to all
	stageKill       // KILL was sent to all
)

// askStop is TERM, INT or QUIT: control stops everything in order, or we leave
// the programs running. Asking twice changes nothing.
func (k *keeper) askStop() {
	if k.asked != 0 {
		return
	}
	k.asked, k.tries = spec.SIGTERM, 0
	k.notify("STOPPING=1")
	if k.c.Leave {
		k.leave()
		return
	}
	k.tell(Fact{Kind: FactAsked, Signal: spec.SIGTERM, AtNS: BootTime()})
	debug.SetGCPercent(stopGC)
	k.hush()
	if k.c.ShutdownTimeout > 0 {
		k.set(alarmShutdown, k.c.ShutdownTimeout)
	}
	if k.ctl.sock < 0 {
		k.set(alarmControl, 0)
	}
}

// orderStop is somebody's word to control that everything is to be stopped: from
// now on it is ours, whatever becomes of control, and holds where TERM would leave
// the programs running.
func (k *keeper) orderStop(*Order) {
	k.c.Leave = false
	k.askStop()
}

// stopping reports whether everything is being stopped, for good.
func (k *keeper) stopping() bool { return k.asked == spec.SIGTERM && !k.c.Leave }

// leave ends keeper and control; programs run on, their notes stay, and the
// next keeper adopts them.
func (k *keeper) leave() {
	k.ctl.leaving = true
	if k.ctl.pidfd < 0 && k.ctl.sock < 0 {
		k.end(0, nil)
		return
	}
	k.farewell()
	k.hangUp("we end")
	k.set(alarmShutdown, killGrace)
}

// orderShutdown is control's word that everything has ended. It ends itself
// now; we follow.
func (k *keeper) orderShutdown(o *Order) {
	k.exit = o.Code
	if !k.nobodyLives() {
		k.stopEverything("control says that everything has ended, but it has not")
		return
	}
	for _, r := range k.runs {
		k.drop(r) // control wrote their ends down before it said so
	}
	k.ctl.leaving = true
	k.unset(alarmShutdown)
	k.set(alarmShutdown, killGrace)
	crashpoint.Here(crashpoint.ShutdownTold)
	k.farewell()
	if k.ctl.pidfd < 0 {
		k.end(k.exit, nil)
		return
	}
	_ = unix.Shutdown(k.ctl.sock, unix.SHUT_WR) // it reads the end, if it has not gone yet
	k.retire()                                  // while it ends, on a processor that would have nothing to do
	k.box.close(true)
}

// stopEverything does without control: TERM to every process, KILL after the
// timeout.
func (k *keeper) stopEverything(why string) {
	if k.stage != stageNone {
		return
	}
	k.log.Warn("the keeper stops the programs itself", "reason", why)
	k.stage = stageTerm
	k.signalAll(spec.SIGTERM)
	timeout := k.c.ShutdownTimeout
	if timeout <= 0 {
		timeout = ownTimeout
	}
	k.unset(alarmShutdown)
	k.set(alarmShutdown, timeout)
}

func (k *keeper) signalAll(sig spec.Signal) {
	for _, r := range k.runs {
		if r.emptied {
			continue
		}
		r.stopping = true
		k.letGo(r.in)
		if sig == spec.SIGKILL {
			k.box.kill(r)
		} else {
			k.box.signal(r, sig)
		}
		k.lookEmpty(r)
	}
}

// shutdownLate is the alarm of each stage: what was to end by now has not.
func (k *keeper) shutdownLate() {
	switch {
	case k.ctl.leaving:
		if k.ctl.pidfd >= 0 {
			_ = unix.PidfdSendSignal(k.ctl.pidfd, unix.SIGKILL, nil, 0)
		}
		k.end(k.exit, nil)
	case k.stage == stageKill:
		k.log.Error("some processes do not end; they are left")
		k.end(1, errors.New("cannot stop every program"))
	default:
		k.log.Warn("the shutdown takes too long; what is left is killed")
		k.stage = stageKill
		k.signalAll(spec.SIGKILL)
		k.set(alarmShutdown, killGrace)
	}
}

// checkStopped ends a shutdown of our own once nobody lives.
func (k *keeper) checkStopped() {
	if k.stage == stageNone || k.done || !k.nobodyLives() {
		return
	}
	if k.ctl.pidfd >= 0 {
		_ = unix.PidfdSendSignal(k.ctl.pidfd, unix.SIGTERM, nil, 0)
	}
	k.end(0, nil)
}

// orderReady tells whoever started us that status is answered.
func (k *keeper) orderReady(*Order) { k.notify("READY=1") }

// notify sends a line to the service manager, sd_notify(3). "@" begins an
// abstract name.
func (k *keeper) notify(line string) {
	if k.c.NotifySocket == "" {
		return
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		defer unix.Close(fd)
		err = unix.Sendto(fd, []byte(line), unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: k.c.NotifySocket})
	}
	if err != nil {
		k.log.Error("cannot notify the service manager", "socket", k.c.NotifySocket, "error", err)
	}
}

// feedWatchdog says that the loop turns, twice as often as it must.
func (k *keeper) feedWatchdog() {
	if k.c.Watchdog > 0 {
		k.notify("WATCHDOG=1")
		k.set(alarmWatchdog, max(k.c.Watchdog/2, leastWatchdog))
	}
}

// leastWatchdog keeps a watchdog of microseconds from keeping us busy.
const leastWatchdog = 100 * time.Millisecond

// tidy gives the memory of a burst of starts back to the kernel.
func (k *keeper) tidy() { debug.FreeOSMemory() }
