package lean

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

// The pulse is a timer of the kernel that goes off right after each beat, and it
// ends with its context.
func TestPulse(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { Pulse(ctx, slog.New(slog.DiscardHandler)); close(ended) }()
	left, every, before, after := time.Duration(0), time.Duration(0), time.Duration(0), time.Duration(0)
	// Until it is set, and both were asked in one moment between two beats.
	for end := time.Now().Add(30 * time.Second); left == 0 || before < after || before-after > 100*time.Millisecond; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no timer is set")
		}
		before = Beat(BeatEvery)
		left, every = timerOf(t)
		after = Beat(BeatEvery)
	}
	if early := left - afterBeat; every != BeatEvery || early > before+time.Millisecond || early < after-time.Millisecond {
		t.Errorf("it goes off in %v and then each %v; the beat is in %v", left, every, before)
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("it goes on after its context has ended")
	}
}

// timerOf is when this process's timerfd goes off, and how often then.
func timerOf(t *testing.T) (left, every time.Duration) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fdinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		text, _ := os.ReadFile("/proc/self/fdinfo/" + fd.Name())
		if _, value, ok := strings.Cut(string(text), "it_value: "); ok {
			return pair(value), pair(value[strings.Index(value, "it_interval: ")+13:])
		}
	}
	return 0, 0
}

// pair reads "(seconds, nanoseconds)".
func pair(text string) time.Duration {
	text, _, _ = strings.Cut(strings.TrimPrefix(text, "("), ")")
	s, ns, _ := strings.Cut(text, ", ")
	d, _ := time.ParseDuration(s + "s" + ns + "ns")
	return d
}
