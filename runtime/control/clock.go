package control

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// How exactly the wall clock is compared with the one that nobody sets: two
// readings as close as this are of one moment, and less than clockNoise is no
// change. Both clocks are slewed alike, so there is no other difference.
const (
	clockClose = time.Millisecond
	clockNoise = 20 * time.Millisecond
	clockLooks = 3
)

// wall knows when somebody sets the wall clock.
type wall struct {
	log *slog.Logger
	// booted is when the machine was booted, by the wall clock.
	booted time.Time
}

func newWall(log *slog.Logger) *wall {
	w := &wall{log: log}
	for range 100 * clockLooks {
		var ok bool
		if w.booted, ok = bootedAt(); ok {
			return w
		}
	}
	w.booted = time.Now().Add(-uptime()) // a very busy machine
	return w
}

// set is by how much the clock was set since the last call, or the beginning. It
// is for one goroutine, the engine's.
func (w *wall) set() time.Duration {
	booted, ok := bootedAt()
	d := booted.Sub(w.booted)
	if !ok || d.Abs() < clockNoise {
		return 0
	}
	w.booted = booted
	w.log.Warn("the clock was set", "by", d.String())
	return d
}

// clockSet has those look who go by the wall clock: the engine, and the desk,
// whose overrides may end by it.
func (c *Control) clockSet(ctx context.Context) {
	_ = c.engine.Facts(ctx, nil)
	_ = c.desk.do(ctx, func() {})
}

// bootedAt says that the machine was booted when, by the wall clock; ok is false
// when we were interrupted each time we looked.
func bootedAt() (at time.Time, ok bool) {
	for range clockLooks {
		before := uptime()
		now := time.Now().Round(0)
		if took := uptime() - before; took < clockClose {
			return now.Add(-before - took/2), true
		}
	}
	return time.Time{}, false
}

// uptime is CLOCK_BOOTTIME.
func uptime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail for this clock
	return time.Duration(ts.Nano())
}

// farAway is a time that the kernel can count to, seconds since 1970.
const farAway = 1 << 33

// watch calls changed when the clock is set, until ctx ends: a timer that ends
// long after us is cancelled then. Where there is none, it is seen with the next
// thing that happens.
func (w *wall) watch(ctx context.Context, changed func()) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		w.log.Warn("cannot watch the clock", "error", err)
		return
	}
	f := os.NewFile(uintptr(fd), "clock")
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	at := unix.ItimerSpec{Value: unix.Timespec{Sec: farAway}}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &at, nil); err != nil {
		w.log.Warn("cannot watch the clock", "error", err)
		return
	}
	for {
		var n [8]byte
		_, err := f.Read(n[:])
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, unix.ECANCELED):
			changed()
		default:
			w.log.Warn("cannot watch the clock any more", "error", err)
			return
		}
	}
}
