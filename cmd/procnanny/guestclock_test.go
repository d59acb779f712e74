package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	roles["stamper"] = stamper
	roles["stubborn"] = stubborn
}

const decade = 10 * 365 * 24 * time.Hour

// stamper says when it begins, by a clock that nobody sets, and ends soon.
func stamper() {
	fmt.Println("began", bootClock())
	time.Sleep(50 * time.Millisecond)
	fmt.Println("ended", bootClock())
	os.Exit(1)
}

// stubborn says that TERM came, and lives on.
func stubborn() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGTERM)
	fmt.Println("ready")
	<-c
	fmt.Println("asked")
	sleeper()
}

// bootClock is CLOCK_BOOTTIME in milliseconds.
func bootClock() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err)
	}
	return ts.Nano() / 1e6
}

// setClock moves the wall clock.
func setClock(t *testing.T, by time.Duration) {
	t.Helper()
	ts := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
	check(t, unix.ClockSettime(unix.CLOCK_REALTIME, &ts))
}

// What the programs of guestClock are told.
const (
	stampDelay = 400 * time.Millisecond
	slowStart  = 1500 * time.Millisecond
	stopWait   = 1500 * time.Millisecond
)

// guestClock: the clock is set by ten years, this way and that, while programs
// start, crash, wait, stop, and while those of us die who remember times.
func guestClock(t *testing.T) {
	l := newLoud(t, map[string]any{
		"steady": plays(t, "sleeper", nil),
		"stamper": plays(t, "stamper", map[string]any{"restart": map[string]any{
			"delay": stampDelay.String(), "factor": 1, "max_delay": "1h", "jitter": 0,
		}}),
		"slow":     plays(t, "sleeper", map[string]any{"start": map[string]any{"min_uptime": slowStart.String()}}),
		"stubborn": plays(t, "stubborn", map[string]any{"stop": map[string]any{"timeout": stopWait.String()}}),
	}, "--supervised", "no")
	steady := l.comes("steady", "running")
	l.comes("slow", "running")
	began := bootClock()
	wrote := 0
	for _, jump := range []struct {
		by     time.Duration
		killed string
	}{
		{decade, "nobody"}, {-decade, "control before"}, {-decade, "nobody"}, {decade, "control after"},
	} {
		wrote = l.jump(jump.by, jump.killed, wrote)
	}
	if now := l.comes("steady", "running"); now.PID != steady.PID {
		t.Errorf("a program was replaced: pid %d, it was %d", now.PID, steady.PID)
	}
	l.judgeStamps()
	for _, program := range []string{"steady", "stamper", "slow", "stubborn"} {
		l.judgeTimes(program, float64(bootClock()-began)/1000+60)
	}
}

// jump sets the clock while a program is on its way up, one is on its way down
// and one waits for its next start. The stubborn one has written so much before.
func (l *loud) jump(by time.Duration, killed string, stubborn int) int {
	l.t.Helper()
	l.call("start", map[string]any{"program": "stubborn"}, nil)
	l.writes("stubborn", "ready", stubborn)
	l.call("restart", map[string]any{"program": "slow"}, nil)
	asked := bootClock()
	l.call("stop", map[string]any{"program": "stubborn"}, nil)
	if killed == "control before" {
		l.killControl()
	}
	setClock(l.t, by)
	if killed == "control after" {
		l.killControl()
	}
	stamps := len(l.wrote("stamper"))
	l.writes("stubborn", "asked", stubborn)
	l.comes("stubborn", "exited")
	took := bootClock() - asked
	if took < stopWait.Milliseconds() {
		l.t.Errorf("set by %v, killed: %s: KILL came after %d ms", by, killed, took)
	}
	l.comes("slow", "running")
	l.writes("stamper", "began", stamps)
	l.t.Logf("set by %v, killed: %s: KILL after %d ms, all was well after %d ms", by, killed, took, bootClock()-asked)
	return len(l.wrote("stubborn"))
}

func (l *loud) killControl() {
	l.t.Helper()
	w, err := l.ask()
	check(l.t, err)
	check(l.t, unix.Kill(w.Control.PID, unix.SIGKILL))
}

// judgeStamps: no start came early. How late they came, a busy machine decides.
func (l *loud) judgeStamps() {
	l.t.Helper()
	last, late := int64(0), int64(0)
	for line := range strings.Lines(l.wrote("stamper")) {
		var what string
		var at int64
		_, err := fmt.Sscan(line, &what, &at)
		check(l.t, err)
		if gap := at - last; what == "began" && last > 0 {
			if gap < stampDelay.Milliseconds() {
				l.t.Errorf("it was started again after %d ms", gap)
			}
			late = max(late, gap-stampDelay.Milliseconds())
		}
		last = at
	}
	l.t.Logf("the latest start came %d ms late", late)
}

// judgeTimes: nothing of a program took longer than all of it did, seconds.
func (l *loud) judgeTimes(program string, most float64) {
	l.t.Helper()
	var history struct {
		Runs []struct {
			ID    int      `msgpack:"run_id"`
			Start float64  `msgpack:"start"`
			End   *float64 `msgpack:"end"`
			Took  float64  `msgpack:"duration"`
		} `msgpack:"runs"`
	}
	l.call("history", map[string]any{"program": program}, &history)
	for _, r := range history.Runs {
		if r.Took < 0 || r.Took > most || r.End != nil && (*r.End < r.Start || *r.End-r.Start > most) {
			l.t.Errorf("%s: %+v", program, r)
		}
	}
	if now, err := l.look(program); err != nil || now.Uptime < 0 || now.Uptime > most {
		l.t.Errorf("%s: %+v, %v", program, now, err)
	}
}
