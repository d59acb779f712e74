package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/rpc/zmq"
)

const (
	// changesVar sets how many changes TestAcknowledgedChangesStay has acknowledged.
	changesVar = "PROCNANNY_TEST_CHANGES"
	changers   = 4 // clients, each with a program of its own
)

// changer is somebody who changes a program, one change after the other, and
// knows what must be there: what was acknowledged last, or else what has not been
// answered.
type changer struct {
	t       *testing.T
	dir     string
	program string
	acked   *atomic.Int64

	mu      sync.Mutex
	n       int
	known   map[string]string          // field -> value that was acknowledged last
	pending map[string]map[string]bool // values that were asked for since, and not answered
	refused int
	lost    int                // answers
	giveUp  context.CancelFunc // on what is being asked
}

// What was acknowledged over RPC is there after control was killed at whatever
// moment, and what was refused is not; several keys are one change.
func TestAcknowledgedChangesStay(t *testing.T) {
	t.Parallel()
	want := int64(count(changesVar, 24, 12))
	m := newMortalWith(t, mortalOptions{change: func(programs map[string]any) {
		for i := range crashers {
			delete(programs, fmt.Sprintf("crasher%d", i))
		}
		for i := range changers {
			programs[fmt.Sprintf("changed%d", i)] = map[string]any{"command": "sleep", "args": []string{"1000"}, "instances": 0}
		}
	}})
	w := m.settled(time.Time{})
	var acked atomic.Int64
	all := make([]*changer, changers)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for i := range all {
		all[i] = &changer{t: t, dir: m.dir, program: fmt.Sprintf("changed%d", i), acked: &acked, known: map[string]string{}, pending: map[string]map[string]bool{}}
		group.Go(func() { all[i].run(ctx) })
	}
	for last := acked.Load(); acked.Load() < want && !t.Failed(); last = acked.Load() {
		_ = poll(func() (bool, string) { return acked.Load() > last, "" }) // else a busy machine would never get on
		time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond)
		check(t, unix.Kill(w.Control.PID, unix.SIGKILL))
		for unix.Kill(w.Control.PID, 0) == nil && !zombie(w.Control.PID) { // until then it may still answer
			time.Sleep(100 * time.Microsecond)
		}
		for _, c := range all {
			c.wake()
		}
		w = m.renewed(w, false)
		m.deaths++
		for _, c := range all {
			c.compare(m.client)
		}
	}
	cancel()
	group.Wait()
	refused, lost := 0, 0
	for _, c := range all {
		c.compare(m.client)
		refused += c.refused
		lost += c.lost
	}
	t.Logf("%d changes acknowledged, %d refused, %d not answered, %d deaths of control", acked.Load(), refused, lost, m.deaths)
}

// run makes changes until ctx ends.
func (c *changer) run(ctx context.Context) {
	for ctx.Err() == nil && !c.t.Failed() {
		client, err := zmq.Dial("ipc://"+c.dir+"/run/rpc.sock", untilTimeout)
		if err != nil {
			c.t.Error(err)
			return
		}
		for ctx.Err() == nil && c.next(ctx, client) {
		}
		client.Close() // who is dead will not answer
	}
}

// wake ends the wait for an answer of somebody who is dead.
func (c *changer) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.giveUp != nil {
		c.giveUp()
	}
}

// next makes one change, and reports whether it was answered.
func (c *changer) next(ctx context.Context, client rpc.Caller) bool {
	c.n++
	change := changesOf(c.program, c.n)
	ctx, cancel := context.WithTimeout(ctx, untilTimeout)
	defer cancel()
	c.mu.Lock()
	c.giveUp = cancel
	for field, value := range change.makes {
		if c.pending[field] == nil {
			c.pending[field] = map[string]bool{}
		}
		c.pending[field][value] = true
	}
	c.mu.Unlock()
	err := client.Call(ctx, change.method, change.args, nil)
	var refusal *rpc.Error
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil && change.bad:
		c.t.Errorf("%s: %v was accepted", c.program, change.args)
	case err == nil:
		c.acked.Add(1)
		maps.Copy(c.known, change.makes)
	case errors.As(err, &refusal) && (change.bad || strings.Contains(refusal.Message, "evaluat")): // or a busy machine did not let it be judged
		c.refused++
	case errors.As(err, &refusal) && refusal.Code != rpc.CodeUnavailable:
		c.t.Errorf("%s: %s %v: %v", c.program, change.method, change.args, err)
	default: // asked again, by the next change of these keys
		c.lost++
		return false
	}
	for field := range change.makes {
		delete(c.pending, field)
	}
	return true
}

// attempt is a change, and the overrides that it leads to.
type attempt struct {
	method string
	args   map[string]any
	makes  map[string]string
	bad    bool // to be refused
}

// changesOf is change n of a program.
func changesOf(program string, n int) attempt {
	set := func(fields map[string]any) map[string]any {
		return map[string]any{"program": program, "fields": fields}
	}
	value := fmt.Sprint(n)
	switch n % 6 {
	case 0:
		return attempt{method: "set", args: set(map[string]any{"nice": 99, "umask": "022"}), bad: true}
	case 1:
		return attempt{method: "scale", args: map[string]any{"program": program, "instances": -n}, bad: true}
	case 2:
		return attempt{method: "stop", args: map[string]any{"program": program}, makes: map[string]string{"admin": `"down"`}}
	case 3:
		return attempt{method: "set", args: map[string]any{"program": program, "field": "env.N", "value": value, "reason": value}, makes: map[string]string{"env.N": value}}
	}
	return attempt{
		method: "set", args: set(map[string]any{"restart.give_up": n, "restart.flap.count": n, "oom_score_adj": n % 1000}),
		makes: map[string]string{"restart.give_up": value, "restart.flap.count": value, "oom_score_adj": fmt.Sprint(n % 1000)},
	}
}

// compare asks what is set, and compares it with what may be: for each key what was
// acknowledged, or what nobody has answered yet.
func (c *changer) compare(client rpc.Caller) {
	c.t.Helper()
	c.mu.Lock() // nothing is acknowledged meanwhile; something may be done
	defer c.mu.Unlock()
	var reply struct {
		Overrides []struct {
			Field  string `msgpack:"field"`
			Value  any    `msgpack:"value"`
			Reason string `msgpack:"reason"`
		} `msgpack:"overrides"`
	}
	check(c.t, client.Call(context.Background(), "overrides", map[string]any{"program": c.program}, &reply))
	found := map[string]string{}
	for _, o := range reply.Overrides {
		value := fmt.Sprint(o.Value)
		switch o.Field {
		case "env.N": // the value is hidden, the reason says it
			value = o.Reason
		case "admin":
			value = fmt.Sprintf("%q", o.Value)
		}
		found[o.Field] = value
	}
	for field, value := range found {
		if value != c.known[field] && !c.pending[field][value] {
			c.t.Errorf("%s: %s is %s; acknowledged is %q, not answered are %v", c.program, field, value, c.known[field], c.pending[field])
		}
	}
	for field, value := range c.known {
		if _, ok := found[field]; !ok {
			c.t.Errorf("%s: %s = %s was acknowledged and is not there", c.program, field, value)
		}
	}
	if found["restart.give_up"] != found["restart.flap.count"] {
		c.t.Errorf("%s: half of a change is there: %v", c.program, found)
	}
}
