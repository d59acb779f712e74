package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Somebody stops the keeper: people hear of it, nobody raises another one, and
// when it goes on all is as it was.
func TestStoppedKeeperIsTold(t *testing.T) {
	t.Parallel()
	m := newMortal(t)
	w := m.settled(time.Time{})
	stalled := func() bool {
		var reply struct {
			Config struct {
				Stalled float64 `msgpack:"keeper_stalled"`
			} `msgpack:"config"`
		}
		check(t, m.client.Call(t.Context(), "status", map[string]any{"program": "writer"}, &reply))
		return reply.Config.Stalled != 0
	}
	check(t, unix.Kill(w.Keeper.PID, unix.SIGSTOP))
	defer func() { _ = unix.Kill(w.Keeper.PID, unix.SIGCONT) }()
	check(t, poll(func() (bool, string) { return stalled(), "status does not say that the keeper is stopped" }))
	said, err := os.ReadFile(m.stderr.Name())
	if check(t, err); !strings.Contains(string(said), "the keeper is stopped") {
		t.Errorf("the log does not say so: %s", said)
	}
	check(t, unix.Kill(w.Keeper.PID, unix.SIGCONT))
	check(t, poll(func() (bool, string) { return !stalled(), "status does not say that the keeper goes on" }))
	if now := m.settled(time.Time{}); now != w {
		t.Errorf("%+v was stopped, and now there is %+v", w, now)
	}
	var reply struct {
		Events []struct {
			Event string `msgpack:"event"`
			Topic string `msgpack:"topic"`
		} `msgpack:"events"`
	}
	check(t, m.client.Call(t.Context(), "events", map[string]any{"since": 0, "topic": "keeper"}, &reply))
	var told []string
	for _, e := range reply.Events {
		if e.Topic == "keeper" {
			told = append(told, e.Event)
		}
	}
	if got := strings.Join(told, ", "); !strings.HasSuffix(got, "stalled, goes on") {
		t.Errorf("events: %q", got)
	}
	m.took = append(m.took, 0)
	m.judge(true)
}
