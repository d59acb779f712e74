package main

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// whileRead ends ctx when nobody reads out any more. Who follows would else find
// out when there is something to write, which may be never: `procnanny events -f
// web | head -1` is to end with the first event and not with the second. Only
// pipes and sockets have readers that go; the file must outlive ctx.
func whileRead(ctx context.Context, out *os.File) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	info, err := out.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return ctx, cancel
	}
	fd := int32(out.Fd()) //nolint:gosec // a descriptor is small
	go func() {
		for { // without an event asked for it wakes up for errors and a hang-up only
			n, err := unix.Poll([]unix.PollFd{{Fd: fd}}, -1)
			if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
				cancel()
				return
			}
		}
	}()
	return ctx, cancel
}

// following is ctx for a command that goes on until it is ended.
func (a *app) following(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.whileRead == nil {
		return context.WithCancel(ctx)
	}
	return a.whileRead(ctx)
}
