package zmq

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	zmq4 "github.com/pebbe/zmq4"

	"github.com/procnanny/procnanny/rpc"
)

// TestShare sends replies in an order in which the last one is held, let go of
// while it waits in the socket, and held again: each arrives as it was.
func TestShare(t *testing.T) {
	endpoint := "inproc://share"
	from := rawPair(t, func(s *zmq4.Socket) error { return s.Bind(endpoint) })
	to := rawPair(t, func(s *zmq4.Socket) error { return s.Connect(endpoint) })
	var s share
	defer s.drop()
	small := bytes.Repeat([]byte("s"), shareLeast-1)
	large, other := bytes.Repeat([]byte("l"), shareLeast), bytes.Repeat([]byte("o"), 10*shareLeast)
	steps := []struct {
		reply []byte
		held  bool
	}{
		{large, false},
		{large, true},
		{small, true},
		{large, true},
		{other, false},
		{large, false},
		{other, false},
		{other, true},
		{other[:9*shareLeast], false},
		{other[shareLeast:], false},
	}
	for n, step := range steps {
		if err := s.send(from, step.reply); err != nil || s.held != step.held {
			t.Fatalf("step %d: %v, held %v, want %v", n, err, s.held, step.held)
		}
	}
	s.drop()
	for n, step := range steps {
		if got, err := to.RecvBytes(0); err != nil || !bytes.Equal(got, step.reply) {
			t.Errorf("step %d: %d bytes, %v, want %d", n, len(got), err, len(step.reply))
		}
	}
}

// TestShareWithoutRoom has a socket without a peer refuse what is held as it
// refuses bytes.
func TestShareWithoutRoom(t *testing.T) {
	from := rawPair(t, func(*zmq4.Socket) error { return nil })
	var s share
	defer s.drop()
	reply := make([]byte, shareLeast)
	for n := range 3 {
		if err := s.send(from, reply); !errors.Is(err, noRoom) || s.held != (n > 0) {
			t.Errorf("send %d: %v, held %v, want %v", n, err, s.held, noRoom)
		}
	}
}

// changing is a backend whose picture changes.
type changing struct {
	rpc.Backend
	view atomic.Pointer[rpc.View]
}

func (c *changing) View() *rpc.View { return c.view.Load() }

// TestStatusIsSharedAndTrue asks for a large status until it is sent from what is
// held, then changes what it says.
func TestStatusIsSharedAndTrue(t *testing.T) {
	endpoint := endpointIn(t)
	b := &changing{}
	b.view.Store(programs(500))
	s, err := Listen(Config{RPC: []string{endpoint}}, rpc.NewServer(rpc.Options{Backend: b, Access: rpc.Rights{Own: ownUID}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	client := rawSocket(t, zmq4.REQ, endpoint)
	_ = client.SetRcvtimeo(10 * time.Second)
	size := 0
	for n := range 20 {
		got := status(t, client)
		if n == 0 {
			size = len(got)
		}
		if len(got) != size || !bytes.Contains(got, []byte("program-00499")) {
			t.Fatalf("reply %d has %d bytes, the first one %d", n, len(got), size)
		}
	}
	b.view.Store(programs(501))
	if got := status(t, client); !bytes.Contains(got, []byte("program-00500")) {
		t.Error("an old status was served")
	}
}

// status asks a REQ socket's server for it.
func status(t *testing.T, s *zmq4.Socket) []byte {
	t.Helper()
	request, err := rpc.EncodeRequest("status", nil)
	if err == nil {
		_, err = s.SendBytes(request, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.RecvBytes(0)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func rawPair(t *testing.T, join func(*zmq4.Socket) error) *zmq4.Socket {
	t.Helper()
	s, err := zmq4.NewSocket(zmq4.PAIR)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	_ = s.SetRcvtimeo(10 * time.Second)
	_ = s.SetLinger(0)
	if err := join(s); err != nil {
		t.Fatal(err)
	}
	return s
}

// libzmq keeps pointers in what it holds, and may rely on where those may be.
func TestShareIsAligned(t *testing.T) {
	const word = unsafe.Sizeof(uintptr(0))
	var l loop
	if at := unsafe.Offsetof(l.share) + unsafe.Offsetof(l.share.msg); at%word != 0 {
		t.Errorf("what libzmq holds is at offset %d, which is no multiple of %d", at, word)
	}
}
