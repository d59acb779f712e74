package zmq

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	zmq4 "github.com/pebbe/zmq4"

	"github.com/procnanny/procnanny/rpc"
)

// Config says where to listen.
type Config struct {
	// RPC are endpoints for requests, Events for two-frame events, LegacyEvents
	// for the single frames of 2011: ipc://PATH or tcp://ADDRESS:PORT.
	RPC          []string
	Events       []string
	LegacyEvents []string
	// Keys are for TCP endpoints.
	Keys Keys
	// InsecureLoopback lets TCP on loopback addresses go without keys. Everybody
	// on this machine can then do everything.
	InsecureLoopback bool
	// Group owns the ipc sockets (and their directory, when Listen makes it);
	// nil is the process's own.
	Group *uint32
	Log   *slog.Logger
}

// Server listens until Close.
type Server struct {
	handler rpc.RequestHandler
	log     *slog.Logger
	waker   *waker
	events  *subscriptions
	legacy  *subscriptions
	stopped chan struct{}
	stop    sync.Once
	changed atomic.Pointer[func()] // see OnSubscribe

	// lent guards the sockets: the thread has it except while it sleeps, and for
	// ever once it has ended. See lend.
	lent      sync.Mutex
	loop      *loop
	slowUntil time.Time

	mu       sync.Mutex // guards what other goroutines leave for the thread
	closing  bool
	finished []finished
	queue    publishQueue
	counters rpc.Traffic

	endpoints []string
}

// Listen binds all endpoints and starts the thread that owns their sockets.
// Either everything listens when it returns, or nothing.
func Listen(c Config, handler rpc.RequestHandler) (*Server, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	w, err := newWaker()
	if err != nil {
		return nil, err
	}
	s := &Server{
		handler: handler, log: c.Log, waker: w, events: newSubscriptions(), legacy: newSubscriptions(), stopped: make(chan struct{}),
	}
	ready := make(chan error)
	go s.own(c, ready)
	if err := <-ready; err != nil {
		<-s.stopped
		return nil, err
	}
	return s, nil
}

// own is the thread: it makes the sockets, serves them, and takes them away.
func (s *Server) own(c Config, ready chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.stopped)
	defer s.waker.close()
	s.lent.Lock()
	l, err := newLoop(s, c)
	s.loop = l
	ready <- err
	if err == nil {
		l.run()
	}
	l.close()
}

// Endpoints are where it listens, with the ports that were chosen for
// tcp://ADDRESS:*. RPC first, then events, then legacy events.
func (s *Server) Endpoints() []string { return s.endpoints }

// Traffic is what was counted so far.
func (s *Server) Traffic() rpc.Traffic {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counters
}

// Close stops taking requests, gives running ones a moment and then their
// context's end, lets replies out, and gives the sockets' names back.
func (s *Server) Close() error {
	s.stop.Do(func() {
		s.mu.Lock()
		s.closing = true
		s.mu.Unlock()
		s.waker.wake()
	})
	<-s.stopped
	return nil
}

// Subscribed reports whether an event whose topic begins with prefix may have a
// subscriber. It may be asked from any goroutine, for each event.
func (s *Server) Subscribed(prefix string) bool {
	return s.events.overlaps(prefix) || s.legacy.any() && s.legacy.overlaps(legacyPrefix(prefix))
}

// OnSubscribe has changed called after subscriptions came or went. It runs on
// the thread that owns the sockets and must not block.
func (s *Server) OnSubscribe(changed func()) { s.changed.Store(&changed) }

// finished is the end of one piece of work: a reply on its way to the thread.
type finished struct {
	peer     peerKey
	envelope [][]byte
	reply    []byte
}

func (s *Server) finish(f finished) {
	s.mu.Lock()
	s.finished = append(s.finished, f)
	s.mu.Unlock()
	s.waker.wake()
}

// Bounds of a socket.
const (
	highWater    = 16 // messages for one connection inside libzmq, which copies each
	eventWater   = 1000
	maxFrame     = rpc.MaxRequest + 1024 // a little more gets an answer that says why
	maxSubscribe = 4 << 10
	handshake    = 2 * time.Second
	linger       = 500 * time.Millisecond
	maxSockets   = 1023 // libzmq counts monitors as well
)

// newContext makes a libzmq context of our own.
func newContext() (*zmq4.Context, error) {
	if major, minor, patch := zmq4.Version(); major < 4 || major == 4 && (minor < 3 || minor == 3 && patch < 4) {
		return nil, fmt.Errorf("cannot use libzmq %d.%d.%d: 4.3.4 is the oldest that was tested", major, minor, patch)
	}
	ctx, err := zmq4.NewContext()
	if err != nil {
		return nil, fmt.Errorf("cannot make a ZeroMQ context: %w", err)
	}
	return ctx, ctx.SetMaxSockets(maxSockets)
}

// option is one setting of a socket.
type option struct {
	name  string
	apply func(*zmq4.Socket) error
}

// commonOptions are those of every socket that listens.
var commonOptions = []option{
	{"linger", func(s *zmq4.Socket) error { return s.SetLinger(linger) }},
	{"handshake interval", func(s *zmq4.Socket) error { return s.SetHandshakeIvl(handshake) }},
	{"backlog", func(s *zmq4.Socket) error { return s.SetBacklog(backlog) }},
	{"IPv6", func(s *zmq4.Socket) error { return s.SetIpv6(true) }},
	{"keepalive", func(s *zmq4.Socket) error { return s.SetTcpKeepalive(1) }},
}

var routerOptions = []option{
	{"longest message", func(s *zmq4.Socket) error { return s.SetMaxmsgsize(maxFrame) }},
	{"receive high water mark", func(s *zmq4.Socket) error { return s.SetRcvhwm(highWater) }},
	{"send high water mark", func(s *zmq4.Socket) error { return s.SetSndhwm(highWater) }},
	{"mandatory routing", func(s *zmq4.Socket) error { return s.SetRouterMandatory(1) }},
}

var publisherOptions = []option{
	{"longest message", func(s *zmq4.Socket) error { return s.SetMaxmsgsize(maxSubscribe) }},
	{"receive high water mark", func(s *zmq4.Socket) error { return s.SetRcvhwm(eventWater) }},
	{"send high water mark", func(s *zmq4.Socket) error { return s.SetSndhwm(eventWater) }},
}

func newSocket(ctx *zmq4.Context, kind zmq4.Type, options ...[]option) (*zmq4.Socket, error) {
	s, err := ctx.NewSocket(kind)
	if err != nil {
		return nil, fmt.Errorf("cannot make a %v socket: %w", kind, err)
	}
	for _, list := range options {
		for _, o := range list {
			if err := o.apply(s); err != nil {
				return nil, errors.Join(fmt.Errorf("cannot set the %s of a %v socket: %w", o.name, kind, err), s.Close())
			}
		}
	}
	return s, nil
}
