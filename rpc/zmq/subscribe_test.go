package zmq

import (
	"path/filepath"
	"testing"
	"time"
)

// Who publishes only what is wanted is told when that may have changed.
func TestOnSubscribe(t *testing.T) {
	dir := t.TempDir()
	rpcAt, eventsAt := "ipc://"+filepath.Join(dir, "rpc.sock"), "ipc://"+filepath.Join(dir, "events.sock")
	s, err := Listen(Config{RPC: []string{rpcAt}, Events: []string{eventsAt}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	changed := make(chan struct{}, 100)
	s.OnSubscribe(func() { changed <- struct{}{} })
	until := func(want bool) {
		t.Helper()
		for s.Subscribed("output.web.") != want {
			select {
			case <-changed:
			case <-time.After(10 * time.Second):
				t.Fatalf("not told that output of web is wanted: %t", want)
			}
		}
	}
	until(false)
	sub, err := Subscribe(eventsAt, []string{"output.web.0"})
	if err != nil {
		t.Fatal(err)
	}
	until(true)
	if s.Subscribed("output.db.") {
		t.Error("nobody wants the output of db")
	}
	sub.Close()
	until(false)
}
