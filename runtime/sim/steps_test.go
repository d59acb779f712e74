package sim

import (
	"fmt"
	"maps"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// arg is one number of a step.
type arg struct {
	name  string
	below int
}

// kind is one kind of step: how often it comes, its numbers, what it does. Zeros
// are the tamest: that is where shrinking leads.
type kind struct {
	name   string
	weight int
	args   []arg
	do     func(w *walker, a []int)
}

const programs = 3

var (
	kinds    []kind
	kindOf   = map[string]*kind{}
	weighted []int
)

func init() { // not a literal: what a step does leads to all of them
	kinds = []kind{
		{"edit", 8, []arg{
			{"program", programs},
			{"instances", 6},
			{"command", 3},
			{"when", 4},
			{"delay", 4},
			{"max_delay", 3},
			{"jitter", 2},
			{"flap", 3},
			{"give_up", 5},
			{"min_uptime", 3},
			{"timeout", 3},
			{"nice", 3},
			{"before", 3},
			{"away", 4},
		}, edit},
		{"remove", 1, []arg{{"program", programs}}, remove},
		{"scale", 4, []arg{{"program", programs}, {"instances", 9}}, scale},
		{"down", 3, []arg{{"program", programs}, {"index", 6}}, admin(true)},
		{"up", 3, []arg{{"program", programs}, {"index", 6}}, admin(false)},
		{"command", 6, []arg{{"kind", 4}, {"program", programs}, {"index", 6}}, command},
		{"die", 14, []arg{{"who", 16}, {"how", 6}, {"left", 3}}, die},
		{"ready", 1, []arg{{"who", 16}}, ready},
		{"wait", 30, []arg{{"time", 12}}, wait},
		{"mood", 4, []arg{{"fail", 30}, {"deaf", 30}, {"leave", 50}, {"die", 60}, {"slow", 6}, {"refuse", 50}, {"silent", 50}}, setMood},
		{"kill control", 6, []arg{{"point", 5}, {"orders", 4}}, func(w *walker, a []int) { w.m.KillControl(CutNow+Cut(a[0]), a[1]) }},
		{"kill keeper", 2, nil, func(w *walker, _ []int) { w.m.KillKeeper() }},
		{"kill both", 2, []arg{{"gap", 6}}, killBoth},
		{"start", 3, nil, func(w *walker, _ []int) { w.m.Start() }},
		{"forget", 1, []arg{{"gap", 6}}, forget},
		{"reboot", 1, []arg{{"gap", 6}}, reboot},
		{"shutdown", 1, []arg{{"gap", 6}}, shutdown},
	}
	for n := range kinds {
		kinds[n].name = dashed(kinds[n].name)
		kindOf[kinds[n].name] = &kinds[n]
		for range kinds[n].weight {
			weighted = append(weighted, n)
		}
	}
}

func dashed(s string) string {
	b := []byte(s)
	for n := range b {
		if b[n] == ' ' {
			b[n] = '-'
		}
	}
	return string(b)
}

func named(n int) string { return []string{"api", "web", "job"}[n] }

func edit(w *walker, a []int) {
	p := spec.Defaults()
	name := named(a[0])
	p.Command = "/bin/" + string(rune('a'+a[2]))
	p.Instances = a[1]
	p.Restart.When = []spec.When{
		{Mode: "always"}, {Mode: "failure"}, {Mode: "never"}, {Mode: "exits", Exits: spec.ExitSet{Codes: []int{7}, Signals: []spec.Signal{spec.SIGKILL}}},
	}[a[3]]
	p.Restart.Delay = []spec.Duration{spec.Milliseconds(500), 0, spec.Seconds(2), spec.Milliseconds(100)}[a[4]]
	p.Restart.MaxDelay = []spec.Duration{spec.Seconds(30), spec.Seconds(3), spec.Seconds(120)}[a[5]]
	p.Restart.Jitter = []float64{0.1, 0}[a[6]]
	p.Restart.Flap = []spec.Flap{{Count: 5, Within: spec.Seconds(60)}, {Count: 2, Within: spec.Seconds(5)}, {Count: 1, Within: spec.Seconds(600)}}[a[7]]
	p.Restart.GiveUp = spec.GiveUp(a[8])
	p.Start.MinUptime = []spec.Duration{spec.Seconds(1), 0, spec.Seconds(5)}[a[9]]
	p.Stop.Timeout = []spec.Duration{spec.Seconds(10), 0, spec.Seconds(2)}[a[10]]
	nice := a[11]
	p.Nice = &nice
	if a[12] > 0 {
		p.Stop.Before = &spec.Before{Run: &spec.HookRun{Command: "drain", Timeout: spec.Seconds(a[12])}}
	}
	p.Update.MaxUnavailable = []spec.CountOrPercent{{N: 25, Percent: true}, {N: 1}, {N: 2}, {N: 100, Percent: true}}[a[13]]
	p.Admin = w.programs[name].Admin
	w.programs[name] = p
	w.m.Desire(w.desired())
}

func remove(w *walker, a []int) {
	delete(w.programs, named(a[0]))
	w.m.Desire(w.desired())
}

func scale(w *walker, a []int) {
	if p, ok := w.programs[named(a[0])]; ok {
		p.Instances = a[1]
		w.programs[named(a[0])] = p
		w.m.Desire(w.desired())
	}
}

func admin(down bool) func(*walker, []int) {
	return func(w *walker, a []int) {
		p, ok := w.programs[named(a[0])]
		if !ok {
			return
		}
		index := map[int]bool{}
		maps.Copy(index, p.Admin.Index)
		if a[1] == 0 {
			p.Admin = spec.Admin{Down: down}
		} else {
			index[a[1]-1] = down
			p.Admin = spec.Admin{Down: p.Admin.Down, Index: index}
		}
		w.programs[named(a[0])] = p
		w.m.Desire(w.desired())
	}
}

func command(w *walker, a []int) {
	c := reconcile.Command{Kind: reconcile.CommandRestart + reconcile.CommandKind(a[0]), Signal: 10, By: spec.Requester{How: "rpc"}}
	world := w.m.World()
	if world == nil {
		return
	}
	if p := world.Programs[named(a[1])]; p != nil {
		for _, i := range p.Instances {
			if a[2] == 0 || i.ID.Index == a[2]-1 {
				c.Targets = append(c.Targets, i.ID)
			}
		}
	}
	w.m.Command(c)
}

func die(w *walker, a []int) {
	if living := w.m.Living(); len(living) > 0 {
		w.m.Exit(living[a[0]%len(living)], ending(a[1]), a[2])
	}
}

// ready is a probe that says so, perhaps too late.
func ready(w *walker, a []int) {
	world := w.m.World()
	if world == nil {
		return
	}
	n := 0
	for p := range programs {
		g := world.Programs[named(p)]
		if g == nil {
			continue
		}
		for _, i := range g.Instances {
			if n++; n == a[0]+1 && i.Run != 0 {
				w.m.Tell(reconcile.Fact{Kind: reconcile.FactReady, ID: i.ID, Run: i.Run})
			}
		}
	}
}

var spans = []time.Duration{
	time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, 300 * time.Microsecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
	5 * time.Second, 10 * time.Second, 30 * time.Second, 2 * time.Minute, 20 * time.Minute,
}

func wait(w *walker, a []int) { w.m.Run(w.m.now.Add(spans[a[0]])) }

func setMood(w *walker, a []int) {
	w.mood = mood{fail: a[0], deaf: a[1], leave: a[2], die: a[3], slow: a[4], refuse: a[5], silent: a[6]}
}

// gap lets time pass without procnanny, and starts it again; the last one leaves
// that to another step.
func (w *walker) gap(n int) {
	if n < 5 {
		w.m.Run(w.m.now.Add([]time.Duration{0, time.Millisecond, time.Second, 10 * time.Second, time.Minute}[n]))
		w.m.Start()
	}
}

func killBoth(w *walker, a []int) {
	w.m.KillBoth()
	w.gap(a[0])
}

func forget(w *walker, a []int) {
	w.m.Forget()
	w.gap(a[0])
}

func reboot(w *walker, a []int) {
	w.m.Reboot()
	w.gap(a[0])
}

// shutdown stops everything in order, and starts procnanny again.
func shutdown(w *walker, a []int) {
	if _, ok := w.m.Command(reconcile.Command{Kind: reconcile.CommandShutdown}); !ok {
		return
	}
	for range 100 {
		if !w.m.Up() || w.m.Err() != nil {
			break
		}
		w.m.Run(w.m.now.Add(time.Second))
	}
	if w.m.Up() && w.m.control != nil && w.m.control.hand.World().ShuttingDown {
		w.m.audit.fail("a shutdown does not come to an end")
	}
	w.gap(a[0])
}

// rest lets all go well until nothing moves any more, and sees that the world is
// what is desired.
func (w *walker) rest() {
	w.calm = true
	w.m.Start()
	limit := w.m.now.Add(24 * time.Hour)
	w.m.Run(w.m.now.Add(time.Hour))
	for range 10 {
		if w.m.Err() != nil || w.quiet() {
			break
		}
		if w.held() {
			w.m.Command(reconcile.Command{Kind: reconcile.CommandForce})
		}
		w.m.Run(w.m.now.Add(time.Hour))
	}
	if w.m.Err() == nil && w.m.now.After(limit) {
		w.m.audit.fail("it does not come to rest")
	}
	if w.m.Err() == nil {
		if why := w.astray(); why != "" {
			w.m.audit.fail("it is at rest, but %s", why)
		}
	}
}

func (w *walker) quiet() bool { return w.astray() == "" }

func (w *walker) held() bool {
	if world := w.m.World(); world != nil {
		for _, p := range world.Programs {
			if p.Held != "" {
				return true
			}
		}
	}
	return false
}

// astray says in what the world, the kernel and what is desired differ.
func (w *walker) astray() string {
	world := w.m.World()
	if world == nil {
		return "there is no control"
	}
	if len(world.Programs) > len(w.programs) {
		return fmt.Sprintf("%d programs are known of %d", len(world.Programs), len(w.programs))
	}
	alive := 0
	for name, want := range w.programs {
		p := world.Programs[name]
		if p == nil || len(p.Instances) != want.Instances {
			return name + " has another number of instances"
		}
		for _, i := range p.Instances {
			if why := w.lost(i, &want); why != "" {
				return fmt.Sprintf("%s (%s): %s", i.ID, i.State, why)
			}
			if i.Alive() {
				alive++
			}
		}
	}
	if n := len(w.m.Living()); n != alive {
		return fmt.Sprintf("%d live, and %d are known", n, alive)
	}
	for run, p := range w.m.audit.lives {
		if !p.main && !w.m.audit.forgot {
			return fmt.Sprintf("the end of run %d of %s is not written down", run, p.id)
		}
	}
	return ""
}

func (w *walker) lost(i *reconcile.Instance, want *spec.Program) string {
	down := want.Admin.IsDown(i.ID.Index)
	r := w.m.memory.current[i.ID]
	switch {
	case down && i.State != reconcile.StateExited:
		return "it should be down"
	case i.Alive() && (r == nil || r.Run != uint64(i.Run) || r.Ended || w.m.kernel.byRun[i.Run] == nil || !w.m.kernel.byRun[i.Run].main):
		return "it does not live"
	case down || i.Finished != "":
		return ""
	case i.State != reconcile.StateRunning:
		return "it should run"
	case i.Launch != want.Launch.Digest() || i.Tuning != want.Tuning.Digest():
		return "it is of another launch or tuning"
	case i.Cycle || i.Rolling:
		return "it waits for something"
	}
	return ""
}
