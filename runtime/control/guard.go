package control

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/procnanny/procnanny/rpc"
)

// Bounds of what refused acts may cost: whoever is refused decides how often.
const (
	guardWindow  = 10 * time.Second
	guardEach    = 5   // events of one source in a window
	guardAll     = 30  // of all sources
	guardSources = 32  // sources whose further refusals are counted apart
	guardQueue   = 256 // that wait to be looked at
)

// guard makes security events of refused acts: the first few at once, of the
// rest the number, at the end of the window.
type guard struct {
	queue   chan rpc.Refusal
	dropped atomic.Uint64 // found no room in the queue
	emit    func(r *rpc.Refusal, more uint64)
	ending  chan chan struct{}

	// The window: how often each source was refused, and how many were told.
	sources map[string]*refused
	told    int
	others  uint64 // of sources that have no place of their own
}

// refused is one source in a window.
type refused struct {
	last rpc.Refusal
	told int
	more uint64 // not told
}

func newGuard(emit func(*rpc.Refusal, uint64)) *guard {
	return &guard{queue: make(chan rpc.Refusal, guardQueue), emit: emit, ending: make(chan chan struct{}), sources: map[string]*refused{}}
}

// take hears of a refusal. It never blocks.
func (g *guard) take(r rpc.Refusal) {
	select {
	case g.queue <- r:
	default:
		g.dropped.Add(1)
	}
}

// run tells until ctx ends. While nobody is refused there is no timer.
func (g *guard) run(ctx context.Context) {
	var end <-chan time.Time
	for {
		select {
		case r := <-g.queue:
			if end == nil {
				end = time.After(guardWindow)
			}
			g.judge(r)
		case <-end:
			end = nil
			g.flush()
		case done := <-g.ending:
			g.flush()
			close(done)
			return
		case <-ctx.Done():
			return
		}
	}
}

// guardEnd is how long the last counts may take.
const guardEnd = time.Second

// finish tells what is counted so far, while there is still where to write it.
func (g *guard) finish() {
	done := make(chan struct{})
	late := time.After(guardEnd)
	select {
	case g.ending <- done:
	case <-late:
		return
	}
	select {
	case <-done:
	case <-late:
	}
}

// judge tells of a refusal, or counts it.
func (g *guard) judge(r rpc.Refusal) {
	key := source(r)
	s := g.sources[key]
	if s == nil {
		if len(g.sources) >= guardSources {
			g.others++
			return
		}
		s = &refused{}
		g.sources[key] = s
	}
	s.last = r
	if s.told >= guardEach || g.told >= guardAll {
		s.more++
		return
	}
	s.told++
	g.told++
	g.emit(&r, 0)
}

// flush tells how many more there were, and begins anew.
func (g *guard) flush() {
	for _, key := range sortedKeys(g.sources) {
		if s := g.sources[key]; s.more > 0 {
			g.emit(&s.last, s.more)
		}
	}
	if n := g.others + g.dropped.Swap(0); n > 0 {
		g.emit(nil, n)
	}
	clear(g.sources)
	g.told, g.others = 0, 0
}

func sortedKeys(m map[string]*refused) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// source is who a refusal is of, as far as it cannot choose that freely: keys
// that are not allowed cost nothing to make, so their address counts.
func source(r rpc.Refusal) string {
	switch {
	case r.Act == rpc.ActAllow:
		return "allow"
	case r.Act == rpc.ActConnect:
		return "from " + r.Peer.Address
	case r.Peer.Key != "":
		return "key " + r.Peer.Key
	case r.Peer.Known:
		return fmt.Sprintf("uid %d", r.Peer.UID)
	}
	return "unknown"
}

// emitRefusals makes an event and a line of the log: of one refusal, or of how
// many more there were of its source. nil is of several sources.
func (c *Control) emitRefusals(r *rpc.Refusal, more uint64) {
	m := rpc.Map{{Key: "event", Value: "refused"}}
	if more > 0 {
		m = rpc.Map{{Key: "event", Value: "refused-more"}, {Key: "count", Value: more}}
	}
	if r != nil {
		m = append(m, refusalFields(r)...)
	}
	attrs := make([]any, 0, len(m)-1)
	for _, f := range m[1:] {
		attrs = append(attrs, slog.Any(f.Key, f.Value))
	}
	message := "refused"
	if more > 0 {
		message = "more was refused"
	}
	c.log.Warn(message, attrs...)
	c.emit("security", m)
}

// refusalFields say what was refused, to whom, and why.
func refusalFields(r *rpc.Refusal) rpc.Map {
	m := rpc.Map{{Key: "act", Value: r.Act}}
	for _, f := range []struct{ key, value string }{{"method", r.Method}, {"endpoint", r.Endpoint}} {
		if f.value != "" {
			m = append(m, rpc.Field{Key: f.key, Value: f.value})
		}
	}
	if p := r.Peer; p.Known && p.Key == "" {
		m = append(m, rpc.Map{{Key: "uid", Value: p.UID}, {Key: "gid", Value: p.GID}, {Key: "pid", Value: p.PID}}...)
	}
	for _, f := range []struct{ key, value string }{{"key", r.Peer.Key}, {"name", r.Peer.Name}, {"address", r.Peer.Address}} {
		if f.value != "" {
			m = append(m, rpc.Field{Key: f.key, Value: f.value})
		}
	}
	return append(m, rpc.Field{Key: "why", Value: r.Why})
}
