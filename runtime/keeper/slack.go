package keeper

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// How exact the kernel's timers are for a thread, prctl(2) PR_SET_TIMERSLACK, in
// nanoseconds. Control is started with less than the kernel's default: Go's
// runtime has a thread that looks every 20 µs as long as something goes on, which
// with the default costs control a fifth of its time for an end and a start, and
// comes before whoever waits for news. What control does by the clock, it does
// 0.2 ms later at most; with half a millisecond that thread takes longer to go to
// sleep after each timer, and an idle control wakes three times as often. Programs
// are started by the keeper, which keeps what it was started with, and so do they.
const (
	defaultSlack = 50_000
	calmSlack    = 200_000
)

// calmly runs f, which starts control. A daemon to which somebody gave another
// slack passes that on.
func calmly(f func() error) error { return withSlack(defaultSlack, calmSlack, f) }

// exactly runs f, which makes another program of this process.
func exactly(f func() error) error { return withSlack(calmSlack, defaultSlack, f) }

// withSlack runs f on a thread whose slack is to, if it was from.
func withSlack(from, to int, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if has, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil || has != from {
		return f()
	}
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(to), 0, 0, 0) // cannot fail for one's own thread
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(from), 0, 0, 0) }()
	return f()
}
