package zmq

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc"
)

// TestAReplyLeavesInOnePiece: the kernel has the whole of a big status before
// its client has read any of it.
func TestAReplyLeavesInOnePiece(t *testing.T) {
	endpoint := endpointIn(t)
	listen(t, Config{RPC: []string{endpoint}}, &fakeBackend{view: programs(800)})
	peer, err := rawDial(strings.TrimPrefix(endpoint, "ipc://"))
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if err := peer.handshake("Socket-Type", "DEALER", "Identity", ""); err != nil {
		t.Fatal(err)
	}
	// The turn that took this heard of the connection, too.
	if _, err := peer.ask("version"); err != nil {
		t.Fatal(err)
	}
	request, err := rpc.EncodeRequest("status", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Write(frame(0, request)); err != nil {
		t.Fatal(err)
	}
	const inOnePiece = 250 << 10 // more than fits without widen
	held := 0
	for end := time.Now().Add(long); held < inOnePiece; time.Sleep(time.Millisecond) {
		if held = unread(t, peer.Conn.(*net.UnixConn)); time.Now().After(end) {
			t.Fatalf("only %d bytes of the reply came without being read", held)
		}
	}
}

// unread is how many bytes a connection holds for its reader.
func unread(t *testing.T, c *net.UnixConn) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.SIOCINQ) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return n
}
