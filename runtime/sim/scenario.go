package sim

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/engine"
	"github.com/procnanny/procnanny/spec"
)

// Scenario is what happens to programs: a configuration, and what disturbs them.
// Where nothing is said a process starts at once, lives for ever, and ends as
// soon as it is asked to.
type Scenario struct {
	Spec   spec.Spec
	For    time.Duration
	Seed   uint64
	Deaths []Death
	Acts   []Act
	Broken []Broken
	Slow   []Slow
}

// Match says which instances are meant.
type Match func(reconcile.InstanceID) bool

// Death ends main processes. One of At, Every, After and About is set, or At is 0.
type Death struct {
	Match  Match
	At     time.Duration // once, since the beginning
	Every  time.Duration // again and again, by the clock
	After  time.Duration // each run, since its start
	About  time.Duration // each run, after a random time of that mean
	Ending Ending
}

// Act is something that a person does.
type Act struct {
	At    time.Duration
	Words string // what it is called in the timeline
	// One of these is set.
	Edit    *spec.Spec // new files
	Stop    Match      // wanted down
	Start   Match      // wanted up
	Restart Match
	Scale   map[string]int
}

// Broken is a time in which programs cannot be started.
type Broken struct {
	Match       Match
	From, Until time.Duration
}

// Slow is how long processes take to end once they are asked to.
type Slow struct {
	Match Match
	Takes time.Duration
	Never bool // they do not hear it: only KILL ends them
}

// most is how much may happen in a Scenario: some minutes of work. It is a
// variable for tests.
var most = 20_000_000

// play is a scenario under way.
type play struct {
	Calm
	s          *Scenario
	m          *Machine
	files      spec.Spec
	overrides  []spec.Override
	generation uint64
	log        *timeline
	tally      *tally
	over       bool // the daemon has ended: exit_when
	stepsLeft  int
}

// Play lets a scenario happen.
func (s *Scenario) Play() (*Report, error) {
	p := &play{s: s, log: newTimeline(), stepsLeft: most}
	p.m = New(Config{Fate: p, Heard: p.heard})
	p.tally = newTally(p.m)
	p.plan()
	p.edit(s.Spec)
	p.m.Start()
	end := Epoch.Add(s.For)
	for !p.over && p.m.Err() == nil {
		at, ok := p.m.Next()
		if !ok || at.After(end) {
			break
		}
		if p.stepsLeft--; p.stepsLeft < 0 {
			return nil, fmt.Errorf("cannot simulate more than %d events, and those are over after %s of %s", most, p.m.now.Sub(Epoch).Round(time.Second), s.For)
		}
		p.m.Run(at)
	}
	if err := p.m.Err(); err != nil {
		return nil, fmt.Errorf("cannot go on: a promise of ours was broken, which is a defect: %w", err)
	}
	if !p.over {
		p.m.Run(end)
	}
	return p.report(), nil
}

// plan puts on the agenda what happens at certain times.
func (p *play) plan() {
	for _, a := range p.s.Acts {
		p.m.After(a.At, func() { p.act(a) })
	}
	for _, d := range p.s.Deaths {
		switch {
		case d.Every > 0:
			p.every(d)
		case d.After == 0 && d.About == 0:
			p.m.After(d.At, func() { p.kill(d) })
		}
	}
}

func (p *play) every(d Death) {
	p.m.After(d.Every, func() {
		p.kill(d)
		p.every(d)
	})
}

func (p *play) kill(d Death) {
	for _, id := range p.m.Living() {
		if d.Match(id) {
			p.m.Exit(id, d.Ending, 0)
		}
	}
}

// Birth is of a process that lives as long as the scenario says.
func (p *play) Birth(id reconcile.InstanceID, run reconcile.RunID) Birth {
	if p.broken(id) {
		return Birth{Step: "executing", Errno: 2, Reason: "no such file or directory"}
	}
	var b Birth
	for _, s := range p.s.Slow {
		if s.Match(id) {
			b.Stops, b.Deaf = s.Takes, s.Never
		}
	}
	for n, d := range p.s.Deaths {
		lives := d.After
		if d.About > 0 {
			lives = p.random(d.About, id, run, n)
		}
		if lives > 0 && d.Match(id) && (b.Lives == 0 || lives < b.Lives) {
			b.Lives, b.Ending = lives, d.Ending
		}
	}
	return b
}

func (p *play) broken(id reconcile.InstanceID) bool {
	at := p.m.now.Sub(Epoch)
	for _, b := range p.s.Broken {
		if b.Match(id) && at >= b.From && at < b.Until {
			return true
		}
	}
	return false
}

// random is a time of that mean, by the exponential distribution: what has lived
// for long is no nearer to its end.
func (p *play) random(mean time.Duration, id reconcile.InstanceID, run reconcile.RunID, n int) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id.String()))
	_ = binary.Write(h, binary.BigEndian, []uint64{p.s.Seed, uint64(run), uint64(n)})
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	u := (float64(x>>11) + 0.5) / (1 << 53)
	return max(time.Duration(-math.Log(u)*float64(mean)), execTime)
}

// Preflight finds what a start would find.
func (p *play) Preflight(program string) string {
	if p.broken(reconcile.InstanceID{Program: program}) {
		return "executing: no such file or directory"
	}
	return ""
}

// act does what a person does.
func (p *play) act(a Act) {
	p.tally.settle()
	p.log.person(p.m.now, a.Words)
	switch {
	case a.Edit != nil:
		p.edit(*a.Edit)
	case a.Stop != nil:
		p.admin(a.Stop, true)
	case a.Start != nil:
		p.admin(a.Start, false)
		p.m.Command(reconcile.Command{Kind: reconcile.CommandStart, Targets: p.targets(a.Start), By: someone})
	case a.Restart != nil:
		p.m.Command(reconcile.Command{Kind: reconcile.CommandRestart, Targets: p.targets(a.Restart), By: someone})
	default:
		for program, n := range a.Scale {
			p.override(spec.Override{Program: program, Field: "instances", Value: fmt.Appendf(nil, "%d", n), Replaced: p.files.Programs[program].Get("instances")})
		}
		p.desire()
	}
}

// edit takes new files. What was said by hand stays, unless they say otherwise.
func (p *play) edit(files spec.Spec) {
	p.files = files
	p.generation++
	p.overrides, _ = spec.Settle(files, p.overrides, p.m.now, false)
	p.desire()
}

func (p *play) override(o spec.Override) {
	o.By, o.At = someone, p.m.now
	p.overrides = spec.Put(p.overrides, o)
}

// admin makes instances wanted down or up: a program as a whole if all of it is
// meant.
func (p *play) admin(match Match, down bool) {
	for name, g := range p.files.With(p.overrides).Programs {
		meant := 0
		for n := range g.Instances {
			if match(reconcile.InstanceID{Program: name, Index: n}) {
				meant++
			}
		}
		if meant > 0 && meant == g.Instances {
			p.override(spec.AdminOverride(name, nil, down))
			continue
		}
		for n := range g.Instances {
			if match(reconcile.InstanceID{Program: name, Index: n}) {
				p.override(spec.AdminOverride(name, &n, down))
			}
		}
	}
	p.desire()
}

func (p *play) desire() {
	d := engine.Desired{Spec: p.files.With(p.overrides), Generation: p.generation, Config: reconcile.ConfigView{State: "ok", Generation: p.generation}}
	p.tally.desire(d.Spec)
	p.m.Desire(d)
}

// targets are the instances that are meant and there, in order.
func (p *play) targets(match Match) []reconcile.InstanceID {
	var out []reconcile.InstanceID
	w := p.m.World()
	if w == nil {
		return nil
	}
	for _, name := range sorted(w.Programs) {
		for _, i := range w.Programs[name].Instances {
			if match(i.ID) {
				out = append(out, i.ID)
			}
		}
	}
	return out
}

// heard takes what the engine writes down.
func (p *play) heard(b reconcile.Batch) {
	p.log.turn(b.Events)
	for n := range b.Events {
		p.tally.event(&b.Events[n])
	}
	p.tally.batch(b)
	if p.ends(b.Events) && !p.over {
		p.log.person(p.m.now, "exit_when: "+p.files.ExitWhen+" has ended, and the daemon stops everything and ends")
		p.m.After(0, p.shutdown)
	}
}

// ends reports whether the program has ended that the daemon ends with.
func (p *play) ends(events []reconcile.Event) bool {
	g, ok := p.files.Programs[p.files.ExitWhen]
	if !ok {
		return false
	}
	first := g.Restart.When.Mode == "always" && g.Restart.GiveUp == 0
	for n := range events {
		ev := &events[n]
		switch {
		case ev.ID.Program != p.files.ExitWhen:
		case ev.Kind == reconcile.EventRunEnded && first && unplanned[ev.Cause] && ev.Cause != reconcile.CauseNoStart,
			ev.Kind == reconcile.EventState && ev.State == reconcile.StateExited && reconcile.Rests(ev.Detail):
			return true
		}
	}
	return false
}

// shutdown stops everything; the scenario is over when nobody is left.
func (p *play) shutdown() {
	if p.m.ending {
		return
	}
	p.tally.settle()
	p.m.Command(reconcile.Command{Kind: reconcile.CommandShutdown, By: someone})
	p.m.down = func() { p.over = true }
}

// last is the world at the end; a daemon that has ended left what is written down.
func (p *play) last() *reconcile.World {
	if w := p.m.World(); w != nil {
		return w
	}
	w := p.m.journal.World()
	return &w
}
