package sim

import (
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/engine"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/proc"
)

// Cut is a point of a turn at which control dies.
type Cut uint8

// The points, in the order of a turn.
const (
	CutNever   Cut = iota
	CutNow         // between two turns
	CutRecord      // before anything is written down
	CutOrders      // written down, nothing ordered
	CutBetween     // some orders are given, others are not
	CutAcks        // ordered, but the keeper does not hear that ends are known
)

// control is one life of the control process: the real engine and the real proc.
type control struct {
	m    *Machine
	hand *engine.Hand
	proc *proc.Proc
	// read is set once it has its desired state.
	read    bool
	turning bool      // a turn is on the agenda
	wakes   time.Time // when the timer is set to
	spins   int       // turns of the timer at one moment
	acks    []keeper.Order
	// heard is until when facts of a run are on their way.
	heard map[uint64]time.Time
	cut   Cut
	quota int // orders that are still given: CutBetween
	dead  bool
}

func newControl(m *Machine) *control {
	c := &control{m: m, heard: map[uint64]time.Time{}}
	c.proc = proc.New(proc.Config{
		Send: c.send, Facts: func(f []reconcile.Fact) { c.hand.Facts(f) },
		Clock: func() (time.Time, int64) { return m.now, m.boottime() }, Simulated: true,
	})
	return c
}

// begin takes over what was written down and what the keeper holds.
func (c *control) begin() {
	w := c.m.journal.World()
	c.m.audit.recovered(w)
	c.hand = engine.ByHand(engine.Config{
		Executor: c, Recorder: c, World: w, Containment: "cgroup",
		Now: func() time.Time { return c.m.now }, Witness: &c.m.audit,
	})
	if facts := c.proc.Adopt(c.m.hello(), w); len(facts) > 0 {
		c.hand.Facts(facts)
		c.kick()
	}
	if c.m.ending { // its predecessor was asked to, and the keeper remembers
		if d := c.m.desired; d != nil {
			last := *d
			last.Ending = true
			c.hand.Desire(last)
		}
		c.hand.Command(reconcile.Command{Kind: reconcile.CommandShutdown})
		c.after()
	}
	c.m.After(c.m.fate.Lag(LagFiles, reconcile.InstanceID{}), c.readFiles)
}

func (c *control) readFiles() {
	if c.m.control != c || c.dead || c.m.desired == nil {
		return
	}
	c.read = true
	c.hand.Desire(*c.m.desired)
	c.after()
}

// kick puts a turn on the agenda.
func (c *control) kick() {
	if c.turning {
		return
	}
	c.turning = true
	c.m.After(c.m.fate.Lag(LagTurn, reconcile.InstanceID{}), func() {
		c.turning = false
		c.turn()
	})
}

func (c *control) turn() {
	if c.m.control != c || c.dead {
		return
	}
	c.hand.Turn()
	c.after()
}

// after is what follows each turn: the timer, and the checks.
func (c *control) after() {
	m := c.m
	m.count.Turns++
	if c.dead {
		if m.control == c {
			m.control = nil
			m.After(m.fate.Lag(LagControl, reconcile.InstanceID{}), m.raise)
		}
		return
	}
	m.audit.turned(c)
	if m.ending && c.nobodyLeft() {
		m.at(m.now, m.stop)
	}
	at := c.hand.Wake()
	if at.IsZero() {
		c.wakes, c.spins = at, 0
		return
	}
	if c.wakes.Equal(at) && at.After(m.now) {
		return // the timer is set
	}
	if c.spins++; at.After(m.now) {
		c.spins = 0
	}
	if c.spins > maxSpins {
		m.audit.fail("a deadline of %s is due again and again", at.Sub(Epoch))
		return
	}
	c.wakes = at
	m.at(later(at, m.now).Add(m.fate.Lag(LagTimer, reconcile.InstanceID{})), func() {
		if c.wakes.Equal(at) {
			c.wakes = time.Time{}
			c.turn()
		}
	})
}

// maxSpins is how often a deadline may be due again at once.
const maxSpins = 64

// Record writes a turn down.
func (c *control) Record(b reconcile.Batch) {
	if c.dead = c.dead || c.cut == CutRecord; c.dead {
		return
	}
	c.m.journal.Record(b)
	c.m.audit.recorded(b)
	if c.m.heard != nil {
		c.m.heard(b)
	}
	for i := range b.Events {
		if ev := &b.Events[i]; ev.Kind == reconcile.EventRunEnded {
			c.acks = append(c.acks, keeper.Order{Kind: keeper.OrderAck, Run: uint64(ev.Run), Program: ev.ID.Program, Index: ev.ID.Index})
		}
	}
	c.dead = c.cut == CutOrders
}

// Do carries a turn's orders out.
func (c *control) Do(orders []reconcile.Order) {
	if c.dead {
		return
	}
	if c.cut == CutBetween {
		orders = orders[:min(len(orders), c.quota)]
	}
	rest := make([]reconcile.Order, 0, len(orders))
	for _, o := range orders {
		if o.Kind == reconcile.ActionDrain {
			c.drain(o)
		} else {
			rest = append(rest, o)
		}
	}
	c.proc.Do(rest)
	c.dead = c.cut == CutBetween
}

// drain does what comes before a stop; the answer comes to this control alone.
func (c *control) drain(o reconcile.Order) {
	answer, after, ok := c.m.fate.Drain(o.ID)
	if !ok {
		return
	}
	c.m.After(after, func() {
		if c.m.control == c && !c.dead {
			c.hand.Facts([]reconcile.Fact{{Kind: reconcile.FactDrained, ID: o.ID, Run: o.Run, At: c.m.now, Drain: &answer}})
			c.kick()
		}
	})
}

// Publish lets the keeper know which ends are known.
func (c *control) Publish(reconcile.Batch) {
	if c.dead = c.dead || c.cut == CutAcks; c.dead {
		return
	}
	if len(c.acks) > 0 {
		_ = c.send(c.acks)
		c.acks = nil
	}
}

func (c *control) send(orders []keeper.Order) error {
	if !c.dead {
		c.m.sendOrders(orders)
	}
	return nil
}

// nobodyLeft reports whether no process is known to live.
func (c *control) nobodyLeft() bool {
	for _, p := range c.hand.World().Programs {
		for _, i := range p.Instances {
			if i.Alive() {
				return false
			}
		}
	}
	return true
}
