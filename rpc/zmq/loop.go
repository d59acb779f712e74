package zmq

import (
	"errors"
	"fmt"
	"slices"
	"time"

	zmq4 "github.com/pebbe/zmq4"
	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc"
)

// router is a ROUTER socket and the endpoints it is bound to, all of one kind.
type router struct {
	index  int
	socket *zmq4.Socket
	kind   kind
}

// publisher is an XPUB socket.
type publisher struct {
	socket *zmq4.Socket
	kind   kind
	subs   *subscriptions
	legacy bool
}

// loop is what the thread owns. Nothing in it is touched by anybody else.
type loop struct {
	server     *Server
	zmq        *zmq4.Context
	curve      *zmq4.Context // of the sockets with keys; nil where there are none
	keys       *keyring
	zap        *zap
	routers    []*router
	publishers []*publisher
	doors      []*endpoint
	fds        []unix.PollFd // the sockets', then the waker's
	pool       *pool
	gate       *gate
	unlearned  int // messages sent since learnRoom
	share      share
}

// newLoop makes the sockets. What it returns is to be closed even when it
// fails.
func newLoop(s *Server, c Config) (*loop, error) {
	l := &loop{server: s}
	l.pool = newPool(l)
	var err error
	if l.zmq, err = newContext(); err != nil {
		return l, err
	}
	for _, group := range []struct {
		texts []string
		open  func(kind) (*zmq4.Socket, error)
	}{{c.RPC, l.openRouter}, {c.Events, l.openPublisher(s.events, false)}, {c.LegacyEvents, l.openPublisher(s.legacy, true)}} {
		if err := l.listen(group.texts, c, group.open); err != nil {
			return l, err
		}
	}
	if l.gate, err = newGate(l); err != nil {
		return l, err
	}
	for _, socket := range l.sockets() {
		fd, err := socket.GetFd()
		if err != nil {
			return l, fmt.Errorf("cannot find a socket's descriptor: %w", err)
		}
		l.fds = append(l.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	l.fds = append(l.fds, unix.PollFd{Fd: int32(s.waker.fd), Events: unix.POLLIN})
	return l, nil
}

// sockets are all that may have something for us.
func (l *loop) sockets() []*zmq4.Socket {
	var all []*zmq4.Socket
	for _, r := range l.routers {
		all = append(all, r.socket)
	}
	for _, p := range l.publishers {
		all = append(all, p.socket)
	}
	if l.gate != nil {
		for _, m := range l.gate.monitors {
			all = append(all, m.socket)
		}
	}
	if l.zap != nil {
		all = append(all, l.zap.socket)
	}
	return all
}

// burst is how many messages one socket may have served before the others.
const burst = 64

// run serves until Close was called and its work is done.
func (l *loop) run() {
	var end time.Time
	woken := false
	for {
		l.server.waker.clear(woken)
		l.admit(time.Now())
		closing, finished, messages := l.server.take()
		l.pool.finish(finished)
		l.publish(messages)
		if closing && end.IsZero() {
			end = l.stopAccepting()
		}
		if !end.IsZero() && l.pool.drained(time.Now(), end) {
			return
		}
		busy := l.receive(end.IsZero())
		l.pool.retry(time.Now())
		l.gate.tend(time.Now())
		woken = l.wait(busy, end)
	}
}

// take returns what other goroutines left.
func (s *Server) take() (closing bool, done []finished, messages []rpc.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done, messages = s.finished, s.queue.take()
	s.finished = nil
	s.counters.Published += uint64(len(messages))
	return s.closing, done, messages
}

// receive serves each socket a burst. It reports whether one may have more.
func (l *loop) receive(requests bool) (busy bool) {
	for _, r := range l.routers {
		for n := 0; requests; n++ {
			if n == burst {
				busy = true
				break
			}
			if !l.request(r) {
				break
			}
		}
	}
	heard := false
	for _, p := range l.publishers {
		for range burst * 16 {
			msg, err := p.socket.RecvBytes(zmq4.DONTWAIT)
			if err != nil {
				break
			}
			p.subs.change(msg)
			heard = true
		}
	}
	if changed := l.server.changed.Load(); heard && changed != nil {
		(*changed)()
	}
	return busy
}

// maxEnvelope is how many frames may come before the request itself.
const maxEnvelope = 16

// request takes one message of a ROUTER; false is none left.
func (l *loop) request(r *router) bool {
	frames, meta := receive(r.socket)
	if len(frames) == 0 {
		return false
	}
	last := len(frames) - 1
	key := peerKey{router: r.index, id: string(frames[0])}
	var envelope [][]byte
	if last > 1 && last <= maxEnvelope {
		envelope = frames[1:last]
	}
	l.pool.request(key, envelope, l.who(r.kind, meta), frames[last])
	return true
}

// receive takes one message with what libzmq knows of its sender. libzmq says so
// with every frame that the peer sent, but with the routing id, which it made
// itself, only most of the time.
func receive(s *zmq4.Socket) (frames [][]byte, meta map[string]string) {
	meta = map[string]string{}
	for more := true; more; {
		frame, about, err := s.RecvBytesWithMetadata(zmq4.DONTWAIT, peerAddress, userID)
		if err != nil {
			return nil, nil
		}
		frames = append(frames, frame)
		for key, value := range about {
			if meta[key] == "" {
				meta[key] = value
			}
		}
		if more, err = s.GetRcvmore(); err != nil {
			return nil, nil
		}
	}
	return frames, meta
}

func (l *loop) publish(list []rpc.Message) {
	if len(list) > 0 {
		l.expel(time.Now())
	}
	for i := range list {
		if l.unlearned++; l.unlearned > burst {
			l.learnRoom()
		}
		for _, p := range l.publishers {
			m := &list[i]
			switch {
			case !p.legacy && p.subs.matches(m.Topic):
				_, _ = p.socket.SendMessageDontwait(m.Topic, m.Body) // an XPUB drops and never refuses
			case p.legacy && m.Legacy != nil:
				_, _ = p.socket.SendBytes(m.Legacy, zmq4.DONTWAIT)
			}
		}
	}
}

// learnRoom has libzmq look what subscribers took meanwhile. While it sends it
// looks once in three million ticks of the processor's clock only, and drops
// what a subscriber that kept up has long had room for.
func (l *loop) learnRoom() {
	l.unlearned = 0
	for _, p := range l.publishers {
		_, _ = p.socket.GetEvents()
	}
}

// send writes a reply to its connection; EAGAIN is no room, EHOSTUNREACH is
// nobody there.
func (l *loop) send(to peerKey, envelope [][]byte, reply []byte) error {
	socket := l.routers[to.router].socket
	if _, err := socket.Send(to.id, zmq4.SNDMORE|zmq4.DONTWAIT); err != nil {
		return err
	}
	for _, frame := range envelope {
		if _, err := socket.SendBytes(frame, zmq4.SNDMORE|zmq4.DONTWAIT); err != nil {
			return err
		}
	}
	return l.share.send(socket, reply)
}

// wait polls until a socket or another goroutine has something, or a deadline
// comes. A socket's descriptor only tells of changes, so what may have come
// while we sent is asked first.
func (l *loop) wait(busy bool, end time.Time) (woken bool) {
	timeout := time.Duration(-1)
	for _, d := range []time.Duration{l.pool.patience(), l.gate.patience(), l.doorPatience(), untilEnd(end)} {
		if d >= 0 && (timeout < 0 || d < timeout) {
			timeout = d
		}
	}
	if more := l.readable(); busy || more && end.IsZero() {
		timeout = 0
	}
	ms := -1
	if timeout >= 0 {
		ms = int((timeout + time.Millisecond - 1) / time.Millisecond)
	}
	l.server.lent.Unlock()
	_, err := unix.Poll(l.fds, ms)
	l.server.lent.Lock()
	if err != nil && !errors.Is(err, unix.EINTR) {
		l.server.log.Error("cannot wait for requests", "error", err)
		time.Sleep(10 * time.Millisecond) // ENOMEM: nothing better to do than not to spin
	}
	return err == nil && l.fds[len(l.fds)-1].Revents != 0
}

func (l *loop) readable() bool {
	return slices.ContainsFunc(l.sockets(), readable)
}

// heard reports whether a publisher has something for us: what it sends may use
// up what its descriptor had to tell, and only that of its own.
func (l *loop) heard() bool {
	return slices.ContainsFunc(l.publishers, func(p *publisher) bool { return readable(p.socket) })
}

func readable(s *zmq4.Socket) bool {
	state, err := s.GetEvents()
	return err == nil && state&zmq4.POLLIN != 0
}

// untilEnd is how soon a closing loop looks again.
func untilEnd(end time.Time) time.Duration {
	if end.IsZero() {
		return -1
	}
	return 5 * time.Millisecond
}

// Times of a close.
const (
	closeGrace = 200 * time.Millisecond // running work may end by itself
	closeLimit = 2 * time.Second        // then it must
)

// stopAccepting begins the end: no new connection, no new request.
func (l *loop) stopAccepting() (end time.Time) {
	for _, e := range l.doors {
		e.close()
	}
	return time.Now().Add(closeLimit)
}

// close takes everything away; linger lets what libzmq holds out.
func (l *loop) close() {
	l.pool.cancel()
	l.share.drop()
	l.gate.close()
	for _, s := range l.sockets() {
		_ = s.Close()
	}
	for _, e := range l.doors {
		e.close()
	}
	for _, ctx := range []*zmq4.Context{l.zmq, l.curve} {
		if ctx != nil {
			_ = ctx.Term()
		}
	}
}
