package sim

import (
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/engine"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/spec"
)

// Epoch is when every simulation begins.
var Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// booted is how long the machine has been up at Epoch.
const booted = time.Hour

// Flaw is a mistake of the keeper that is made on purpose, to see that it is
// found.
type Flaw uint8

// The flaws.
const (
	FlawNone     Flaw = iota
	FlawLost          // some ends are never told
	FlawEarly         // nobody is left, it says, while somebody lives
	FlawByNumber      // signals go to a process number, whoever has it
	FlawGuess         // an end that nobody saw is called a success
	FlawAmnesia       // what was written down last is gone when control dies
)

// maxMoments bounds what may happen at one moment: some things for each of
// 100,000 instances.
const maxMoments = 5_000_000

// Config is what a Machine stands on.
type Config struct {
	Fate Fate
	// Journal is what outlives control; nil is one in memory.
	Journal Journal
	// Heard is told each turn that was written down; nil is nobody.
	Heard func(reconcile.Batch)
	// Thorough adds to the checks after each turn a look at everything.
	Thorough bool
	Flaw     Flaw
}

// Count is how much a Machine did.
type Count struct {
	Turns, Orders, Facts, Starts, Exits, Controls, Keepers, Boots int
}

// Machine is a computer in which procnanny runs, with a clock that jumps from
// one event to the next. Engine, core and proc are the real ones; keeper,
// kernel and store are models. It has one goroutine: its caller's.
type Machine struct {
	now     time.Time
	moments int // things done at this moment
	agenda  agenda
	fate    Fate
	journal Journal
	heard   func(reconcile.Batch)
	flaw    Flaw
	kernel  kernel
	memory  memory
	control *control // nil while none lives
	// sent are orders on their way; epoch tells those to a keeper that died.
	sent       [][]keeper.Order
	epoch      int
	keeperGone bool
	orderDue   time.Time
	desired    *engine.Desired
	ending     bool   // it was shut down, and is not yet over
	down       func() // called when it is over; nil is nobody
	audit      audit
	count      Count
}

// New returns a machine on which nothing runs, nor procnanny itself: Start it.
func New(c Config) *Machine {
	m := &Machine{now: Epoch, fate: c.Fate, journal: c.Journal, heard: c.Heard, flaw: c.Flaw, kernel: newKernel(), memory: newMemory(), keeperGone: true}
	if m.journal == nil {
		m.journal = NewJournal()
	}
	if m.flaw == FlawAmnesia {
		m.journal = &amnesia{Journal: m.journal}
	}
	m.audit = newAudit(m, c.Thorough)
	return m
}

// Now is the time of the machine.
func (m *Machine) Now() time.Time { return m.now }

// Count is how much was done so far.
func (m *Machine) Count() Count { return m.count }

// Err is the first promise that was broken, or nil.
func (m *Machine) Err() error { return m.audit.err }

// After puts something on the agenda.
func (m *Machine) After(d time.Duration, do func()) { m.at(m.now.Add(d), do) }

func (m *Machine) at(t time.Time, do func()) { m.agenda.put(later(m.now, t), do) }

// Run lets time pass until a moment, or until a promise is broken. What is due
// at that moment is done.
func (m *Machine) Run(until time.Time) {
	for m.audit.err == nil {
		at, ok := m.agenda.next()
		if !ok || at.After(until) {
			break
		}
		m.step()
	}
	m.now = later(m.now, until)
}

// step does the next thing on the agenda.
func (m *Machine) step() {
	e := m.agenda.take()
	if m.moments++; e.at.After(m.now) {
		m.now, m.moments = e.at, 0
	}
	if m.moments > maxMoments {
		m.audit.fail("more and more happens at one moment")
		return
	}
	e.do()
}

// Next is when something happens next; false is never.
func (m *Machine) Next() (time.Time, bool) { return m.agenda.next() }

// boottime is CLOCK_BOOTTIME.
func (m *Machine) boottime() int64 { return int64(m.now.Sub(Epoch) + booted) }

// Start starts procnanny, if it does not run.
func (m *Machine) Start() {
	if m.control != nil || !m.keeperGone {
		return
	}
	m.keeperGone, m.ending = false, false
	m.count.Keepers++
	m.find()
	m.raise()
}

// Up reports whether procnanny runs, or will in a moment.
func (m *Machine) Up() bool { return !m.keeperGone }

// Desire makes d what shall be, now and for each control that starts.
func (m *Machine) Desire(d engine.Desired) {
	m.desired = &d
	if c := m.control; c != nil && c.read {
		c.hand.Desire(d)
		c.after()
	}
}

// Command is a person's; false is that nobody answers.
func (m *Machine) Command(c reconcile.Command) ([]reconcile.Outcome, bool) {
	ctl := m.control
	if ctl == nil || !ctl.read {
		return nil, false
	}
	if c.Kind == reconcile.CommandShutdown {
		m.ending = true
	}
	out := ctl.hand.Command(c)
	ctl.after()
	return out, true
}

// Tell hands a fact to control that is not the keeper's: a probe's.
func (m *Machine) Tell(f reconcile.Fact) {
	if c := m.control; c != nil {
		c.hand.Facts([]reconcile.Fact{f})
		c.kick()
	}
}

// Exit ends a main process by itself, or whom it left. left is how many more it
// leaves than it would.
func (m *Machine) Exit(id reconcile.InstanceID, e Ending, left int) bool {
	r := m.memory.current[id]
	if r == nil {
		return false
	}
	p := m.kernel.byRun[reconcile.RunID(r.Run)]
	switch {
	case p == nil:
		return false
	case p.main:
		p.birth.Left += left
		m.end(p, e)
	default:
		m.vanish(p)
	}
	return true
}

// Living are the instances of which anybody lives, in order.
func (m *Machine) Living() []reconcile.InstanceID {
	var out []reconcile.InstanceID
	for _, p := range m.kernel.living() {
		out = append(out, p.id)
	}
	return out
}

// World is what control knows; nil is that there is none.
func (m *Machine) World() *reconcile.World {
	if m.control == nil {
		return nil
	}
	w := m.control.hand.World()
	return &w
}

// KillControl lets control die, now or at a certain point of its next turn.
func (m *Machine) KillControl(c Cut, orders int) {
	ctl := m.control
	if ctl == nil {
		return
	}
	ctl.cut, ctl.quota = c, orders
	if c == CutNow {
		ctl.dead = true
		ctl.after()
	}
}

// KillKeeper lets the keeper die: what is on its way from and to it is lost.
// Control, which has everything that it held, becomes the next one.
func (m *Machine) KillKeeper() {
	if m.keeperGone {
		return
	}
	m.lose()
	m.count.Keepers++
	if m.control == nil {
		return
	}
	m.control = nil
	m.After(m.fate.Lag(LagControl, reconcile.InstanceID{}), m.raise)
}

// KillBoth lets both die: ends that are not written down are lost. Start starts
// them again.
func (m *Machine) KillBoth() {
	m.lose()
	m.control, m.keeperGone = nil, true
}

// Forget lets both die, and loses the newest of what was written down with them.
// It needs a journal of our own.
func (m *Machine) Forget() {
	m.KillBoth()
	if j, ok := m.journal.(*journal); ok {
		j.forget()
		m.audit.amnesia()
	}
}

// Reboot ends every process, and procnanny too.
func (m *Machine) Reboot() {
	m.KillBoth()
	m.count.Boots++
	m.audit.rebooted()
	for _, p := range m.kernel.byRun {
		p.main, p.others = false, 0
	}
	m.kernel, m.memory = newKernel(), newMemory()
	m.journal.Reboot(m.now)
}

// stop ends an orderly shutdown, if nobody is left.
func (m *Machine) stop() {
	if !m.ending || m.control == nil || !m.control.nobodyLeft() {
		return
	}
	m.audit.stopped()
	m.KillBoth()
	m.ending = false
	if m.down != nil {
		m.down()
	}
}

// raise starts a control, as the keeper does when it has none.
func (m *Machine) raise() {
	if m.control != nil || m.keeperGone {
		return
	}
	m.count.Controls++
	for len(m.sent) > 0 { // of the one before: the keeper obeys the dead, too
		m.arrive()
	}
	m.control = newControl(m)
	m.control.begin()
}

// someone is who asks.
var someone = spec.Requester{How: "rpc"}

// sendOrders brings orders to the keeper, in order.
func (m *Machine) sendOrders(orders []keeper.Order) {
	m.sent = append(m.sent, orders)
	m.orderDue = later(m.now.Add(m.fate.Lag(LagOrder, reconcile.InstanceID{})), m.orderDue)
	epoch := m.epoch
	m.at(m.orderDue, func() {
		if m.epoch == epoch {
			m.arrive()
		}
	})
}

// arrive has the keeper obey the orders that were sent first.
func (m *Machine) arrive() {
	if len(m.sent) == 0 {
		return
	}
	orders := m.sent[0]
	m.sent = m.sent[1:]
	for i := range orders {
		m.obey(&orders[i])
	}
}

// lose loses what is on its way to the keeper.
func (m *Machine) lose() { m.epoch, m.sent = m.epoch+1, nil }
