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

// stallEvery is how often we look whether the keeper is stopped, while something
// happens; stallIdle while nothing does, for that shall cost nothing. It counts
// when it is stopped at two looks, stallEvery apart: a debugger, or strace, stops
// a process for a moment.
const (
	stallEvery = 3 * time.Second
	stallIdle  = 20 * time.Second
)

// stall watches for a keeper that somebody stopped (SIGSTOP, the freezer, a
// debugger): it lives, so there must be no other, but nothing is started, stopped
// or heard of until it goes on. What programs write waits in their pipes.
type stall struct {
	c     *Control
	since atomic.Pointer[time.Time] // nil: it goes on
	kick  chan struct{}
}

func newStall(c *Control) *stall { return &stall{c: c, kick: make(chan struct{}, 1)} }

// soon has a look taken soon: somebody wants something of the keeper.
func (s *stall) soon() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func (s *stall) run(ctx context.Context) {
	timer := time.NewTimer(stallEvery)
	defer timer.Stop()
	before, seen := false, uint64(0)
	for {
		select {
		case <-timer.C:
		case <-s.kick:
			timer.Reset(stallEvery)
			continue
		case <-ctx.Done():
			return
		}
		now := stopped(processState(s.c.cfg.Hello.PID))
		if told := s.since.Load() != nil; now && before && !told || !now && told {
			s.tell(ctx, now)
		}
		seq := s.c.store.Seq()
		if now || before || seq != seen {
			timer.Reset(stallEvery)
		} else {
			timer.Reset(stallIdle)
		}
		before, seen = now, seq
	}
}

// tell has the log, an event and status say so.
func (s *stall) tell(ctx context.Context, stalled bool) {
	pid, event := s.c.cfg.Hello.PID, "goes on"
	if stalled {
		since := time.Now().Add(-stallEvery)
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
