package zmq

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc"
)

// gateVariable makes the test binary a server with few descriptors.
const gateVariable = "PROCNANNY_TEST_GATE"

const fewDescriptors = 600

func serveWithFewDescriptors(endpoints string) error {
	few := unix.Rlimit{Cur: fewDescriptors, Max: fewDescriptors}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		return err
	}
	handler := rpc.NewServer(rpc.Options{Backend: &fakeBackend{view: programs(1)}})
	s, err := Listen(Config{RPC: strings.Split(endpoints, ","), InsecureLoopback: true}, handler)
	if err != nil {
		return err
	}
	fmt.Println("listening " + strings.Join(s.Endpoints(), ","))
	_, err = os.Stdin.Read(make([]byte, 1)) // until the test is over
	return err
}

// few is a process that serves with few descriptors. It says where it listens.
func few(t *testing.T, endpoints string) (at []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=none")
	cmd.Env = append(os.Environ(), gateVariable+"="+endpoints)
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
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	list, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
	if err != nil || !ok {
		t.Fatalf("the server says %q, %v", line, err)
	}
	return strings.Split(list, ",")
}

// TestManyConnectionsDoNotKillTheServer: libzmq aborts when accept finds no
// descriptor; so new clients find no socket before that, and old ones are
// served.
func TestManyConnectionsDoNotKillTheServer(t *testing.T) {
	endpoint := endpointIn(t)
	path := strings.TrimPrefix(endpoint, "ipc://")
	few(t, endpoint)
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

// TestConnectionsOverTCPAreCapped: whoever comes over a network, and stays, keeps
// nobody out who is on the machine; and when they are gone, others may come.
func TestConnectionsOverTCPAreCapped(t *testing.T) {
	at := few(t, endpointIn(t)+",tcp://127.0.0.1:*")
	path, remote := strings.TrimPrefix(at[0], "ipc://"), strings.TrimPrefix(at[1], "tcp://")
	var ended, open atomic.Int32
	var flooding sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		flooding.Go(func() {
			var mine sync.WaitGroup
			defer mine.Wait()
			for {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := net.Dial("tcp", remote)
				if err != nil {
					continue
				}
				_, _ = conn.Write(append(bytes.Clone(greeting), ready("Socket-Type", "DEALER")...))
				open.Add(1)
				mine.Go(func() {
					go func() { <-stop; conn.Close() }()
					_, _ = io.Copy(io.Discard, conn) // until it is ended
					open.Add(-1)
					ended.Add(1)
					conn.Close()
				})
				for open.Load() > 2*fewDescriptors { // ours are not the point
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for n := 0; n < 100 || ended.Load() < fewDescriptors; n++ {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("who is on the machine finds no socket: %v", err)
			break
		}
		if code, err := ask(t, at[0], nil, "dance", long); err != nil || code != "" {
			t.Errorf("who is on the machine is not served: %q, %v", code, err)
			break
		}
	}
	close(stop)
	flooding.Wait()
	t.Logf("%d connections over tcp were ended", ended.Load())
	c, err := Dial(at[1], long)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Call(context.Background(), "dance", nil, nil); err != nil {
		t.Errorf("a client over tcp from after: %v", err)
	}
}

func TestGateLimit(t *testing.T) {
	for soft, want := range map[uint64]int{256: 128, 600: 344, 1024: 768, 20_000: 16_000, 1 << 40: 1<<30 - 1<<30/5} {
		if got := gateLimit(soft); got != want {
			t.Errorf("of %d descriptors the gate opens %d, want %d", soft, got, want)
		}
	}
}
