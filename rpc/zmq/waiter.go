package zmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	zmq4 "github.com/pebbe/zmq4"
	"golang.org/x/sys/unix"
)

// ClientKeys are what a client needs for an endpoint with keys: its own pair,
// and the public key of the server, which nobody else can then pretend to be.
type ClientKeys struct {
	Own    KeyPair
	Server string
}

// ErrNotAllowed is that the daemon does not want our key.
var ErrNotAllowed = errors.New("the daemon does not allow the key")

// NoAnswerError is that the time was over before the daemon answered.
type NoAnswerError struct {
	// Hint is what may be wrong, in parentheses, or empty.
	Hint string
	// Cause is the end of the context.
	Cause error
}

// Error implements error.
func (e *NoAnswerError) Error() string {
	return strings.TrimSpace("no answer in time "+e.Hint) + ": " + e.Cause.Error()
}

// Unwrap returns the cause.
func (e *NoAnswerError) Unwrap() error { return e.Cause }

// dialled is a socket of a client, with what is known about its connection.
type dialled struct {
	*zmq4.Socket
	// monitor tells why a connection over tcp does not come about, and when one
	// breaks; nil for a subscription over ipc.
	monitor *zmq4.Socket
	keys    *ClientKeys
	// asks is that answers are waited for: they do not outlive the connection.
	asks bool
	// failed is the last handshake that was refused or not understood.
	failed zmq4.Event
	// open is whether the connection is there, broken how often it was and broke.
	// left is since when somebody was there and is not; zero: nobody was, or is.
	open   bool
	broken int
	left   time.Time
	// path is the name of an ipc socket.
	path string
}

// monitors numbers the names of monitors in this process.
var monitors atomic.Uint64

// connect makes a socket of a client. One that asks is watched on every transport.
func connect(kind zmq4.Type, endpoint string, keys *ClientKeys, asks bool) (*dialled, error) {
	ctx, err := clientContext()
	if err != nil {
		return nil, err
	}
	lists := [][]option{clientOptions}
	if keys != nil {
		lists = append(lists, keys.options())
	}
	s, err := newSocket(ctx, kind, lists...)
	if err != nil {
		return nil, err
	}
	d := &dialled{Socket: s, keys: keys, asks: asks}
	if path, ok := strings.CutPrefix(endpoint, "ipc://"); ok {
		d.path = path
	}
	if asks || strings.HasPrefix(endpoint, "tcp://") {
		err = d.watch(ctx)
	}
	if err == nil {
		err = s.Connect(endpoint)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot connect to %s: %w", endpoint, err), d.close())
	}
	return d, nil
}

func (k *ClientKeys) options() []option {
	return []option{
		{"server's key", func(s *zmq4.Socket) error { return s.SetCurveServerkey(k.Server) }},
		{"key", func(s *zmq4.Socket) error { return s.SetCurvePublickey(k.Own.Public) }},
		{"secret key", func(s *zmq4.Socket) error { return s.SetCurveSecretkey(k.Own.Secret) }},
	}
}

// watched is what a client wants to hear of its connection.
const watched = zmq4.EVENT_HANDSHAKE_SUCCEEDED | zmq4.EVENT_HANDSHAKE_FAILED_AUTH | zmq4.EVENT_HANDSHAKE_FAILED_PROTOCOL |
	zmq4.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq4.EVENT_DISCONNECTED

// watch hears of handshakes and of the end of a connection.
func (d *dialled) watch(ctx *zmq4.Context) error {
	name := fmt.Sprintf("inproc://client-%d", monitors.Add(1))
	err := d.Monitor(name, watched)
	if err != nil {
		return err
	}
	if d.monitor, err = ctx.NewSocket(zmq4.PAIR); err != nil {
		return err
	}
	return d.monitor.Connect(name)
}

// hear takes in what happened to the connection.
func (d *dialled) hear() {
	for d.monitor != nil {
		event, _, _, err := d.monitor.RecvEvent(zmq4.DONTWAIT)
		switch {
		case err != nil:
			return
		case event == zmq4.EVENT_HANDSHAKE_SUCCEEDED:
			d.failed, d.open, d.left = event, true, time.Time{}
		case event != zmq4.EVENT_DISCONNECTED:
			d.failed, d.open = event, false
		default:
			if d.open { // else it broke in the handshake, before anything was sent
				d.broken++
			}
			if d.open = false; d.left.IsZero() {
				d.left = time.Now()
			}
		}
	}
}

// away reports whether it is sure that nobody has come back. It is looked once in
// a while only: a daemon that starts again needs its time, and one that is busy
// listens.
func (d *dialled) away(now time.Time) bool {
	if d.path == "" || d.left.IsZero() || now.Sub(d.left) < returnWait {
		return false
	}
	conn, err := net.DialTimeout("unix", d.path, returnWait)
	if err != nil && !errors.Is(err, unix.EAGAIN) { // a full queue: somebody is there
		return true
	}
	if err == nil {
		_ = conn.Close()
	}
	d.left = now
	return false
}

func (d *dialled) close() error {
	if d.monitor != nil {
		_ = d.Monitor("", 0)
		_ = d.monitor.Close()
	}
	return d.Close()
}

// refused says why there will never be an answer, when that is sure: the
// daemon does not want our key, and libzmq does not ask it again.
func (d *dialled) refused() error {
	d.hear()
	if d.failed != zmq4.EVENT_HANDSHAKE_FAILED_AUTH {
		return nil
	}
	return fmt.Errorf("%w %s: it must stand in its list of allowed keys", ErrNotAllowed, d.keys.public())
}

func (k *ClientKeys) public() string {
	if k == nil {
		return ""
	}
	return k.Own.Public
}

// hint says what may be wrong when no answer came.
func (d *dialled) hint() string {
	switch {
	case d.failed == 0 || d.failed == zmq4.EVENT_HANDSHAKE_SUCCEEDED:
		return ""
	case d.keys == nil:
		return "(it did not understand us: does it want keys, --key and --server-key?)"
	}
	return "(the handshake fails: is that the daemon's public key, and does it listen with keys there?)"
}

// waiter waits for a socket or for a context, whichever is first.
type waiter struct {
	socket *dialled
	fds    []unix.PollFd
	waker  *waker
	stop   func() bool
	// broken is how often the connection had broken when the request was sent.
	broken int
	// again is when to return nothing; zero is never.
	again time.Time
}

func newWaiter(ctx context.Context, s *dialled) (*waiter, error) {
	fd, err := s.GetFd()
	if err != nil {
		return nil, err
	}
	w, err := newWaker()
	if err != nil {
		return nil, err
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(w.fd), Events: unix.POLLIN}}
	if s.monitor != nil {
		if fd, err = s.monitor.GetFd(); err != nil {
			w.close()
			return nil, err
		}
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { w.wake(); close(woken) })
	return &waiter{
		socket: s, waker: w, fds: fds, broken: s.broken,
		stop: func() bool {
			if stop() {
				return true
			}
			<-woken // it has begun: the descriptor must outlive it
			return false
		},
	}, nil
}

func (w *waiter) close() {
	w.stop()
	w.waker.close()
}

// receive returns the first message that fits; others are dropped. It returns
// nothing when it is time to ask again.
func (w *waiter) receive(ctx context.Context, fits func([][]byte) bool) ([][]byte, error) {
	for {
		frames, err := w.take(fits)
		switch {
		case err != nil || frames != nil:
			return frames, err
		case ctx.Err() != nil:
			return nil, w.noAnswer(ctx)
		}
		if err := w.socket.refused(); err != nil {
			return nil, err
		}
		now := time.Now()
		switch {
		case w.socket.asks && w.socket.broken > w.broken:
			return w.last(fits)
		case w.socket.asks && w.socket.away(now):
			return nil, ErrAway
		case !w.again.IsZero() && !now.Before(w.again):
			return nil, nil
		}
		if _, err := unix.Poll(w.fds, w.sleep(now)); err != nil && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
	}
}

// last is what came before the connection broke.
func (w *waiter) last(fits func([][]byte) bool) ([][]byte, error) {
	frames, err := w.take(fits)
	if err == nil && frames == nil {
		err = ErrLost
	}
	return frames, err
}

// take returns the first message that is there and fits; nothing is that none is.
func (w *waiter) take(fits func([][]byte) bool) ([][]byte, error) {
	for {
		frames, err := w.socket.RecvMessageBytes(zmq4.DONTWAIT)
		switch {
		case errors.Is(err, noRoom):
			return nil, nil
		case err != nil || fits(frames):
			return frames, err
		}
	}
}

// sleep is how many milliseconds there is nothing to do, -1 is for ever.
func (w *waiter) sleep(now time.Time) int {
	ms, look := -1, time.Time{}
	if !w.socket.left.IsZero() && w.socket.path != "" {
		look = w.socket.left.Add(returnWait)
	}
	for _, at := range []time.Time{w.again, look} {
		if left := int(at.Sub(now)/time.Millisecond) + 1; now.Before(at) && (ms < 0 || left < ms) {
			ms = left
		}
	}
	return ms
}

// noAnswer says why there is none. What the handshake told may have come
// together with the end of the time: it counts first.
func (w *waiter) noAnswer(ctx context.Context) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	if err := w.socket.refused(); err != nil {
		return err
	}
	return &NoAnswerError{Hint: w.socket.hint(), Cause: ctx.Err()}
}
