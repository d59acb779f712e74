package zmq

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	zmq4 "github.com/pebbe/zmq4"
	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc"
)

func TestOneThousandPipelinedRequestsOfTenClients(t *testing.T) {
	endpoint := endpointIn(t)
	s := listen(t, Config{RPC: []string{endpoint}}, &fakeBackend{view: programs(3)})
	var clients sync.WaitGroup
	for range 10 {
		clients.Go(func() { pipeline(t, endpoint, 1000) })
	}
	clients.Wait()
	if c := s.Traffic(); c.Requests != 10_000 || c.Busy != 0 || c.Unsent != 0 {
		t.Errorf("counters %+v, want 10000 requests and no trouble", c)
	}
}

// pipeline sends n requests before it reads the first reply.
func pipeline(t *testing.T, endpoint string, n int) {
	s, err := connected(zmq4.DEALER, endpoint)
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Close()
	_ = s.SetRcvtimeo(10 * time.Second)
	for i := range n {
		request, _ := rpc.EncodeRequest("status", map[string]any{"n": i})
		if _, err := s.SendMessage(binary.BigEndian.AppendUint32(nil, uint32(i)), "", request); err != nil {
			t.Error(err)
			return
		}
	}
	for i := range n {
		frames, err := s.RecvMessageBytes(0)
		if err != nil {
			t.Errorf("reply %d: %v", i, err)
			return
		}
		if len(frames) != 3 || binary.BigEndian.Uint32(frames[0]) != uint32(i) || !bytes.HasPrefix(frames[2], []byte("\x83\xa8programs")) {
			t.Errorf("reply %d is %q", i, frames)
			return
		}
	}
}

func TestEveryKindOfClientIsServed(t *testing.T) {
	endpoint := endpointIn(t)
	listen(t, Config{RPC: []string{endpoint}}, &fakeBackend{view: programs(1)})
	request, _ := rpc.EncodeRequest("dance", nil)
	const want = "\x81\xa6danced\xc3"

	req := rawSocket(t, zmq4.REQ, endpoint)
	_ = req.SetRcvtimeo(5 * time.Second)
	for range 3 {
		if _, err := req.SendBytes(request, 0); err != nil {
			t.Fatal(err)
		}
		if got, err := req.RecvBytes(0); string(got) != want {
			t.Fatalf("REQ got %q, %v", got, err)
		}
	}
	dealer := rawSocket(t, zmq4.DEALER, endpoint)
	_ = dealer.SetRcvtimeo(5 * time.Second)
	for _, envelope := range [][]string{nil, {""}, {"id", ""}, {"a", "b", "c", ""}} {
		if _, err := dealer.SendMessage(envelope, request); err != nil {
			t.Fatal(err)
		}
		got, err := dealer.RecvMessage(0)
		if strings.Join(got, "|") != strings.Join(append(envelope, want), "|") {
			t.Errorf("DEALER with envelope %q got %q, %v", envelope, got, err)
		}
	}
}

func TestGarbageGetsAnErrorAndTheNextRequestIsServed(t *testing.T) {
	endpoint := endpointIn(t)
	listen(t, Config{RPC: []string{endpoint}}, &fakeBackend{view: programs(1)})
	req := rawSocket(t, zmq4.REQ, endpoint)
	_ = req.SetRcvtimeo(5 * time.Second)
	good, _ := rpc.EncodeRequest("dance", nil)
	for _, bad := range []string{
		"", "\xc1", "\xdd\xff\xff\xff\xff", "\xdf\xff\xff\xff\xff", "\xc6\xff\xff\xff\xff", strings.Repeat("\x91", 100_000),
		string(good) + "\x00", "\x81\xa7request\xd4\x01\x01", strings.Repeat("x", rpc.MaxRequest+1),
	} {
		if _, err := req.Send(bad, 0); err != nil {
			t.Fatal(err)
		}
		got, err := req.RecvBytes(0)
		if err != nil {
			t.Fatalf("%.20q: %v", bad, err)
		}
		if _, refused := errors.AsType[*rpc.Error](rpc.DecodeReply(got, nil)); !refused {
			t.Errorf("%.20q got %q, want an error", bad, got)
		}
		if _, err := req.SendBytes(good, 0); err != nil {
			t.Fatal(err)
		}
		if got, err := req.RecvBytes(0); string(got) != "\x81\xa6danced\xc3" {
			t.Fatalf("after %.20q the next request got %q, %v", bad, got, err)
		}
	}
}

// TestBytesThatAreNoZMTP: whatever a connection sends, others are served.
func TestBytesThatAreNoZMTP(t *testing.T) {
	endpoint := endpointIn(t)
	listen(t, Config{RPC: []string{endpoint}}, &fakeBackend{view: programs(1)})
	path := strings.TrimPrefix(endpoint, "ipc://")
	greeting := "\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00NULL" + strings.Repeat("\x00", 48)
	for _, garbage := range []string{
		"", "\x00", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "\x01\x00", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
		greeting[:20], greeting, greeting + "\x06\xff\xff\xff\xff\xff\xff\xff\xff\xff", greeting + strings.Repeat("\xff", 1000),
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() // they stay open meanwhile: a slow loris each
		if _, err := conn.Write([]byte(garbage)); err != nil {
			t.Logf("%.20q: %v", garbage, err)
		}
		if err := dial(t, endpoint).Call(context.Background(), "dance", nil, nil); err != nil {
			t.Fatalf("after %.20q: %v", garbage, err)
		}
	}
}

// TestZMTP1PeersAreUnknown: they have no Peer-Address, as a browser's POST has
// none.
func TestZMTP1PeersAreUnknown(t *testing.T) {
	endpoint := endpointIn(t)
	listen(t, Config{RPC: []string{endpoint}}, &fakeBackend{view: programs(1)})
	conn, err := net.Dial("unix", strings.TrimPrefix(endpoint, "ipc://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request, _ := rpc.EncodeRequest("dance", nil)
	// ZMTP 1.0: length (with flags), flags, body. First an empty identity.
	msg := append([]byte{1, 0, 1, 1, byte(len(request) + 1), 0}, request...)
	if _, err := conn.Write(msg); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	var got []byte
	for buf := make([]byte, 4096); !bytes.Contains(got, []byte("forbidden")); {
		n, err := conn.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			t.Fatalf("got %q, %v; want a refusal", got, err)
		}
	}
	if bytes.Contains(got, []byte("danced")) {
		t.Errorf("it was served: %q", got)
	}
}

func TestAClientThatVanishesLeavesNothing(t *testing.T) {
	endpoint := endpointIn(t)
	release := make(chan struct{})
	started, ended := make(chan struct{}, 100), make(chan struct{}, 100)
	b := &fakeBackend{view: programs(1), runs: func(context.Context) ([]rpc.Run, error) {
		started <- struct{}{}
		<-release
		ended <- struct{}{}
		return nil, nil
	}}
	s := listen(t, Config{RPC: []string{endpoint}}, b)
	request, _ := rpc.EncodeRequest("history", map[string]any{"program": "program-00000"})
	for range 10 {
		sock, err := connected(zmq4.DEALER, endpoint)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sock.SendMessage("", request); err != nil {
			t.Fatal(err)
		}
		<-started
		sock.Close()
	}
	c := dial(t, endpoint)
	if err := c.Call(context.Background(), "dance", nil, nil); err != nil {
		t.Fatal(err)
	}
	close(release)
	for range 10 {
		<-ended
	}
	// As many slow requests of a new client as may run at once: nothing of the
	// others takes their place.
	for range maxPeerRunning {
		if err := c.Call(context.Background(), "history", map[string]any{"program": "program-00000"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Traffic(); n.Busy != 0 || n.Requests != 11+maxPeerRunning {
		t.Errorf("counters %+v", n)
	}
}

func TestSlowCallsDoNotHoldUpQuickOnes(t *testing.T) {
	endpoint := endpointIn(t)
	release := make(chan struct{})
	b := &fakeBackend{view: programs(1), runs: func(context.Context) ([]rpc.Run, error) {
		<-release
		return nil, nil
	}}
	listen(t, Config{RPC: []string{endpoint}}, b)
	slow := rawSocket(t, zmq4.DEALER, endpoint)
	_ = slow.SetRcvtimeo(10 * time.Second)
	request, _ := rpc.EncodeRequest("history", map[string]any{"program": "program-00000"})
	quick, _ := rpc.EncodeRequest("dance", nil)
	const n = 100 // more than run at once for one connection
	for range n {
		if _, err := slow.SendMessage("slow", request); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := slow.SendMessage("quick", quick); err != nil {
		t.Fatal(err)
	}
	if got, err := slow.RecvMessage(0); err != nil || got[0] != "quick" {
		t.Errorf("got %q, %v; want the quick reply first, on the same connection", got, err)
	}
	if err := dial(t, endpoint).Call(context.Background(), "status", nil, nil); err != nil {
		t.Errorf("another client: %v", err)
	}
	close(release)
	for i := range n {
		if got, err := slow.RecvMessage(0); err != nil || got[0] != "slow" {
			t.Fatalf("slow reply %d: %q, %v", i, got, err)
		}
	}
}

func TestTooManySlowRequestsOfOneConnectionAreBusy(t *testing.T) {
	endpoint := endpointIn(t)
	release := make(chan struct{})
	b := &fakeBackend{view: programs(1), runs: func(context.Context) ([]rpc.Run, error) {
		<-release
		return nil, nil
	}}
	listen(t, Config{RPC: []string{endpoint}}, b)
	c := rawSocket(t, zmq4.DEALER, endpoint)
	_ = c.SetRcvtimeo(10 * time.Second)
	request, _ := rpc.EncodeRequest("history", map[string]any{"program": "program-00000"})
	const over = 10
	for range maxPeerRunning + maxPeerWaiting + over {
		if _, err := c.SendMessage(request); err != nil {
			t.Fatal(err)
		}
	}
	for range over {
		got, err := c.RecvMessageBytes(0)
		if err != nil {
			t.Fatal(err)
		}
		var refused *rpc.Error
		if err := rpc.DecodeReply(got[0], nil); !errors.As(err, &refused) || refused.Code != rpc.CodeBusy {
			t.Errorf("got %v, want busy", err)
		}
	}
	close(release)
	for i := range maxPeerRunning + maxPeerWaiting {
		if _, err := c.RecvMessageBytes(0); err != nil {
			t.Fatalf("reply %d of those that waited: %v", i, err)
		}
	}
}

func TestAClientThatReadsLateGetsAllReplies(t *testing.T) {
	endpoint := endpointIn(t)
	listen(t, Config{RPC: []string{endpoint}}, &fakeBackend{view: programs(300)}) // some 100 KB a reply
	c := rawSocket(t, zmq4.DEALER, endpoint)
	_ = c.SetRcvhwm(1)
	_ = c.SetRcvtimeo(10 * time.Second)
	request, _ := rpc.EncodeRequest("status", nil)
	const n = 300
	for range n {
		if _, err := c.SendMessage(request); err != nil {
			t.Fatal(err)
		}
	}
	if err := dial(t, endpoint).Call(context.Background(), "dance", nil, nil); err != nil { // others are served meanwhile
		t.Fatal(err)
	}
	for i := range n {
		if _, err := c.RecvMessageBytes(0); err != nil {
			t.Fatalf("reply %d: %v", i, err)
		}
	}
}

func TestCloseLetsRepliesOutAndNamesBack(t *testing.T) {
	endpoint := endpointIn(t)
	started := make(chan struct{})
	b := &fakeBackend{view: programs(1000), runs: func(ctx context.Context) ([]rpc.Run, error) {
		close(started)
		<-ctx.Done() // a wait that is cut off
		return nil, ctx.Err()
	}}
	s := listen(t, Config{RPC: []string{endpoint}}, b)
	path := strings.TrimPrefix(endpoint, "ipc://")
	c := rawSocket(t, zmq4.DEALER, endpoint)
	_ = c.SetRcvtimeo(5 * time.Second)
	history, _ := rpc.EncodeRequest("history", map[string]any{"program": "program-00000"})
	if _, err := c.SendMessage(history); err != nil {
		t.Fatal(err)
	}
	<-started
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := c.RecvMessageBytes(0)
	if err != nil {
		t.Fatal(err)
	}
	var refused *rpc.Error
	if err := rpc.DecodeReply(got[0], nil); !errors.As(err, &refused) || refused.Code != rpc.CodeUnavailable {
		t.Errorf("got %v, want that the daemon is ending", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestSocketsHaveTheirModes(t *testing.T) {
	endpoint := endpointIn(t)
	path := strings.TrimPrefix(endpoint, "ipc://")
	listen(t, Config{RPC: []string{endpoint}}, &fakeBackend{view: programs(1)})
	for p, want := range map[string]os.FileMode{path: os.ModeSocket | socketMode, filepath.Dir(path): os.ModeDir | dirMode} {
		if st, err := os.Stat(p); err != nil || st.Mode() != want {
			t.Errorf("%s: %v %v, want %v", p, st.Mode(), err, want)
		}
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 1 {
		t.Errorf("the directory holds %v, want only the socket", names)
	}
}

func TestWhatIsInTheWay(t *testing.T) {
	endpoint := endpointIn(t)
	path := strings.TrimPrefix(endpoint, "ipc://")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	handler := rpc.NewServer(rpc.Options{Backend: &fakeBackend{view: programs(1)}})
	if _, err := Listen(Config{RPC: []string{endpoint}}, handler); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "precious" {
		t.Error("the file is gone")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Config{RPC: []string{endpoint}}, handler); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a living socket in the way: %v", err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close() // now it is left by a dead one
	s, err := Listen(Config{RPC: []string{endpoint}}, handler)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	s.Close()
}

func TestEndpointsThatAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"ipc://@abstract":                    "path",
		"ipc://*":                            "path",
		"ipc://":                             "path",
		"inproc://x":                         "ipc://PATH",
		"rpc.sock":                           "ipc://PATH",
		"ipc:///" + strings.Repeat("x", 200): "at most 107",
	} {
		if _, err := parseEndpoint(text, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", text, err, want)
		}
	}
	for _, text := range []string{"tcp://example.org:1", "tcp://127.0.0.1", "tcp://127.0.0.1:x", "tcp://eth0:1", "tcp://", "tcp://:1"} {
		if _, err := parseEndpoint(text, true); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
	for text, want := range map[string]kind{
		"tcp://127.0.0.1:*": kindPlain, "tcp://localhost:3333": kindPlain, "tcp://[::1]:3333": kindPlain, "tcp://127.1.2.3:0": kindPlain,
		"tcp://0.0.0.0:1": kindCurve, "tcp://*:1": kindCurve, "tcp://192.0.2.1:1": kindCurve, "tcp://[::]:1": kindCurve,
	} {
		for insecure, want := range map[bool]kind{true: want, false: kindCurve} {
			if e, err := parseEndpoint(text, insecure); err != nil || e.kind != want {
				t.Errorf("%s, insecure %t: %+v, %v, want kind %d", text, insecure, e, err, want)
			}
		}
	}
}

func TestPeers(t *testing.T) {
	for text, want := range map[string]rpc.Peer{
		"localhost:1000:1001:42": {UID: 1000, GID: 1001, PID: 42, Known: true},
		":0:0:1":                 {UID: 0, GID: 0, PID: 1, Known: true},
		"9:9:9:0:0:5:6:7":        {UID: 5, GID: 6, PID: 7, Known: true},
		"":                       {}, "1:2:3": {UID: 0}, "localhost:-1:0:0": {}, "localhost:x:0:0": {}, "a:99999999999:0:0": {},
	} {
		if got := parsePeer(text); got != want {
			t.Errorf("%q is %+v, want %+v", text, got, want)
		}
	}
}

func TestInsecureLoopback(t *testing.T) {
	b := &fakeBackend{view: programs(1)}
	s := listen(t, Config{RPC: []string{"tcp://127.0.0.1:*", endpointIn(t)}, InsecureLoopback: true}, b)
	if len(s.Endpoints()) != 2 || strings.HasSuffix(s.Endpoints()[0], "*") {
		t.Fatalf("endpoints %v", s.Endpoints())
	}
	for _, endpoint := range s.Endpoints() {
		if err := dial(t, endpoint).Call(context.Background(), "dance", nil, nil); err != nil {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

// waitUntil polls: what it waits for is another thread's doing.
func waitUntil(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestSocketsBelongToTheGroup(t *testing.T) {
	gid := uint32(os.Getgid())
	if os.Getuid() == 0 {
		gid = 12345 // only root may give files to any group
	}
	endpoint := endpointIn(t)
	path := strings.TrimPrefix(endpoint, "ipc://")
	listen(t, Config{RPC: []string{endpoint}, Group: &gid}, &fakeBackend{view: programs(1)})
	for _, p := range []string{path, filepath.Dir(path)} {
		var st unix.Stat_t
		if err := unix.Stat(p, &st); err != nil || st.Gid != gid {
			t.Errorf("%s belongs to group %d, %v; want %d", p, st.Gid, err, gid)
		}
	}
}
