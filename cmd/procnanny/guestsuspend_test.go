package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// suspendSource is loaded into the kernel that we boot as a process. That kernel
// suspends like any other (all is frozen, CLOCK_MONOTONIC stands still) but wakes
// at once. How long it was away it learns from the host's clock, which it reads
// when it boots, when it suspends and when it wakes: there it hears of an hour.
const suspendSource = `
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long reads;

int clock_gettime(clockid_t clock, struct timespec *t) {
	int r = syscall(SYS_clock_gettime, clock, t);
	if (clock == CLOCK_REALTIME) t->tv_sec += 3600 * (reads++ / 2);
	return r;
}
`

const slept = time.Hour

// suspend suspends the machine, and says how long it was away.
func suspend(t *testing.T) time.Duration {
	t.Helper()
	boot, mono := bootClock(), monotonic()/1e6
	check(t, os.WriteFile("/sys/power/mem_sleep", []byte("deep"), 0))
	check(t, os.WriteFile("/sys/power/state", []byte("mem"), 0))
	return time.Duration(bootClock()-boot-(monotonic()/1e6-mono)) * time.Millisecond
}

// guestSuspend: the machine is suspended for an hour, three times, while a program
// runs, two wait for their next start, and one is on its way down. A wait for a start
// goes on meanwhile; a stop does not: nobody could have ended.
func guestSuspend(t *testing.T) {
	waits := func(d time.Duration) map[string]any {
		return map[string]any{"command": "sh", "args": []string{"-c", "echo began; exit 1"}, "restart": map[string]any{"delay": d.String(), "factor": 1, "max_delay": "100h", "jitter": 0}}
	}
	l := newLoud(t, map[string]any{
		"steady":   plays(t, "sleeper", nil),
		"waits":    waits(slept - 10*time.Minute),
		"longer":   waits(10 * slept),
		"stubborn": plays(t, "stubborn", map[string]any{"stop": map[string]any{"timeout": stopWait.String()}}),
	}, "--supervised", "no")
	steady, w := l.comes("steady", "running"), l.answering()
	l.comes("longer", "backoff")
	l.comes("waits", "backoff")
	stubborn := 0                                     // what it wrote before
	for _, stops := range []bool{true, false, true} { // where nothing else happens, waking up must suffice
		waits, asked := len(l.wrote("waits")), int64(0)
		if stops {
			l.call("start", map[string]any{"program": "stubborn"}, nil)
			l.writes("stubborn", "ready", stubborn)
			asked = monotonic()
			l.call("stop", map[string]any{"program": "stubborn"}, nil)
			l.writes("stubborn", "asked", stubborn)
		} else {
			l.comes("stubborn", "exited")
		}
		if away := suspend(t); away < slept-time.Minute || away > slept+time.Minute {
			t.Fatalf("it was suspended for %v", away)
		}
		l.writes("waits", "began", waits)
		if stops {
			l.comes("stubborn", "exited")
			if took := time.Duration(monotonic() - asked); took < stopWait {
				t.Errorf("KILL came after %v", took)
			}
			stubborn = len(l.wrote("stubborn"))
		}
	}
	if now := l.comes("steady", "running"); now.PID != steady.PID || now.Uptime < (3*slept).Seconds() {
		t.Errorf("a program was replaced, or is too young: %+v, it was %+v", now, steady)
	}
	if now := l.answering(); now != w {
		t.Errorf("somebody of us was replaced: %+v, it was %+v", now, w)
	}
	if now := l.comes("longer", "backoff"); now.Starts != 1 {
		t.Errorf("it was started early: %+v", now)
	}
	said, err := os.ReadFile(l.stderr.Name())
	check(t, err)
	for _, wrong := range []string{"the clock was set", "the keeper is stopped"} {
		if strings.Contains(string(said), wrong) {
			t.Errorf("somebody says that %s:\n%s", wrong, said)
		}
	}
	l.judgeTimes("waits", (4 * slept).Seconds())
}

// answering are those of us who answer.
func (m *mortal) answering() (w who) {
	m.t.Helper()
	check(m.t, poll(func() (bool, string) {
		var err error
		w, err = m.ask()
		return err == nil, fmt.Sprint(err)
	}))
	return w
}
