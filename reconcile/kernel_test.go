package reconcile

import (
	"fmt"
	"maps"
	"slices"

	"github.com/procnanny/procnanny/spec"
)

// process is what the model of keeper and kernel knows of a run.
type process struct {
	run      RunID
	launch   spec.Digest
	tuning   spec.Digest
	stopping bool
	main     bool // the main process lives
	left     int  // others of its containment
}

// kernel is a model of keeper and kernel: it lets one run of an instance live,
// and it may be slow, refuse, and let processes die or outlive their parents.
type kernel struct {
	live  map[InstanceID]*process
	queue []Fact // not told yet, in order
	// fate draws a number below n: 0 is always what one hopes for.
	fate func(what string, n int) int
	at   func() Fact // a fact with the time of now
	bad  string      // the first promise that was broken
}

func newKernel(s *stage, fate func(string, int) int) *kernel {
	return &kernel{live: map[InstanceID]*process{}, fate: fate, at: func() Fact { return Fact{At: s.now} }}
}

func (k *kernel) say(kind FactKind, id InstanceID, run RunID) *Fact {
	f := k.at()
	f.Kind, f.ID, f.Run = kind, id, run
	k.queue = append(k.queue, f)
	return &k.queue[len(k.queue)-1]
}

// do carries out an action as the keeper would.
func (k *kernel) do(a Action) {
	p := k.live[a.ID]
	switch a.Kind {
	case ActionStart:
		k.start(a)
		return
	case ActionPreflight:
		f := k.say(FactPreflight, a.ID, 0)
		f.Launch = a.Launch
		if k.fate("preflight", 3) == 2 {
			f.Reason = "no such file or directory"
		}
		return
	case ActionForget:
		if p != nil {
			k.bad = fmt.Sprintf("%s is forgotten while run %d lives", a.ID, p.run)
		}
		return
	default:
	}
	if p == nil || p.run != a.Run {
		return // it is over: the fact is on its way
	}
	switch a.Kind {
	case ActionDrain:
		if p.stopping {
			k.bad = fmt.Sprintf("%s is drained after run %d was asked to end", a.ID, p.run)
		}
		if k.fate("drained", 3) < 2 {
			k.say(FactDrained, a.ID, p.run).Drain = &Drain{OK: true, Answer: "exit code 0"}
		}
	case ActionSignal:
		p.stopping = true
		if p.main && k.fate("obey", 4) < 3 {
			k.exit(a.ID, Exit{Code: -1, Signal: a.Signal})
		}
	case ActionSweep:
		if k.fate("swept", 2) == 0 {
			k.empty(a.ID)
		}
	case ActionKill:
		if p.main {
			p.left = 0
			k.exit(a.ID, Exit{Code: -1, Signal: spec.SIGKILL})
		} else {
			k.empty(a.ID)
		}
	case ActionTune:
		p.tuning = a.Tuning
		f := k.say(FactTuned, a.ID, p.run)
		f.Tuning = a.Tuning
		if k.fate("tuned", 3) == 2 {
			f.Refused = map[string]string{"nofile": "needs restart: operation not permitted"}
		}
	default:
	}
}

func (k *kernel) start(a Action) {
	if p := k.live[a.ID]; p != nil {
		k.bad = fmt.Sprintf("%s run %d is to start while run %d lives", a.ID, a.Run, p.run)
		return
	}
	if k.fate("start", 5) == 4 {
		f := k.say(FactStartFailed, a.ID, a.Run)
		f.Step, f.Errno, f.Reason = "changing to /srv", 2, "no such file or directory"
		return
	}
	k.live[a.ID] = &process{run: a.Run, launch: a.Launch, tuning: a.Tuning, main: true, left: k.fate("children", 3)}
	k.say(FactStarted, a.ID, a.Run).PID = 1000 + int(a.Run)
}

// exit ends a main process.
func (k *kernel) exit(id InstanceID, x Exit) {
	p := k.live[id]
	p.main = false
	f := k.say(FactExited, id, p.run)
	f.Exit, f.Left = &x, p.left
	if p.left == 0 {
		delete(k.live, id)
	}
}

// empty ends what is left after the main process.
func (k *kernel) empty(id InstanceID) {
	if p := k.live[id]; !p.main {
		delete(k.live, id)
		k.say(FactEmptied, id, p.run)
	}
}

// ids are the instances with somebody alive, in order.
func (k *kernel) ids() []InstanceID {
	return slices.SortedFunc(maps.Keys(k.live), InstanceID.Compare)
}

// hello is what a new control is told: who lives, and what ended meanwhile.
// What the old one was not told is in the queue still.
func (k *kernel) hello(w World) []Fact {
	waiting := map[RunID]bool{}
	for _, f := range k.queue {
		waiting[f.Run] = true
	}
	var out []Fact
	for _, id := range k.ids() {
		p := k.live[id]
		f := k.at()
		f.ID, f.Run, f.Launch, f.Tuning = id, p.run, p.launch, p.tuning
		switch {
		case p.main:
			f.Kind, f.PID, f.Stopping = FactAdopted, 1000+int(p.run), p.stopping
		case !waiting[p.run]:
			f.Kind, f.Left, f.Exit = FactExited, p.left, &Exit{Code: 1}
		default:
			continue
		}
		waiting[p.run] = true
		out = append(out, f)
	}
	for _, p := range w.Programs {
		for _, i := range p.Instances {
			if i.Alive() && !waiting[i.Run] {
				f := k.at()
				f.Kind, f.ID, f.Run = FactLost, i.ID, i.Run
				out = append(out, f)
			}
		}
	}
	return out
}
