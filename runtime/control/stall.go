package control

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/runtime/lean"
)

// How often we look whether the keeper is stopped: stallEvery while something
// happens or is asked for, stallIdle, on the beat, while nothing does, for that
// shall cost nothing. It counts when two looks find it stopped: soon after each
// other if a signal did it, stallEvery apart if it is traced: a debugger, or
// strace, stops a process for a moment.
const (
	stallEvery = 3 * time.Second
	stallIdle  = lean.BeatEvery
	stallSure  = 100 * time.Millisecond
)

// stall watches for a keeper that somebody stopped (SIGSTOP, the freezer, a
// debugger): it lives, so there must be no other, but nothing is started, stopped
// or heard of until it goes on. What programs write waits in their pipes.
type stall struct {
	c     *Control
	since atomic.Pointer[time.Time] // nil: it goes on
	kick  chan struct{}
	// What is looked at, as functions: the keeper's state, how much has happened,
	// and who hears that it is stopped since then, or (zero) that it goes on.
	state func() byte
	seq   func() uint64
	tell  func(ctx context.Context, since time.Time)
}

func newStall(c *Control) *stall {
	s := &stall{c: c, kick: make(chan struct{}, 1)}
	s.state = func() byte { return processState(c.cfg.Hello.PID) }
	s.seq = func() uint64 { return c.store.Seq() }
	s.tell = s.say
	return s
}

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
	at := time.Now().Add(stallEvery) // when the next look is due
	wait := func(d time.Duration) {
		at = time.Now().Add(d)
		timer.Reset(d)
	}
	var l looks
	for {
		select {
		case <-timer.C:
		case <-s.kick:
			if time.Until(at) > stallEvery { // else being asked would put it off
				wait(stallEvery)
			}
			continue
		case <-ctx.Done():
			return
		}
		news, next := l.look(s.state(), s.seq(), time.Now())
		if news {
			s.tell(ctx, l.told)
		}
		wait(next)
	}
}

// looks are what was seen at the last look.
type looks struct {
	first time.Time // since when it looks stopped; zero: it did not
	told  time.Time // since when people know that it is; zero: that it is not
	seq   uint64
}

// look says whether there is news, and when to look again.
func (l *looks) look(state byte, seq uint64, now time.Time) (news bool, next time.Duration) {
	before, quiet := l.first, seq == l.seq
	l.seq = seq
	if !stopped(state) {
		l.first, l.told, news = time.Time{}, time.Time{}, !l.told.IsZero()
	} else if before.IsZero() {
		l.first = now
	} else if l.told.IsZero() {
		l.told, news = before, true
	}
	switch {
	case state == 'T' && l.told.IsZero():
		next = stallSure
	case !l.first.IsZero() || !before.IsZero() || !quiet:
		next = stallEvery
	default:
		next = lean.Beat(stallIdle)
	}
	return news, next
}

// say has the log, an event and status say so.
func (s *stall) say(ctx context.Context, since time.Time) {
	pid, event := s.c.cfg.Hello.PID, "goes on"
	if !since.IsZero() {
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
