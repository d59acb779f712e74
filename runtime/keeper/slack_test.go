package keeper

import (
	"errors"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func slackNow(t *testing.T) int {
	t.Helper()
	ns, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// Whoever is started calmly has the slack, who starts it keeps its own, and what
// somebody else has set is passed on.
func TestSlackIsForControlOnly(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	was := slackNow(t)
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(was), 0, 0, 0) }()
	for _, c := range []struct{ own, within, back int }{
		{defaultSlack, calmSlack, defaultSlack},
		{7000, 7000, 7000},
	} {
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(c.own), 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		fails := errors.New("it fails")
		err := calmly(func() error {
			child, err := exec.Command("/bin/sh", "-c", "cat /proc/self/timerslack_ns").Output()
			if err != nil {
				t.Fatal(err)
			}
			if got, want := strings.TrimSpace(string(child)), strconv.Itoa(c.within); got != want {
				t.Errorf("with %d of our own a child has a slack of %s, not %s", c.own, got, want)
			}
			if err := exactly(func() error {
				if got := slackNow(t); got != c.back {
					t.Errorf("with %d of our own another program would have %d, not %d", c.own, got, c.back)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if got := slackNow(t); got != c.within {
				t.Errorf("the slack is %d after another program could not be executed, not %d", got, c.within)
			}
			return fails
		})
		if got := slackNow(t); !errors.Is(err, fails) || got != c.own {
			t.Errorf("afterwards our slack is %d (%v), not %d", got, err, c.own)
		}
	}
}

// Where the timers are less exact, a pause would be as long as that.
func TestNoPauseWithoutExactTimers(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	was := slackNow(t)
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(was), 0, 0, 0) }()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(time.Hour), 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	quickPause() // or this takes an hour
}
