package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
)

// memory is what a keeper knows: the runs that live, and those that ended and
// are not acknowledged. It is the model of runtime/keeper that orders go to.
type memory struct {
	runs map[reconcile.RunID]*keeper.Run
	// current is the run of an instance that lives, or ended last.
	current map[reconcile.InstanceID]*keeper.Run
}

func newMemory() memory {
	return memory{runs: map[reconcile.RunID]*keeper.Run{}, current: map[reconcile.InstanceID]*keeper.Run{}}
}

func (m *memory) drop(r *keeper.Run) {
	if r == nil || !r.Emptied {
		return
	}
	delete(m.runs, reconcile.RunID(r.Run))
	if id := idOf(r); m.current[id] == r {
		delete(m.current, id)
	}
}

func idOf(r *keeper.Run) reconcile.InstanceID {
	return reconcile.InstanceID{Program: r.Program, Index: r.Index}
}

// obeying is what the keeper does on each order.
var obeying map[keeper.OrderKind]func(*Machine, *keeper.Order)

func init() { // not a literal: what is done leads to what obeys
	obeying = map[keeper.OrderKind]func(*Machine, *keeper.Order){
		keeper.OrderStart:     (*Machine).orderStart,
		keeper.OrderPreflight: (*Machine).orderPreflight,
		keeper.OrderForget:    (*Machine).orderForget,
		keeper.OrderSignal:    onRun((*Machine).orderSignal),
		keeper.OrderPoke:      onRun((*Machine).orderPoke),
		keeper.OrderSweep:     onRun((*Machine).orderSweep),
		keeper.OrderKill:      onRun((*Machine).orderKill),
		keeper.OrderTune:      onRun((*Machine).orderTune),
		keeper.OrderAck:       onRun(func(m *Machine, r *keeper.Run, _ *keeper.Order) { m.memory.drop(r) }),
	}
}

// onRun is an order about a run that the keeper still knows.
func onRun(do func(*Machine, *keeper.Run, *keeper.Order)) func(*Machine, *keeper.Order) {
	return func(m *Machine, o *keeper.Order) {
		if r := m.memory.runs[reconcile.RunID(o.Run)]; r != nil {
			do(m, r, o)
		}
	}
}

func (m *Machine) obey(o *keeper.Order) {
	m.count.Orders++
	if do := obeying[o.Kind]; do != nil {
		do(m, o)
	}
}

func (m *Machine) fact(kind keeper.FactKind, r *keeper.Run) keeper.Fact {
	return keeper.Fact{Kind: kind, Run: r.Run, Program: r.Program, Index: r.Index, PID: r.PID, AtNS: m.boottime()}
}

// orderStart starts one instance, or says why not. There is at most one copy.
func (m *Machine) orderStart(o *keeper.Order) {
	s := o.Start
	id := reconcile.InstanceID{Program: s.Program, Index: s.Index}
	m.count.Starts++
	m.audit.starting(id, reconcile.RunID(s.Run))
	r := &keeper.Run{
		Run: s.Run, Program: s.Program, Index: s.Index, StartedNS: m.boottime(),
		LaunchDigest: s.LaunchDigest, TuningDigest: s.TuningDigest, Generation: s.Generation,
	}
	if old := m.memory.current[id]; old != nil && !old.Emptied {
		f := m.fact(keeper.FactStartFailed, r)
		f.Step, f.Errno, f.Reason = "starting a second copy", 16, fmt.Sprintf("run %d still lives, pid %d", old.Run, old.PID)
		m.tell(f)
		return
	}
	m.memory.drop(m.memory.current[id])
	m.memory.runs[reconcile.RunID(s.Run)], m.memory.current[id] = r, r
	b := m.fate.Birth(id, reconcile.RunID(s.Run))
	if b.Reason != "" {
		f := m.fact(keeper.FactStartFailed, r)
		f.Step, f.Errno, f.Reason = b.Step, b.Errno, b.Reason
		r.Ended, r.Emptied, r.Exit = true, true, f
		m.tellIn(execTime, f)
		return
	}
	p := m.launch(id, reconcile.RunID(s.Run), b)
	r.PID = p.pid
	m.audit.started(p)
	m.tell(m.fact(keeper.FactStarted, r))
}

// process is whom a signal for a run reaches: by pidfd, so nobody else.
func (m *Machine) process(r *keeper.Run) *process {
	if p := m.kernel.byPID[r.PID]; p != nil && m.flaw == FlawByNumber {
		return p
	}
	return m.kernel.byRun[reconcile.RunID(r.Run)]
}

func (m *Machine) send(r *keeper.Run, o *keeper.Order, others bool) {
	if p := m.process(r); p != nil && p.alive() {
		m.audit.signalled(reconcile.RunID(o.Run), p)
		m.signal(p, o.Signal, others)
	}
}

func (m *Machine) orderSignal(r *keeper.Run, o *keeper.Order) {
	r.Stopping = true
	m.send(r, o, r.Ended)
}

func (m *Machine) orderPoke(r *keeper.Run, o *keeper.Order) {
	if !r.Ended {
		m.send(r, o, false)
	}
}

func (m *Machine) orderSweep(r *keeper.Run, o *keeper.Order) {
	if !r.Emptied {
		m.send(r, o, true)
	}
}

func (m *Machine) orderKill(r *keeper.Run, o *keeper.Order) {
	r.Stopping = true
	if !r.Emptied {
		m.send(r, o, true)
	}
}

func (m *Machine) orderTune(r *keeper.Run, o *keeper.Order) {
	f := m.fact(keeper.FactTuned, r)
	f.Digest = o.Digest
	if !r.Ended {
		f.Refused = m.fate.Tune(idOf(r))
		r.TuningDigest = o.Digest
	}
	m.tell(f)
}

func (m *Machine) orderPreflight(o *keeper.Order) {
	m.tell(keeper.Fact{
		Kind: keeper.FactPreflight, Program: o.Program, Index: o.Index, Digest: o.Digest, AtNS: m.boottime(),
		Reason: m.fate.Preflight(o.Program),
	})
}

func (m *Machine) orderForget(o *keeper.Order) {
	id := reconcile.InstanceID{Program: o.Program, Index: o.Index}
	if r := m.memory.current[id]; r != nil && !r.Emptied {
		m.audit.fail("%s is to be forgotten while run %d lives", id, r.Run)
		return
	}
	m.memory.drop(m.memory.current[id])
}

// notice takes note of what became of a process: that its main process ended,
// and that nobody is left.
func (m *Machine) notice(p *process) {
	m.kernel.reap(p) // by init, if need be
	if m.keeperGone {
		p.unseen = true // the next keeper finds out
		return
	}
	r := m.memory.runs[p.run]
	if r == nil || p.main {
		return
	}
	if !r.Ended {
		r.Ended = true
		f := m.fact(keeper.FactExited, r)
		f.Code, f.Signal, f.Core, f.Left = p.ending.Code, p.ending.Signal, p.ending.Core, p.others
		if p.unseen {
			f.Code, f.Signal, f.Core, f.Unknown = -1, 0, false, true
		}
		if m.flaw == FlawEarly {
			f.Left = 0
		}
		r.Exit, p.seen = f, m.now
		m.count.Exits++
		m.tell(f)
	}
	if p.others == 0 && !r.Emptied {
		r.Emptied = true
		m.tell(m.fact(keeper.FactEmptied, r))
		delete(m.kernel.byRun, p.run)
	}
}

// hello is what a control that starts is told.
func (m *Machine) hello() keeper.Hello {
	h := keeper.Hello{Version: keeper.Version, BootID: "simulated", PID: 1, Contain: "cgroup"}
	for _, n := range slices.Sorted(maps.Keys(m.memory.runs)) {
		h.Runs = append(h.Runs, *m.memory.runs[n])
	}
	return h
}

// find is what a keeper knows that starts after a death of both: those who
// live, by their notes. How the others ended nobody knows.
func (m *Machine) find() {
	old := m.memory
	m.memory = newMemory()
	for _, p := range m.kernel.living() {
		r := old.runs[p.run]
		if r == nil {
			m.audit.fail("nobody knows of run %d of %s", p.run, p.id)
			continue
		}
		m.memory.runs[p.run], m.memory.current[p.id] = r, r
		if !p.main {
			p.unseen, p.seen = true, m.now
			r.Ended = true
			r.Exit = m.fact(keeper.FactExited, r)
			r.Exit.Code, r.Exit.Unknown, r.Exit.Left = -1, m.flaw != FlawGuess, p.others
			if m.flaw == FlawGuess {
				r.Exit.Code = 0
			}
		}
	}
	for run := range old.runs {
		if m.memory.runs[run] == nil {
			m.audit.forgotten(run)
			delete(m.kernel.byRun, run)
		}
	}
}

// tell sends a fact to control, if there is one that listens. Facts of one run
// arrive in order; those of different runs overtake each other.
func (m *Machine) tell(f keeper.Fact) { m.tellIn(0, f) }

// tellIn is tell for what is known a while from now.
func (m *Machine) tellIn(d time.Duration, f keeper.Fact) {
	c := m.control
	if c == nil || m.flaw == FlawLost && f.Kind == keeper.FactExited && f.Run%7 == 0 {
		return
	}
	id := reconcile.InstanceID{Program: f.Program, Index: f.Index}
	at := later(m.now.Add(d+m.fate.Lag(LagFact, id)), c.heard[f.Run])
	c.heard[f.Run] = at
	if f.Kind == keeper.FactEmptied || f.Kind == keeper.FactStartFailed {
		delete(c.heard, f.Run)
	}
	m.at(at, func() {
		if m.control == c {
			m.count.Facts++
			c.proc.Take([]keeper.Fact{f})
			c.kick()
		}
	})
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
