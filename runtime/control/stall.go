package control

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/procnanny/procnanny/rpc"
)

// stallEvery is how often we look whether the keeper is stopped. It counts when
// it is at two looks: a debugger, or strace, stops a process for a moment.
const stallEvery = 3 * time.Second

// stall watches for a keeper that somebody stopped (SIGSTOP, the freezer, a
// debugger): it lives, so there must be no other, but nothing is started, stopped
// or heard of until it goes on. What programs write waits in their pipes.
type stall struct {
	c     *Control
	since atomic.Pointer[time.Time] // nil: it goes on
	every time.Duration
	state func(pid int) byte
}

func newStall(c *Control) *stall { return &stall{c: c, every: stallEvery, state: processState} }

func (s *stall) run(ctx context.Context) {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	before := false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := stopped(s.state(s.c.cfg.Hello.PID))
		if told := s.since.Load() != nil; now && before && !told || !now && told {
			s.tell(ctx, now)
		}
		before = now
	}
}

// tell has the log, an event and status say so.
func (s *stall) tell(ctx context.Context, stalled bool) {
	pid, event := s.c.cfg.Hello.PID, "goes on"
	if stalled {
		since := time.Now().Add(-s.every)
		event = "stalled"
		s.since.Store(&since)
		s.c.log.Error("the keeper is stopped: nothing is started or stopped, and no end is heard of, until it goes on", "keeper", pid)
	} else {
		s.since.Store(nil)
		s.c.log.Info("the keeper goes on", "keeper", pid)
	}
	s.c.emit("keeper", rpc.Map{{Key: "event", Value: event}, {Key: "pid", Value: pid}, {Key: "version", Value: s.c.cfg.Hello.Release}})
	_ = s.c.desk.do(ctx, func() { s.c.desk.show(ctx) }) // it fails only at our end
}

// stalled is since when the keeper is stopped; zero is that it is not.
func (s *stall) stalled() time.Time {
	if at := s.since.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// processState is the letter of proc(5), 0 for a process that is gone.
func processState(pid int) byte {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	i := bytes.LastIndexByte(b, ')') // the name before it may hold anything
	if i < 0 || i+2 >= len(b) {
		return 0
	}
	return b[i+2]
}

// stopped: by a signal, or by who traces it.
func stopped(state byte) bool { return state == 'T' || state == 't' }
