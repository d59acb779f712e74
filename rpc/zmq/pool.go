package zmq

import (
	"context"
	"errors"
	"slices"
	"time"

	zmq4 "github.com/pebbe/zmq4"
	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc"
)

// Bounds of work and of what waits.
const (
	maxRunning      = 256      // pieces of work of everybody
	maxPeerRunning  = 16       // of one connection
	maxPeerWaiting  = 2048     // requests of one connection that wait for their turn
	maxWaitingBytes = 64 << 20 // of everybody's waiting requests
	maxUnsent       = 8192     // replies that one connection has no room for
	busyUnsent      = 4096     // from here on it is told that it is too fast
	maxUnsentBytes  = 64 << 20 // of everybody's unsent replies
	unsentPatience  = 30 * time.Second
	minRetry        = time.Millisecond
	maxRetry        = 250 * time.Millisecond
)

// peerKey names a connection.
type peerKey struct {
	router int
	id     string
}

// job is a request that is no quick one.
type job struct {
	envelope [][]byte
	work     func(context.Context) []byte
	size     int
}

// reply is one that its connection had no room for.
type reply struct {
	envelope [][]byte
	body     []byte
}

// peer is a connection that has work or unsent replies; others are not kept.
type peer struct {
	running int
	waiting []job
	unsent  []reply
	stuck   time.Time // since when nothing of unsent could be sent
}

func (p *peer) idle() bool { return p.running == 0 && len(p.waiting) == 0 && len(p.unsent) == 0 }

// pool runs work on a bounded number of goroutines. It belongs to the loop's
// thread: only the work itself runs elsewhere.
type pool struct {
	loop         *loop
	ctx          context.Context
	cancel       context.CancelFunc
	peers        map[peerKey]*peer
	turns        []peerKey // connections with waiting work, the next first
	running      int
	waitingBytes int
	unsentBytes  int
	stuck        int // connections with unsent replies
	retryAt      time.Time
	retryEvery   time.Duration
}

func newPool(l *loop) *pool {
	p := &pool{loop: l, peers: map[peerKey]*peer{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// count adds to the server's counters.
func (p *pool) count(add func(*rpc.Traffic)) {
	p.loop.server.mu.Lock()
	add(&p.loop.server.counters)
	p.loop.server.mu.Unlock()
}

func (p *pool) peer(key peerKey) *peer {
	if p.peers[key] == nil {
		p.peers[key] = &peer{}
	}
	return p.peers[key]
}

func (p *pool) forget(key peerKey) {
	if q := p.peers[key]; q != nil && q.idle() {
		delete(p.peers, key)
	}
}

// request answers at once, or gets the work done.
func (p *pool) request(key peerKey, envelope [][]byte, who rpc.Peer, msg []byte) {
	p.count(func(c *rpc.Traffic) { c.Requests++ })
	if q := p.peers[key]; q != nil && (len(q.unsent) >= busyUnsent || len(q.unsent) > 0 && p.unsentBytes > maxUnsentBytes) {
		p.refuse(key, envelope, msg, "its replies are not read")
		return
	}
	body, work := p.loop.server.handler.Begin(who, msg)
	if work == nil {
		p.reply(key, envelope, body)
		return
	}
	q := p.peer(key)
	switch j := (job{envelope, work, len(msg) + length(envelope)}); {
	case p.running < maxRunning && q.running < maxPeerRunning && len(q.waiting) == 0:
		p.start(key, q, j)
	case len(q.waiting) >= maxPeerWaiting || p.waitingBytes+j.size > maxWaitingBytes:
		p.refuse(key, envelope, msg, "too many of its requests wait already")
	default:
		q.waiting = append(q.waiting, j)
		p.waitingBytes += j.size
		if len(q.waiting) == 1 {
			p.turns = append(p.turns, key)
		}
	}
}

func (p *pool) refuse(key peerKey, envelope [][]byte, msg []byte, why string) {
	p.count(func(c *rpc.Traffic) { c.Busy++ })
	p.reply(key, envelope, rpc.Refuse(rpc.CodeBusy, "this connection must wait: "+why, msg))
}

func (p *pool) start(key peerKey, q *peer, j job) {
	p.running++
	q.running++
	server, ctx := p.loop.server, p.ctx
	go func() { server.finish(finished{key, j.envelope, j.work(ctx)}) }()
}

// finish sends the replies of work that ended, and starts what waited.
func (p *pool) finish(list []finished) {
	for _, f := range list {
		p.running--
		if q := p.peers[f.peer]; q != nil {
			q.running--
		}
		p.reply(f.peer, f.envelope, f.reply)
		p.forget(f.peer)
	}
	if len(list) > 0 {
		p.next()
	}
}

// next starts waiting work, one piece of each connection in turn.
func (p *pool) next() {
	for range len(p.turns) {
		if p.running >= maxRunning {
			return
		}
		key := p.turns[0]
		p.turns = p.turns[1:]
		q := p.peers[key]
		if q == nil || len(q.waiting) == 0 {
			continue
		}
		for q.running < maxPeerRunning && len(q.waiting) > 0 && p.running < maxRunning {
			j := q.waiting[0]
			q.waiting = q.waiting[1:]
			p.waitingBytes -= j.size
			p.start(key, q, j)
		}
		if len(q.waiting) > 0 {
			p.turns = append(p.turns, key)
		}
	}
}

// reply sends, or keeps what has no room. Replies of one connection never
// overtake each other here.
func (p *pool) reply(key peerKey, envelope [][]byte, body []byte) {
	q := p.peers[key]
	if q == nil || len(q.unsent) == 0 {
		err := p.loop.send(key, envelope, body)
		if !errors.Is(err, noRoom) {
			if err != nil {
				p.count(func(c *rpc.Traffic) { c.Unsent++ }) // it is gone
			}
			return
		}
	}
	q = p.peer(key)
	if len(q.unsent) >= maxUnsent {
		p.count(func(c *rpc.Traffic) { c.Unsent++ })
		return
	}
	if len(q.unsent) == 0 {
		q.stuck = time.Now()
		p.stuck++
	}
	q.unsent = append(q.unsent, reply{envelope, body})
	p.unsentBytes += len(body) + length(envelope)
	p.retrySoon(q.stuck)
}

func (p *pool) retrySoon(now time.Time) {
	if p.retryAt.IsZero() {
		p.retryEvery = minRetry
		p.retryAt = now.Add(minRetry)
	}
}

// retry sends what had no room: libzmq does not say when there is some again.
func (p *pool) retry(now time.Time) {
	if p.retryAt.IsZero() || now.Before(p.retryAt) {
		return
	}
	progress := false
	for key, q := range p.peers {
		if len(q.unsent) > 0 {
			progress = p.resend(key, q, now) || progress
		}
	}
	p.retryEvery = min(2*p.retryEvery, maxRetry)
	if progress {
		p.retryEvery = minRetry
	}
	p.retryAt = time.Time{}
	if p.stuck > 0 {
		p.retryAt = now.Add(p.retryEvery)
	}
}

func (p *pool) resend(key peerKey, q *peer, now time.Time) (progress bool) {
	sent := 0
	for _, r := range q.unsent {
		err := p.loop.send(key, r.envelope, r.body)
		if errors.Is(err, noRoom) {
			break
		}
		sent++
		if err != nil {
			p.drop(key, q, len(q.unsent))
			return true
		}
	}
	if sent > 0 {
		q.stuck = now
		p.take(key, q, sent)
		return true
	}
	if now.Sub(q.stuck) > unsentPatience {
		p.drop(key, q, len(q.unsent))
	}
	return false
}

// drop gives up the first n unsent replies.
func (p *pool) drop(key peerKey, q *peer, n int) {
	p.count(func(c *rpc.Traffic) { c.Unsent += uint64(n) })
	p.take(key, q, n)
}

// take removes the first n unsent replies.
func (p *pool) take(key peerKey, q *peer, n int) {
	for _, r := range q.unsent[:n] {
		p.unsentBytes -= len(r.body) + length(r.envelope)
	}
	q.unsent = slices.Delete(q.unsent, 0, n)
	if len(q.unsent) == 0 {
		q.unsent = nil
		p.stuck--
		p.forget(key)
	}
}

func length(frames [][]byte) (n int) {
	for _, f := range frames {
		n += len(f)
	}
	return n
}

// patience is how long the loop may wait; negative is for ever.
func (p *pool) patience() time.Duration {
	if p.retryAt.IsZero() {
		return -1
	}
	return max(time.Until(p.retryAt), 0)
}

// drained reports whether a closing loop may end: nothing runs and nothing is
// unsent, or the time is over.
func (p *pool) drained(now, end time.Time) bool {
	if now.After(end) {
		return true
	}
	if end.Sub(now) < closeLimit-closeGrace {
		p.cancel()
	}
	return p.running == 0 && p.stuck == 0
}

// noRoom is what libzmq says when a connection's queue is full.
const noRoom = zmq4.Errno(unix.EAGAIN)
