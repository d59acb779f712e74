package control

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/procnanny/procnanny/rpc"
)

// told is what a guard emitted: refusals one by one, and how many more.
type told struct {
	ones []string
	more map[string]uint64
}

func watchGuard(t *testing.T) (*guard, *told) {
	w := &told{more: map[string]uint64{}}
	g := newGuard(func(r *rpc.Refusal, more uint64) {
		who := "others"
		if r != nil {
			who = source(*r)
		}
		if more > 0 {
			w.more[who] += more
		} else {
			w.ones = append(w.ones, who)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go g.run(ctx)
	return g, w
}

// sleepWindow lets the guard's window pass.
func sleepWindow() {
	time.Sleep(2 * guardWindow) // the bubble's time
	synctest.Wait()
}

func byUID(uid uint32) rpc.Refusal {
	return rpc.Refusal{Act: rpc.ActMethod, Method: "stop", Peer: rpc.Peer{UID: uid, Known: true}}
}

// A flood of one costs a few events, whatever its size, and hides nobody else.
func TestRefusalsOfOneSourceAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, w := watchGuard(t)
		for range 100 {
			for range 100 {
				g.take(byUID(1000))
			}
			synctest.Wait()
		}
		g.take(byUID(1001))
		synctest.Wait()
		if want := []string{"uid 1000", "uid 1000", "uid 1000", "uid 1000", "uid 1000", "uid 1001"}; !slices.Equal(w.ones, want) {
			t.Errorf("told %v, want %v", w.ones, want)
		}
		sleepWindow()
		if len(w.more) != 1 || w.more["uid 1000"] != 100*100-guardEach {
			t.Errorf("counted %v", w.more)
		}
		g.take(byUID(1000)) // a new window
		synctest.Wait()
		if len(w.ones) != 7 {
			t.Errorf("in the next window told %v", w.ones[6:])
		}
	})
}

// Nor does a flood of many: connections with ever other keys and addresses.
func TestRefusalsOfManySourcesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, w := watchGuard(t)
		const n = 5000
		for i := range n {
			g.take(rpc.Refusal{Act: rpc.ActConnect, Peer: rpc.Peer{Key: fmt.Sprint(i), Address: fmt.Sprintf("192.0.2.%d", i%200)}})
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		if len(w.ones) != guardAll {
			t.Errorf("told %d, want %d", len(w.ones), guardAll)
		}
		sleepWindow()
		sum := uint64(len(w.ones))
		for _, more := range w.more {
			sum += more
		}
		if sum != n || len(w.more) > guardSources+1 {
			t.Errorf("%d told or counted of %d, by %d events", sum, n, len(w.more))
		}
	})
}

// What finds no room to wait is counted as well.
func TestRefusalsNeverBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := uint64(0)
		g := newGuard(func(_ *rpc.Refusal, more uint64) { w += max(more, 1) })
		for range guardQueue + 1000 {
			g.take(byUID(7)) // nobody runs it yet
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go g.run(ctx)
		synctest.Wait()
		sleepWindow()
		if w != guardQueue+1000 {
			t.Errorf("%d told or counted", w)
		}
	})
}

func TestRefusalFields(t *testing.T) {
	for _, c := range []struct {
		r    rpc.Refusal
		want string
	}{
		{byUID(5), "[{act method} {method stop} {uid 5} {gid 0} {pid 0} {why }]"},
		{
			rpc.Refusal{Act: rpc.ActConnect, Peer: rpc.Peer{UID: rpc.NoID, Known: true, Key: "k", Name: "n", Address: "a"}, Why: "w"},
			"[{act connect} {key k} {name n} {address a} {why w}]",
		},
		{rpc.Refusal{Act: rpc.ActConnect, Endpoint: "tcp://x", Peer: rpc.Peer{Address: "a"}, Why: "w"}, "[{act connect} {endpoint tcp://x} {address a} {why w}]"},
		{rpc.Refusal{Act: rpc.ActRequest, Why: "w"}, "[{act request} {why w}]"},
	} {
		if got := fmt.Sprint(refusalFields(&c.r)); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}
