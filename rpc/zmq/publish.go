package zmq

import (
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/procnanny/procnanny/rpc"
)

// Bounds of the queue between publishers and the thread.
const (
	maxQueued      = 16 << 10
	maxQueuedBytes = 32 << 20
)

// publishQueue is bounded in messages and bytes. Its owner locks.
type publishQueue struct {
	list  []rpc.Message
	bytes int
}

func (q *publishQueue) push(m rpc.Message) bool {
	size := len(m.Topic) + len(m.Body) + len(m.Legacy)
	if len(q.list) >= maxQueued || q.bytes+size > maxQueuedBytes {
		return false
	}
	q.list = append(q.list, m)
	q.bytes += size
	return true
}

func (q *publishQueue) take() []rpc.Message {
	list := q.list
	q.list, q.bytes = nil, 0
	return list
}

// Publish hands events to the subscribers that want them. It never blocks:
// what the queue has no room for is dropped and counted; subscribers see the
// gap by prev and seq, and refill it by `events`.
func (s *Server) Publish(list []rpc.Message) {
	for some := range slices.Chunk(s.wantedOf(list), burst) {
		if !s.lend(some) {
			s.enqueue(some)
		}
	}
}

// enqueue leaves events for the thread.
func (s *Server) enqueue(list []rpc.Message) {
	s.mu.Lock()
	for _, m := range list {
		if !s.queue.push(m) {
			s.counters.Dropped++
		}
	}
	s.mu.Unlock()
	s.waker.wake()
}

// wantedOf saves the way to the sockets for what nobody subscribed to.
func (s *Server) wantedOf(list []rpc.Message) []rpc.Message {
	legacy := s.legacy.any()
	var out []rpc.Message
	for _, m := range list {
		if legacy && m.Legacy == nil {
			m.Legacy = rpc.LegacyEvent(m.Body)
		}
		if s.wanted(&m) {
			out = append(out, m)
		}
	}
	return out
}

// lendMost is what a publisher may need for the sockets. With more, because
// there are many subscribers, they are the thread's alone for lendRest times as
// long: so the publisher never spends more than a small part of its time there,
// and is not kept away for long because it was once held up itself.
const (
	lendMost = time.Millisecond
	lendRest = 20
)

// newsFew is how many events somebody waits for. The thread of libzmq that takes
// them to the subscribers waits for the processor that we are on, as often as not,
// and we have only to tidy up.
const newsFew = 4

// lend has the publisher use the sockets itself while their thread sleeps: to
// wake it first would take longer than all the rest. Nothing may be overtaken,
// and where there are keys the thread first looks whose are still allowed.
func (s *Server) lend(list []rpc.Message) bool {
	if !s.lent.TryLock() {
		return false
	}
	defer s.lent.Unlock()
	now := time.Now()
	s.mu.Lock()
	free := !s.closing && s.loop.keys == nil && len(s.queue.list) == 0 && now.After(s.slowUntil)
	if free {
		s.counters.Published += uint64(len(list))
	}
	s.mu.Unlock()
	if !free {
		return false
	}
	s.loop.publish(list)
	if took := time.Since(now); took > lendMost {
		s.slowUntil = now.Add(lendRest * took)
	}
	if len(list) <= newsFew {
		yield()
	}
	if s.loop.heard() { // its descriptor told us, not the thread
		s.waker.wake()
	}
	return true
}

// wanted saves the way to the thread for what nobody subscribed to.
func (s *Server) wanted(m *rpc.Message) bool {
	return s.events.matches(m.Topic) || m.Legacy != nil && s.legacy.matches(string(m.Legacy))
}

// maxPrefixes bounds what we remember of subscriptions. Beyond it every topic
// counts as wanted.
const maxPrefixes = 4096

// subscriptions are the prefixes that subscribers of all sockets of one kind
// want, each with how many sockets have it.
type subscriptions struct {
	mu     sync.RWMutex
	count  map[string]int
	sorted []string
	// beyond counts those that found no room.
	beyond int
}

func newSubscriptions() *subscriptions { return &subscriptions{count: map[string]int{}} }

// change is a message of an XPUB: 1 or 0, then the prefix. Anything else is a
// peer's own message, which means nothing.
func (s *subscriptions) change(msg []byte) {
	if len(msg) == 0 || msg[0] > 1 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if msg[0] == 1 {
		s.add(string(msg[1:]))
	} else {
		s.remove(string(msg[1:]))
	}
}

func (s *subscriptions) add(prefix string) {
	if s.count[prefix] == 0 {
		if len(s.sorted) >= maxPrefixes {
			s.beyond++
			return
		}
		i := sort.SearchStrings(s.sorted, prefix)
		s.sorted = append(s.sorted, "")
		copy(s.sorted[i+1:], s.sorted[i:])
		s.sorted[i] = prefix
	}
	s.count[prefix]++
}

func (s *subscriptions) remove(prefix string) {
	switch s.count[prefix] {
	case 0:
		s.beyond = max(s.beyond-1, 0)
	case 1:
		delete(s.count, prefix)
		i := sort.SearchStrings(s.sorted, prefix)
		s.sorted = append(s.sorted[:i], s.sorted[i+1:]...)
	default:
		s.count[prefix]--
	}
}

func (s *subscriptions) any() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.sorted) > 0 || s.beyond > 0
}

// matches reports whether somebody wants exactly this topic.
func (s *subscriptions) matches(topic string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.beyond > 0 {
		return true
	}
	if len(s.sorted) < len(topic) { // few subscriptions: look at each
		for _, p := range s.sorted {
			if strings.HasPrefix(topic, p) {
				return true
			}
		}
		return false
	}
	for n := range len(topic) + 1 {
		if s.count[topic[:n]] > 0 {
			return true
		}
	}
	return false
}

// overlaps reports whether a topic that begins with prefix may be wanted.
func (s *subscriptions) overlaps(prefix string) bool {
	if s.matches(prefix) {
		return true
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	i := sort.SearchStrings(s.sorted, prefix)
	return i < len(s.sorted) && strings.HasPrefix(s.sorted[i], prefix)
}

// legacyPrefix is how the frames of 2011 begin that events under a topic make.
func legacyPrefix(topic string) string {
	if strings.HasPrefix(topic, "output.") {
		return "\x85\xa5event\xa4data"
	}
	return ""
}
