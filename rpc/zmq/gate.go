package zmq

import (
	"fmt"
	"os"
	"time"

	zmq4 "github.com/pebbe/zmq4"
	"golang.org/x/sys/unix"
)

// gate keeps connections from using up the process's descriptors: libzmq
// aborts when accept(2) finds none. It counts what is open (all of the
// process, because others open files as well), but only as often as accepted
// connections make it worth while.
type gate struct {
	loop     *loop
	monitors []*monitor
	limit    int // descriptors at which doors are closed
	budget   int // connections that may come before the next count
	shut     bool
	lookAt   time.Time // while shut
}

// gateLook is how often a shut gate counts again, and how long tcp stays closed
// when it had too many connections.
const gateLook = 100 * time.Millisecond

func newGate(l *loop) (*gate, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return nil, fmt.Errorf("cannot read the limit of descriptors: %w", err)
	}
	g := &gate{loop: l, limit: gateLimit(r.Cur)}
	watch := func(s *zmq4.Socket, k kind) error {
		m, err := newMonitor(l.context(k), s, k, fmt.Sprintf("inproc://connections-%d", len(g.monitors)))
		if err != nil {
			return err
		}
		if k == kindCurve {
			m.tell = l.refusedConnection(l.endpointsOf(s))
		}
		g.monitors = append(g.monitors, m)
		return nil
	}
	for _, r := range l.routers {
		if err := watch(r.socket, r.kind); err != nil {
			return g, err
		}
	}
	for _, p := range l.publishers {
		if err := watch(p.socket, p.kind); err != nil {
			return g, err
		}
	}
	g.count()
	return g, nil
}

// gateLimit leaves a fifth, or 256, whichever is more, but never more than half.
func gateLimit(soft uint64) int {
	n := int(min(soft, 1<<30))
	return n - min(max(n/5, 256), n/2)
}

// openDescriptors counts the process's descriptors.
func openDescriptors() int {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return 1 << 30 // no descriptor is left, or no /proc: be careful
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	return len(names)
}

// count looks how near the limit is, and sets the next budget.
func (g *gate) count() {
	free := g.limit - openDescriptors()
	g.budget = max(free/2, 1)
	switch {
	case free <= 0 && !g.shut:
		g.shut = true
		g.loop.server.log.Warn("no more connections are accepted until descriptors are free again", "limit", g.limit)
		for _, e := range g.loop.doors {
			if err := e.hide(); err != nil {
				g.loop.server.log.Error("cannot stop accepting", "endpoint", e.text, "error", err)
			}
		}
		g.loop.cut(everyEndpoint, time.Now(), "descriptors run out")
	case free > g.limit/10 && g.shut:
		g.shut = false
		for _, e := range g.loop.doors {
			if err := e.show(); err != nil {
				g.loop.server.log.Error("cannot accept again", "endpoint", e.text, "error", err)
				g.shut = true // try again
			}
		}
	}
}

func everyEndpoint(*endpoint) bool { return true }

// tend takes the monitors' events and counts when it is time. Who comes over a
// network may have half of the descriptors: then all of them have to come
// again, long before those on this machine notice.
func (g *gate) tend(now time.Time) {
	remote := 0
	for _, m := range g.monitors {
		g.budget -= m.hear()
		remote += len(m.conns)
	}
	if remote > g.limit/2 {
		g.loop.cut(everyEndpoint, now.Add(gateLook), "there are too many")
	}
	if g.shut && !now.Before(g.lookAt) || !g.shut && g.budget <= 0 {
		g.count()
		g.lookAt = now.Add(gateLook)
	}
}

// forget drops what is known of a socket's connections, which were ended.
func (g *gate) forget(s *zmq4.Socket) {
	for _, m := range g.monitors {
		if m.of == s {
			clear(m.conns)
		}
	}
}

func (g *gate) patience() time.Duration {
	if g == nil || !g.shut {
		return -1
	}
	return max(time.Until(g.lookAt), 0)
}

func (g *gate) close() {
	if g == nil {
		return
	}
	for _, m := range g.monitors {
		_ = m.of.Monitor("", 0)
	}
}
