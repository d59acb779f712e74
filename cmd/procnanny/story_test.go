package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/rpc/zmq"
	"github.com/procnanny/procnanny/runtime/daemontest"
)

// eventsVar sets how many events TestTheStoryIsComplete makes.
const eventsVar = "PROCNANNY_TEST_EVENTS"

const (
	storyRate   = 5_000 // events a second
	storyAskers = 16
)

// storyOf is how many events there are, and how long the subscriber stalls.
func storyOf() (events uint64, stall time.Duration) {
	if n, err := strconv.ParseUint(os.Getenv(eventsVar), 10, 64); err == nil {
		return n, 10 * time.Second
	}
	return 10_000, time.Second
}

// story is what a subscriber knows: the check sum of each event by its number.
type story struct {
	t        *testing.T
	client   rpc.Caller
	sums     []uint32 // of the events 1, 2, ...
	streamed int
	refilled int
	early    int // came again by the stream after a refill had them
}

// take is an event of either way. It is the next one, or has been there before
// and is the same.
func (s *story) take(seq uint64, body []byte) (next bool) {
	s.t.Helper()
	sum := crc32.ChecksumIEEE(body)
	switch have := uint64(len(s.sums)); {
	case seq == have+1:
		s.sums = append(s.sums, sum)
		return true
	case seq <= have && s.sums[seq-1] != sum:
		s.t.Fatalf("event %d is another one the second time", seq)
	case seq > have:
		s.t.Fatalf("after event %d comes %d, by asking", have, seq)
	}
	return false
}

// refill asks for what came after the last that is known.
func (s *story) refill(ctx context.Context) {
	s.t.Helper()
	for more := true; more; {
		var page struct {
			Events []msgpack.RawMessage `msgpack:"events"`
			More   bool                 `msgpack:"more"`
		}
		for patiently(ctx, s.client, "events", map[string]any{"since": len(s.sums), "limit": 2000}, &page) != nil {
			check(s.t, ctx.Err())
		}
		more = page.More
		for _, raw := range page.Events {
			if s.take(seqOf(s.t, raw), raw) {
				s.refilled++
			}
		}
	}
}

func seqOf(t *testing.T, body []byte) uint64 {
	t.Helper()
	v, err := rpc.DecodeValue(body)
	check(t, err)
	m, _ := v.(map[string]any)
	n, ok := m["seq"].(int64)
	if !ok {
		t.Fatalf("an event without a number: %v", v)
	}
	return uint64(n)
}

// follow takes events until there were n, and stalls once on the way.
func (s *story) follow(ctx context.Context, sub *zmq.Subscription, n uint64, stall time.Duration) {
	s.t.Helper()
	stallAt := n / 2
	last := uint64(0)
	for uint64(len(s.sums)) < n {
		short, cancel := context.WithTimeout(ctx, time.Second)
		_, body, err := sub.NextRaw(short)
		cancel()
		check(s.t, ctx.Err())
		if err != nil { // nothing for a while: perhaps nobody is there to tell
			s.refill(ctx)
			continue
		}
		seq := seqOf(s.t, body)
		if seq <= last {
			s.t.Fatalf("the stream has event %d after %d", seq, last)
		}
		if last = seq; seq > uint64(len(s.sums))+1 {
			s.refill(ctx)
		}
		if s.take(seq, body) {
			s.streamed++
		} else {
			s.early++
		}
		if seq >= stallAt && stall > 0 {
			time.Sleep(stall)
			stall = 0
		}
	}
}

// anonymous is how much memory of its own a process has, in KiB; 0 for none.
func anonymous(pid int) (kib int) {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if _, rest, ok := strings.Cut(string(raw), "RssAnon:"); ok {
		_, _ = fmt.Sscan(rest, &kib)
	}
	return kib
}

// A subscriber that stalls, and control that is killed twice while thousands of
// events a second are published: what came by the stream and what was asked for
// together is every event, once, and the same both ways.
func TestTheStoryIsComplete(t *testing.T) {
	t.Parallel()
	n, stall := storyOf()
	d := newTeller(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	sub, err := zmq.Subscribe("ipc://"+d.dir+"/run/events.sock", nil)
	check(t, err)
	defer sub.Close()
	s := &story{t: t, client: d.client}
	var made atomic.Uint64
	d.ask(ctx, &made)
	killed := make(chan string, 1)
	go func() { killed <- d.kill(ctx, &made, n) }()
	s.follow(ctx, sub, n, stall)
	cancel()
	t.Logf("%d events streamed, %d asked for, %d both ways; %s", s.streamed, s.refilled, s.early, <-killed)
}

// teller is a daemon with one program that is down: each signal to it is an
// event and nothing else.
type teller struct {
	t      *testing.T
	dir    string
	client rpc.Caller
}

func newTeller(t *testing.T) *teller {
	t.Helper()
	d := daemontest.New(t)
	check(t, os.WriteFile(d.Dir+"/config/a.json", []byte(`{"programs": {"web": {"command": "sleep", "args": ["1000"]}}}`), 0o644))
	d.Start("--supervised", "no")
	client, err := zmq.Dial(d.Endpoint(), time.Minute)
	check(t, err)
	t.Cleanup(func() { client.Close() })
	check(t, client.Call(context.Background(), "stop", map[string]any{"program": "web", "wait": true}, nil))
	return &teller{t, d.Dir, client}
}

// ask has events made until ctx ends, about storyRate a second.
func (d *teller) ask(ctx context.Context, made *atomic.Uint64) {
	for range storyAskers {
		go func() {
			tick := time.NewTicker(time.Second * storyAskers / storyRate)
			defer tick.Stop()
			for ctx.Err() == nil {
				client, err := zmq.Dial("ipc://"+d.dir+"/run/rpc.sock", time.Second)
				if err != nil {
					return
				}
				for ctx.Err() == nil && patiently(ctx, client, "signal", map[string]any{"program": "web", "signal": "USR1"}, nil) == nil {
					made.Add(1)
					<-tick.C
				}
				client.Close() // what was asked of a killed one is never answered
			}
		}()
	}
}

// kill kills control when a third and two thirds of n were made, and watches
// what memory it needs.
func (d *teller) kill(ctx context.Context, made *atomic.Uint64, n uint64) string {
	kills, pid, began := uint64(0), 0, time.Now()
	grown, least := 0, 0
	for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		if pid == 0 || anonymous(pid) == 0 {
			if pid = d.control(ctx); pid == 0 {
				continue
			}
			time.Sleep(time.Second) // it reads what it needs
			least = anonymous(pid)
		}
		grown = max(grown, anonymous(pid)-least)
		if kills < 2 && made.Load() > (kills+1)*n/3 {
			_ = unix.Kill(pid, unix.SIGKILL)
			kills++
		}
	}
	return fmt.Sprintf("%d made in %v, control was killed %d times and grew by %.1f MiB at most", made.Load(), time.Since(began).Round(time.Second), kills, float64(grown)/1024)
}

func (d *teller) control(ctx context.Context) int {
	var w who
	client, err := zmq.Dial("ipc://"+d.dir+"/run/rpc.sock", time.Second)
	if err != nil {
		return 0
	}
	defer client.Close()
	if patiently(ctx, client, "version", nil, &w) != nil {
		return 0
	}
	return w.Control.PID
}

// patiently calls, and gives up after a while: the one that was asked may have
// been killed.
func patiently(ctx context.Context, client rpc.Caller, method string, args map[string]any, reply any) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return client.Call(ctx, method, args, reply)
}
