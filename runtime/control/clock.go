package control

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/proc"
)

// How exactly the wall clock is compared with the one that nobody sets: two
// readings as close as this are of one moment, and less than clockNoise is no
// change. Both clocks are slewed alike, so there is no other difference.
const (
	clockClose = time.Millisecond
	clockNoise = 20 * time.Millisecond
	clockLooks = 100 // at the beginning
)

// wall knows when somebody sets the wall clock.
type wall struct {
	log *slog.Logger
	// at is when things were by the wall clock, as far as it is known to be set.
	at look
	// quick reads look.began without a system call; exact asks the kernel, and fails
	// when it is interrupted each time.
	quick func() time.Time
	exact func() (look, bool)
}

// look is what the wall clock says of two moments that do not move while nobody
// sets it: when the machine was booted, and when we began. The second one is known
// by a clock that stands still while the machine sleeps; it is zero where it is
// not known.
type look struct{ booted, began time.Time }

func newWall(log *slog.Logger) *wall {
	w := &wall{log: log, quick: func() time.Time { return beganAt(time.Now()) }, exact: lookAt}
	for range clockLooks {
		var ok bool
		if w.at, ok = w.exact(); ok {
			return w
		}
	}
	w.at = look{booted: time.Now().Add(-uptime())} // a very busy machine
	return w
}

// set is by how much the clock was set since the last call, or the beginning. It
// is for the engine alone, which asks some times in each turn: mostly a quick look
// says that nobody did.
func (w *wall) set() time.Duration {
	if began := w.quick(); !began.IsZero() && began.Sub(w.at.began).Abs() < clockNoise/2 {
		return 0
	}
	now, ok := w.exact()
	if !ok {
		return 0
	}
	d := now.booted.Sub(w.at.booted)
	if d.Abs() < clockNoise {
		w.at.began = now.began.Add(-d) // so that many little ones become one
		return 0
	}
	w.at = now
	w.log.Warn("the clock was set", "by", d.String())
	return d
}

// clockSet has those look who go by the wall clock: the engine, and the desk,
// whose overrides may end by it.
func (c *Control) clockSet(ctx context.Context) {
	_ = c.engine.Facts(ctx, nil)
	_ = c.desk.do(ctx, func() {})
}

// lookAt asks the kernel; ok is false when we were interrupted each time we looked.
func lookAt() (l look, ok bool) {
	now, boot, apart := proc.Clocks()
	return look{now.Round(0).Add(-time.Duration(boot)), beganAt(now)}, apart < clockClose
}

// began is when we began, or a moment later.
var began = time.Now()

// beganAt is when we began by the wall clock that says now: by what it carries of
// another clock, which times that are too far away do not.
func beganAt(now time.Time) time.Time {
	wall := now.Round(0)
	if wall == now {
		return time.Time{}
	}
	return wall.Add(-now.Sub(began))
}

// uptime is CLOCK_BOOTTIME.
func uptime() time.Duration { return time.Duration(keeper.BootTime()) }

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
