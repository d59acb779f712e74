package lean

import (
	"context"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// afterBeat is how long after a beat the pulse comes: those who wait for the beat
// have set their timers a few microseconds after they asked for it.
const afterBeat = 300 * time.Microsecond

// Pulse has the process wake at its beats when they are due, until ctx ends.
//
// Go waits for its timers in epoll_wait(2), whose end the kernel puts off by up to a
// thousandth of the wait (select_estimate_accuracy of fs/select.c): 10 ms of 10 s.
// Meanwhile the runtime's watcher thread, which is woken in time, looks four
// thousand times a second whether anybody comes to take the timer. A timerfd is
// exact, and brings the thread that waits there.
func Pulse(ctx context.Context, log *slog.Logger) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		log.Warn("cannot make a timer; an idle process wakes more often than it need", "error", err)
		return
	}
	f := os.NewFile(uintptr(fd), "pulse")
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	first := Beat(BeatEvery) + afterBeat
	when := unix.ItimerSpec{Interval: unix.NsecToTimespec(int64(BeatEvery)), Value: unix.NsecToTimespec(int64(first))}
	if err := unix.TimerfdSettime(fd, 0, &when, nil); err != nil {
		log.Warn("cannot set a timer; an idle process wakes more often than it need", "error", err)
		return
	}
	for count := make([]byte, 8); ; {
		if _, err := f.Read(count); err != nil {
			return // ctx has ended
		}
	}
}
