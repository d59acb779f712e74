package zmq

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	zmq4 "github.com/pebbe/zmq4"

	"github.com/procnanny/procnanny/rpc"
)

// asked is a call under way.
func asked(t *testing.T, endpoint, method string, args map[string]any) <-chan error {
	t.Helper()
	c, err := Dial(endpoint, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	done := make(chan error, 1)
	go func() { done <- c.Call(context.Background(), method, args, nil) }()
	return done
}

// listening is a daemon at an endpoint that the last one has left.
func listening(t *testing.T, endpoint string) *zmq4.Socket {
	t.Helper()
	waitUntil(t, "nobody listens any more", func() bool {
		conn, err := net.Dial("unix", strings.TrimPrefix(endpoint, "ipc://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	return bindRaw(t, endpoint)
}

// hears takes a request, as a daemon that is killed before it answers.
func hears(t *testing.T, endpoint string) (daemon *zmq4.Socket, request [][]byte) {
	t.Helper()
	daemon = listening(t, endpoint)
	_ = daemon.SetRcvtimeo(long)
	request, err := daemon.RecvMessageBytes(0)
	if err != nil {
		t.Fatalf("no request came: %v", err)
	}
	return daemon, request
}

// TestAQuestionUnderWhichTheDaemonDies: it is asked again, also where that is not
// done for nothing.
func TestAQuestionUnderWhichTheDaemonDies(t *testing.T) {
	for method, args := range map[string]map[string]any{"status": nil, "history": {"program": "web"}, "plan": nil} {
		endpoint := endpointIn(t)
		done := asked(t, endpoint, method, args)
		first, _ := hears(t, endpoint)
		first.Close()
		second, request := hears(t, endpoint)
		if _, err := second.SendMessage(request[0], request[1], "", "\x80"); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// TestAChangeUnderWhichTheDaemonDies: nobody knows whether it was carried out. So
// it is not sent again, and that is told at once, not after a minute.
func TestAChangeUnderWhichTheDaemonDies(t *testing.T) {
	endpoint := endpointIn(t)
	done := asked(t, endpoint, "restart", map[string]any{"program": "web", "wait": true})
	first, _ := hears(t, endpoint)
	first.Close()
	if err := <-done; !errors.Is(err, ErrLost) {
		t.Errorf("got %v, want that it is lost", err)
	}
	second := listening(t, endpoint)
	_ = second.SetRcvtimeo(3 * reconnectMax)
	if again, err := second.RecvMessageBytes(0); err == nil {
		t.Errorf("it was asked for again: %q", again)
	}
}

// TestAQuestionThatKills: what the daemon dies of is not asked for ever.
func TestAQuestionThatKills(t *testing.T) {
	endpoint := endpointIn(t)
	done := asked(t, endpoint, "history", map[string]any{"program": "web"})
	for range 1 + askAgainMax {
		daemon, _ := hears(t, endpoint)
		daemon.Close()
	}
	if err := <-done; !errors.Is(err, ErrLost) {
		t.Errorf("got %v, want that it is lost", err)
	}
}

// TestADaemonThatDoesNotComeBack: nobody waits a minute for it.
func TestADaemonThatDoesNotComeBack(t *testing.T) {
	endpoint := endpointIn(t)
	done := asked(t, endpoint, "status", nil)
	first, _ := hears(t, endpoint)
	first.Close()
	if err := <-done; !errors.Is(err, ErrAway) {
		t.Errorf("got %v, want that nobody has come back", err)
	}
}

// TestWhatIsOnTheWayCounts: an answer that came before the connection broke.
func TestWhatIsOnTheWayCounts(t *testing.T) {
	for range 15 {
		endpoint := endpointIn(t)
		done := asked(t, endpoint, "restart", map[string]any{"program": "web"})
		daemon, request := hears(t, endpoint)
		_ = daemon.SetLinger(long)
		if _, err := daemon.SendMessage(request[0], request[1], "", "\x80"); err != nil {
			t.Fatal(err)
		}
		daemon.Close()
		if err := <-done; err != nil {
			t.Fatalf("an answer that was given: %v", err)
		}
	}
}

// TestTheLastBreakIsForgotten: what broke between two calls is no matter of the
// second.
func TestTheLastBreakIsForgotten(t *testing.T) {
	endpoint := endpointIn(t)
	c := dial(t, endpoint).(*client)
	for n := range 3 {
		done := make(chan error, 1)
		go func() { done <- c.Call(context.Background(), "restart", map[string]any{"program": "web"}, nil) }()
		daemon, request := hears(t, endpoint)
		_ = daemon.SetLinger(long)
		if _, err := daemon.SendMessage(request[0], request[1], "", "\x80"); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatalf("call %d: %v", n, err)
		}
		broken := c.socket.broken
		daemon.Close()
		waitUntil(t, "it is noticed", func() bool { c.socket.hear(); return c.socket.broken > broken })
	}
}

// TestASubscriptionOutlivesItsConnection: it is nothing that is asked for once,
// and waits for whoever comes, on each transport.
func TestASubscriptionOutlivesItsConnection(t *testing.T) {
	port := freePort(t)
	for _, at := range []string{endpointIn(t), "tcp://127.0.0.1:" + port} {
		c := Config{Events: []string{at}, InsecureLoopback: true}
		first, err := Listen(c, rpc.NewServer(rpc.Options{Backend: &fakeBackend{}}))
		if err != nil {
			t.Fatal(err)
		}
		sub := subscribe(t, at)
		waitUntil(t, "it is subscribed", func() bool { return first.Subscribed("x") })
		ctx, cancel := context.WithTimeout(context.Background(), long)
		defer cancel()
		got := make(chan error, 1)
		go func() { _, _, err := sub.NextRaw(ctx); got <- err }()
		first.Close()
		var second *Server
		waitUntil(t, "another listens", func() bool {
			second, err = Listen(c, rpc.NewServer(rpc.Options{Backend: &fakeBackend{}}))
			return err == nil
		})
		t.Cleanup(func() { second.Close() })
		waitUntil(t, "it is subscribed again", func() bool { return second.Subscribed("x") })
		second.Publish([]rpc.Message{{Topic: "x", Body: []byte("\x80")}})
		if err := <-got; err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// TestADaemonThatLeavesInTheHandshake: nothing was sent, so nothing is lost; and
// when nobody listens any more, nobody waits a minute.
func TestADaemonThatLeavesInTheHandshake(t *testing.T) {
	endpoint := endpointIn(t)
	path := strings.TrimPrefix(endpoint, "ipc://")
	if err := os.Mkdir(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := asked(t, endpoint, "restart", map[string]any{"program": "web"})
	for range 2 {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(greeting)
		conn.Close()
	}
	l.Close()
	if err := <-done; !errors.Is(err, ErrAway) {
		t.Errorf("got %v, want that nobody has come back", err)
	}
}
