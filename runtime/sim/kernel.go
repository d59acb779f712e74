package sim

import (
	"cmp"
	"slices"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// firstPID is the lowest process number.
const firstPID = 300

// execTime is what a start costs at least, so that time passes also where a
// program is started again and again without a delay.
const execTime = time.Millisecond

// process is a main process and what it left behind.
type process struct {
	id      reconcile.InstanceID
	run     reconcile.RunID
	pid     int
	birth   Birth
	started time.Time
	main    bool // it lives
	others  int  // of its containment, while or after it lives
	ending  Ending
	asked   bool // to end
	// seen is when the keeper noticed its end; zero is not yet. unseen is set when
	// nobody was there to see it.
	seen   time.Time
	unseen bool
}

func (p *process) alive() bool { return p.main || p.others > 0 }

// kernel has the processes. The number of one that was reaped is given to the
// next one at once: nobody may rely on it.
type kernel struct {
	byRun map[reconcile.RunID]*process
	byPID map[int]*process // until they are reaped
	// newest is the last process of an instance, dead or alive.
	newest map[reconcile.InstanceID]*process
	freed  []int
	last   int
}

func newKernel() kernel {
	return kernel{byRun: map[reconcile.RunID]*process{}, byPID: map[int]*process{}, newest: map[reconcile.InstanceID]*process{}, last: firstPID - 1}
}

func (k *kernel) freePID() int {
	if n := len(k.freed) - 1; n >= 0 {
		pid := k.freed[n]
		k.freed = k.freed[:n]
		return pid
	}
	k.last++
	return k.last
}

// reap frees the number of a main process that has ended.
func (k *kernel) reap(p *process) {
	if !p.main && k.byPID[p.pid] == p {
		delete(k.byPID, p.pid)
		k.freed = append(k.freed, p.pid)
	}
}

// living are the processes of which anybody lives, by instance.
func (k *kernel) living() []*process {
	out := make([]*process, 0, len(k.byRun))
	for _, p := range k.byRun {
		if p.alive() {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *process) int {
		return cmp.Or(a.id.Compare(b.id), cmp.Compare(a.run, b.run))
	})
	return out
}

// launch makes a process.
func (m *Machine) launch(id reconcile.InstanceID, run reconcile.RunID, b Birth) *process {
	p := &process{id: id, run: run, pid: m.kernel.freePID(), birth: b, started: m.now, main: true}
	m.kernel.byRun[run], m.kernel.byPID[p.pid], m.kernel.newest[id] = p, p, p
	if b.Lives > 0 {
		m.After(max(b.Lives, execTime), func() { m.end(p, b.Ending) })
	}
	return p
}

// end ends a main process. Those whom it leaves live on.
func (m *Machine) end(p *process, e Ending) {
	if !p.main {
		return
	}
	p.main, p.ending, p.others = false, e, p.birth.Left
	if p.others > 0 && p.birth.LeftLive > 0 {
		m.After(p.birth.LeftLive, func() { m.vanish(p) })
	}
	m.After(m.fate.Lag(LagNotice, p.id), func() { m.notice(p) })
}

// vanish ends whom a main process left.
func (m *Machine) vanish(p *process) {
	if p.main || p.others == 0 {
		return
	}
	p.others = 0
	m.After(m.fate.Lag(LagNotice, p.id), func() { m.notice(p) })
}

// signal is what a process makes of a signal. others says that it goes to all of
// the containment, not to the main process alone.
func (m *Machine) signal(p *process, sig spec.Signal, others bool) {
	if sig == spec.SIGKILL {
		if p.main {
			if others {
				p.birth.Left = 0
			}
			m.end(p, Ending{Code: -1, Signal: sig})
		} else if others {
			m.vanish(p)
		}
		return
	}
	if others && !p.main && !p.birth.LeftDeaf {
		m.vanish(p)
	}
	if p.main && !p.birth.Deaf && !p.asked {
		p.asked = true
		m.After(p.birth.Stops, func() { m.end(p, Ending{Code: -1, Signal: sig}) })
	}
}
