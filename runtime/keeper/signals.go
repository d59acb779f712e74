package keeper

import (
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/launch"
)

// asking are the signals that mean something to the keeper, as bits of
// signals.pending.
var asking = map[os.Signal]uint32{
	syscall.SIGTERM: 1 << unix.SIGTERM,
	syscall.SIGINT:  1 << unix.SIGINT,
	syscall.SIGHUP:  1 << unix.SIGHUP,
	syscall.SIGQUIT: 1 << unix.SIGQUIT,
}

// harmless are caught and do nothing: by default they would end or stop us.
// They are caught, not ignored, because an ignored signal is inherited.
var harmless = []os.Signal{
	syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGVTALRM, syscall.SIGWINCH,
	syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGIO, syscall.SIGPWR, syscall.SIGSTKFLT, syscall.SIGXCPU, syscall.SIGXFSZ,
}

// signals brings what Go's runtime caught into the loop: one goroutine notes it
// and writes to an eventfd. The runtime owns the handlers and masks, so a
// signalfd of our own would race with it. CHLD, which comes a thousand times, is
// written there without the runtime.
type signals struct {
	fd      int
	pending atomic.Uint32
	caught  chan os.Signal
	untell  func() // ends CHLD
	hushed  bool   // see hush
	stop    chan struct{}
	stopped chan struct{}
}

func catchSignals(p *poller) (*signals, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cannot make an eventfd: %w", err)
	}
	s := &signals{
		fd: fd, caught: make(chan os.Signal, 64), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	if err = p.add(fd, unix.EPOLLIN, s); err == nil {
		s.untell, err = launch.TellChildren(fd)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	signal.Notify(s.caught, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	signal.Notify(s.caught, harmless...)
	go s.carry()
	return s, nil
}

func (s *signals) carry() {
	defer close(s.stopped)
	for {
		var sig os.Signal
		select {
		case sig = <-s.caught:
		case <-s.stop:
			return
		}
		if bit := asking[sig]; bit != 0 && s.pending.Or(bit)&bit == 0 {
			one := [8]byte{1} // in either byte order it is not 0
			_, _ = unix.Write(s.fd, one[:])
		}
	}
}

// hushFor is how long we do without CHLD at the most.
const hushFor = time.Second

// hush ends CHLD for a while: a thousand that are being stopped together have
// pidfds that tell of their ends, and the signal would interrupt a thread for each.
// Orphans, who have none, wait to be reaped.
func (k *keeper) hush() {
	if err := launch.HushChildren(true); err == nil {
		k.signals.hushed = true
		k.set(alarmChild, hushFor)
	}
}

// unhush has CHLD told again: that time is over, or ends of orphans matter.
func (k *keeper) unhush() {
	if !k.signals.hushed {
		return
	}
	if err := launch.HushChildren(false); err != nil {
		k.log.Error("cannot hear of children that end", "error", err)
		return
	}
	k.signals.hushed, k.reapDue = false, true
	k.unset(alarmChild)
}

// close ends the carrying. What was caught stays caught: no signal is to change how
// we end. And the runtime would take a tenth of a millisecond to let go of each.
func (s *signals) close() {
	s.untell()
	close(s.stop)
	<-s.stopped
	unix.Close(s.fd)
}

// ready makes signals the loop: it acts on what is pending. CHLD leaves no bit,
// for a look at our children does no harm.
func (s *signals) ready(k *keeper, _ uint32) {
	var count [8]byte
	_, _ = quickRead(s.fd, count[:])
	got := s.pending.Swap(0)
	has := func(sig syscall.Signal) bool { return got&(1<<sig) != 0 }
	// What ended is reaped after this turn's news is out: it looks through all
	// our children, and those with a pidfd are known already.
	k.reapDue = true
	if has(syscall.SIGHUP) {
		k.tell(Fact{Kind: FactAsked, Signal: sigOf(syscall.SIGHUP), AtNS: BootTime()})
	}
	if has(syscall.SIGTERM) || has(syscall.SIGINT) || has(syscall.SIGQUIT) {
		k.askStop()
	}
}
