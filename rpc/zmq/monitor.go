package zmq

import (
	"fmt"
	"net/netip"

	zmq4 "github.com/pebbe/zmq4"
	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc"
)

// monitor hears what becomes of the connections of one socket that listens.
type monitor struct {
	of, socket *zmq4.Socket
	kind       kind
	// conns are the living connections over tcp, by descriptor.
	conns map[int]*conn
	// last is the handshake that failed just now: libzmq tells whose it was in
	// the next message, which says that it is gone.
	last zmq4.Event
	// tell is called with each connection that was no good; nil does not want to
	// know.
	tell func(address, why string)
}

// conn is a connection over tcp.
type conn struct {
	address string
	// done: its handshake is over, or it may be: libzmq does not say whose is.
	done bool
}

// heard are the events that a monitor wants.
const heard = zmq4.EVENT_ACCEPTED | zmq4.EVENT_DISCONNECTED | zmq4.EVENT_HANDSHAKE_SUCCEEDED |
	zmq4.EVENT_HANDSHAKE_FAILED_AUTH | zmq4.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq4.EVENT_HANDSHAKE_FAILED_NO_DETAIL

// newMonitor watches a socket; ctx is its context.
func newMonitor(ctx *zmq4.Context, of *zmq4.Socket, k kind, name string) (*monitor, error) {
	events := zmq4.Event(zmq4.EVENT_ACCEPTED)
	if k != kindIPC {
		events = heard
	}
	if err := of.Monitor(name, events); err != nil {
		return nil, fmt.Errorf("cannot watch connections: %w", err)
	}
	s, err := ctx.NewSocket(zmq4.PAIR)
	if err == nil {
		if err = s.Connect(name); err != nil {
			s.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot watch connections: %w", err)
	}
	return &monitor{of: of, socket: s, kind: k, conns: map[int]*conn{}}, nil
}

// hear takes what is there, and returns how many connections came.
func (m *monitor) hear() (came int) {
	for range burst * 16 {
		event, _, value, err := m.socket.RecvEvent(zmq4.DONTWAIT)
		if err != nil {
			return came
		}
		if event == zmq4.EVENT_ACCEPTED {
			came++
		}
		if m.kind == kindIPC {
			widen(value)
			continue
		}
		m.take(event, value)
	}
	return came
}

// sendBuffer is how many bytes the kernel may hold for a client on ipc: the
// status of a thousand instances (390 KB) leaves in one write then. With the
// default (208 KiB) our thread and the client wait for each other in between,
// which costs a quarter of the calls per second. Four times the reply is what
// unix_writable() of the kernel asks for before it takes a socket for writable:
// with less, libzmq's thread is woken once more for each, to see that it has
// nothing more to write. The kernel doubles the figure, and takes no more than
// net.core.wmem_max (socket(7)).
const sendBuffer = 1 << 20

// widen lets a connection that was just accepted hold a whole reply. It may be
// gone, and its number be another descriptor's by now: that is none of a socket,
// or one of ours that loses nothing by it.
func widen(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
}

// take follows one connection. What is told about handshakes comes without a
// descriptor: a success is of one of those that wait for it, a failure of the
// one that is told to be gone next.
func (m *monitor) take(event zmq4.Event, fd int) {
	switch event {
	case zmq4.EVENT_ACCEPTED:
		m.conns[fd] = &conn{address: addressOf(fd)}
	case zmq4.EVENT_HANDSHAKE_SUCCEEDED:
		for _, c := range m.conns {
			c.done = true
		}
	case zmq4.EVENT_DISCONNECTED:
		c := m.conns[fd]
		delete(m.conns, fd)
		if c != nil {
			m.gone(c)
		}
		m.last = 0
	default:
		m.last = event
	}
}

// gone tells of a connection that ended without its handshake. Of those that
// were refused for their key, ZAP has told; of those that only went away, or
// waited in silence, there is nothing to tell.
func (m *monitor) gone(c *conn) {
	switch {
	case m.tell == nil:
	case m.last == zmq4.EVENT_HANDSHAKE_FAILED_PROTOCOL:
		m.tell(c.address, "it has no CURVE key, or took another server's key for ours")
	case m.last == 0 && !c.done:
		m.tell(c.address, "it does not speak ZMTP 3")
	}
}

// addressOf is the address at the other end of a connection, if it is still
// there.
func addressOf(fd int) string {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return ""
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(sa.Addr).String()
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(sa.Addr).Unmap().String()
	}
	return ""
}

// refusedConnection makes what a monitor tells a refusal.
func (l *loop) refusedConnection(endpoint string) func(address, why string) {
	return func(address, why string) {
		l.server.handler.Refused(rpc.Refusal{Act: rpc.ActConnect, Endpoint: endpoint, Peer: rpc.Peer{Address: address}, Why: why})
	}
}
