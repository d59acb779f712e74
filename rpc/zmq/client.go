package zmq

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	zmq4 "github.com/pebbe/zmq4"

	"github.com/procnanny/procnanny/rpc"
)

// Times of a client.
const (
	defaultTimeout = 5 * time.Second
	defaultWait    = 60 * time.Second // what a request with `wait` waits without a timeout of its own
	askAgain       = time.Second      // a question without an answer is asked again
	askAgainMax    = 5                // after that many broken connections it is not: it may be what breaks them
	// Control is back within a tenth of a second after it was killed. To look five
	// times a second for a daemon that is down takes less than a thousandth of a
	// processor.
	reconnect    = 20 * time.Millisecond
	reconnectMax = 200 * time.Millisecond
	// returnWait is how long after a connection broke it is looked whether anybody
	// listens on this machine; if nobody does, nobody is waited for any more.
	returnWait = 2 * time.Second
)

// ErrLost is that the connection broke after a request was sent and before its
// answer came: nobody knows whether it was carried out.
var ErrLost = errors.New("the connection broke before the answer came")

// ErrAway is that the daemon went away, and nobody listens there any more. What
// was asked was a question, or never reached it.
var ErrAway = errors.New("the daemon went away, and nobody listens there any more")

// clientContext is one libzmq context for all clients of a process. It is
// never terminated: nothing lingers in it.
var clientContext = sync.OnceValues(newContext)

// client is a Caller over one DEALER socket: one call at a time.
type client struct {
	endpoint string
	timeout  time.Duration
	keys     *ClientKeys

	mu     sync.Mutex
	socket *dialled // nil: made at the next call
	last   uint64   // id of the last request
	closed bool
}

// Dial makes a client of the daemon at endpoint. It does not wait for the
// daemon: a call does, for timeout at most (0 is 5 s), or until its context's
// deadline when that has one. A request with `wait` gets the time that it asks
// the daemon to wait on top. Calls of one client wait for each other. When the
// connection breaks under a request that only reads, it is sent again; any other
// fails at once with [ErrLost].
func Dial(endpoint string, timeout time.Duration) (rpc.Caller, error) {
	return DialKeys(endpoint, timeout, nil)
}

// DialKeys is Dial with keys, for TCP endpoints; nil is none.
func DialKeys(endpoint string, timeout time.Duration, keys *ClientKeys) (rpc.Caller, error) {
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	c := &client{endpoint: endpoint, timeout: timeout, keys: keys}
	if err := c.connect(); err != nil {
		return nil, err
	}
	return c, nil
}

var clientOptions = []option{
	{"linger", func(s *zmq4.Socket) error { return s.SetLinger(0) }},
	{"longest message", func(s *zmq4.Socket) error { return s.SetMaxmsgsize(rpc.MaxReply + rpc.MaxRequest) }},
	{"reconnection interval", func(s *zmq4.Socket) error { return s.SetReconnectIvl(reconnect) }},
	{"longest reconnection interval", func(s *zmq4.Socket) error { return s.SetReconnectIvlMax(reconnectMax) }},
	{"handshake interval", func(s *zmq4.Socket) error { return s.SetHandshakeIvl(handshake) }},
	{"IPv6", func(s *zmq4.Socket) error { return s.SetIpv6(true) }},
}

func (c *client) connect() (err error) {
	c.socket, err = connect(zmq4.DEALER, c.endpoint, c.keys, true)
	return err
}

// Close implements rpc.Caller.
func (c *client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return c.disconnect()
}

func (c *client) disconnect() error {
	if c.socket == nil {
		return nil
	}
	err := c.socket.close()
	c.socket = nil
	return err
}

// Call implements rpc.Caller.
func (c *client) Call(ctx context.Context, method string, args map[string]any, reply any) error {
	request, err := rpc.EncodeRequest(method, args)
	if err != nil {
		return err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout+waits(args))
		defer cancel()
	}
	c.mu.Lock()
	msg, err := c.exchange(ctx, request, patienceFor(method, args))
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("cannot call %s at %s: %w", method, c.endpoint, err)
	}
	return rpc.DecodeReply(msg, reply)
}

// waits is how long args ask the daemon to wait.
func waits(args map[string]any) time.Duration {
	if args["wait"] != true {
		return 0
	}
	switch t := args["timeout"].(type) {
	case time.Duration:
		return t
	case float64:
		return time.Duration(t * float64(time.Second))
	case int:
		return time.Duration(t) * time.Second
	case string:
		if d, err := time.ParseDuration(t); err == nil {
			return d
		}
	}
	return defaultWait
}

// patience is what may be done for the answer to a request.
type patience struct {
	// again: asked twice, it does nothing twice, so one that fell into a restart of
	// the daemon is simply asked again. often: it also costs little, so it is asked
	// again where nothing tells that it fell into one.
	again, often bool
}

func patienceFor(method string, args map[string]any) patience {
	m, ok := rpc.LookupMethod(method)
	if !ok {
		return patience{}
	}
	return patience{again: m.Access == rpc.AccessRead, often: m.Quick && (m.SlowIf == "" || args[m.SlowIf] == nil)}
}

// exchange sends a request and waits for its own reply. After a failure the
// socket is not used again: what it still holds is about the past.
func (c *client) exchange(ctx context.Context, request []byte, p patience) (msg []byte, err error) {
	if c.closed {
		return nil, errors.New("the client is closed")
	}
	if c.socket == nil {
		if err := c.connect(); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.disconnect())
		}
	}()
	c.last++
	id := binary.BigEndian.AppendUint64(nil, c.last)
	for broken := 0; ; {
		c.socket.hear() // what broke before is no matter of this request
		if err := c.send(id, request); err != nil {
			return nil, err
		}
		frames, err := c.receive(ctx, id, p.often)
		switch {
		case err == nil && frames != nil:
			return frames[2], nil
		case err == nil: // it is time to ask again
		case errors.Is(err, ErrLost) && p.again && broken < askAgainMax:
			broken++
		default:
			return nil, err
		}
	}
}

// send sends a request. libzmq gives up a connection whose handshake broke the
// protocol and never tries it again, and then has no room for anything: a new
// socket does, for who listens there may be another by now.
func (c *client) send(id, request []byte) error {
	_, err := c.socket.SendMessageDontwait(id, "", request)
	if !errors.Is(err, noRoom) {
		return err
	}
	if err := c.socket.refused(); err != nil {
		return err
	}
	failed := c.socket.failed
	if err := errors.Join(c.disconnect(), c.connect()); err != nil {
		return err
	}
	c.socket.failed = failed // what is known, until the new one tells
	_, err = c.socket.SendMessageDontwait(id, "", request)
	return err
}

// receive waits for the reply to a request; nothing is that it is time to ask
// again.
func (c *client) receive(ctx context.Context, id []byte, often bool) ([][]byte, error) {
	w, err := newWaiter(ctx, c.socket)
	if err != nil {
		return nil, err
	}
	defer w.close()
	if often {
		w.again = time.Now().Add(askAgain)
	}
	return w.receive(ctx, func(frames [][]byte) bool {
		return len(frames) == 3 && string(frames[0]) == string(id)
	})
}
