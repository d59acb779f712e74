package zmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc"
)

// gateVariable makes the test binary a server with few descriptors.
const gateVariable = "PROCNANNY_TEST_GATE"

const fewDescriptors = 600

func serveWithFewDescriptors(endpoint string) error {
	few := unix.Rlimit{Cur: fewDescriptors, Max: fewDescriptors}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		return err
	}
	handler := rpc.NewServer(rpc.Options{Backend: &fakeBackend{view: programs(1)}})
	if _, err := Listen(Config{RPC: []string{endpoint}}, handler); err != nil {
		return err
	}
	fmt.Println("listening")
	_, err := os.Stdin.Read(make([]byte, 1)) // until the test is over
	return err
}

// TestManyConnectionsDoNotKillTheServer: libzmq aborts when accept finds no
// descriptor; so new clients find no socket before that, and old ones are
// served.
func TestManyConnectionsDoNotKillTheServer(t *testing.T) {
	endpoint := endpointIn(t)
	path := strings.TrimPrefix(endpoint, "ipc://")
	cmd := exec.Command(os.Args[0], "-test.run=none")
	cmd.Env = append(os.Environ(), gateVariable+"="+endpoint)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		_ = cmd.Wait()
	}()
	line := make([]byte, 100)
	if n, err := stdout.Read(line); err != nil || string(line[:n]) != "listening\n" {
		t.Fatalf("the server says %q, %v", line[:n], err)
	}
	old := dial(t, endpoint)
	if err := old.Call(context.Background(), "dance", nil, nil); err != nil {
		t.Fatal(err)
	}
	conns, refused := flood(t, path)
	if !refused {
		t.Errorf("all of %d connections were taken", len(conns))
	}
	if err := old.Call(context.Background(), "dance", nil, nil); err != nil {
		t.Errorf("a client from before: %v", err)
	}
	for _, c := range conns {
		c.Close()
	}
	waitUntil(t, "the socket is back", func() bool { _, err := os.Lstat(path); return err == nil })
	if err := dial(t, endpoint).Call(context.Background(), "dance", nil, nil); err != nil {
		t.Errorf("a client from after: %v", err)
	}
}

// flood connects until the socket is gone.
func flood(t *testing.T, path string) (conns []net.Conn, refused bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); len(conns) < 3*fewDescriptors && time.Now().Before(end); {
		conn, err := net.Dial("unix", path)
		if errors.Is(err, os.ErrNotExist) {
			return conns, true
		}
		if err == nil {
			conns = append(conns, conn)
		}
	}
	return conns, false
}

func TestGateLimit(t *testing.T) {
	for soft, want := range map[uint64]int{256: 128, 600: 344, 1024: 768, 20_000: 16_000, 1 << 40: 1<<30 - 1<<30/5} {
		if got := gateLimit(soft); got != want {
			t.Errorf("of %d descriptors the gate opens %d, want %d", soft, got, want)
		}
	}
}
