package reconcile

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/spec"
	"pgregory.net/rapid"
)

// walker takes random steps through a world with a model of the kernel.
type walker struct {
	*stage
	k  *kernel
	rt *rapid.T
	// calm makes everything go as one hopes.
	calm bool
}

func newWalker(rt *rapid.T) *walker {
	w := &walker{stage: newStage(), rt: rt}
	w.quiet = true
	w.k = newKernel(w.stage, func(what string, n int) int {
		if w.calm {
			return 0
		}
		return rapid.IntRange(0, n-1).Draw(rt, what)
	})
	return w
}

func (w *walker) turn() {
	before := cloneWorld(w.w)
	for _, name := range w.names() {
		a := DiffProgram(name, w.desired[name], w.w, w.now)
		b := DiffProgram(name, w.desired[name], w.w, w.now)
		if !reflect.DeepEqual(a, b) {
			w.rt.Fatalf("two looks at the same world differ:\n%+v\n%+v", a, b)
		}
	}
	if !reflect.DeepEqual(before, w.w) {
		w.rt.Fatal("Diff changed the world")
	}
	w.stage.turn()
	for _, a := range w.actions {
		w.k.do(a)
	}
	for _, name := range w.names() { // one look is enough
		plan := DiffProgram(name, w.desired[name], w.w, w.now)
		if at := Wake(w.w.Programs[name]); len(plan.Actions) > 0 && !due(at, w.now) {
			w.rt.Fatalf("a second look finds more to do: %+v: %s", plan, w.picture())
		}
	}
	w.check()
}

func (w *walker) check() {
	if w.k.bad != "" {
		w.rt.Fatal(w.k.bad)
	}
	if err := Check(w.w); err != nil {
		w.rt.Fatal(err)
	}
	index := World{}
	for _, name := range slices.Sorted(maps.Keys(w.w.Programs)) {
		index.await(name, nil, w.w.Programs[name].Spec)
	}
	if len(index.waiters)+len(w.w.waiters) > 0 && !reflect.DeepEqual(index.waiters, w.w.waiters) {
		w.rt.Fatalf("who waits for whom is %v, should be %v", w.w.waiters, index.waiters)
	}
}

func (w *walker) apply(f Fact) {
	w.fact(f)
	w.check()
}

var walks = map[string]func(*walker){
	"edit": func(w *walker) {
		name := w.pick("program", "web", "api")
		p := spec.Defaults()
		p.Command = "/bin/" + w.pick("command", "a", "b")
		p.Instances = w.draw("instances", 5)
		p.Restart.When.Mode = w.pick("when", "always", "failure", "never")
		p.Restart.Delay = spec.Milliseconds(500 * w.draw("delay", 3))
		p.Restart.GiveUp = spec.GiveUp(w.draw("give up", 4))
		p.Start.MinUptime = spec.Seconds(w.draw("min uptime", 3))
		p.Stop.Timeout = spec.Seconds(5 * w.draw("timeout", 3))
		p.Stop.Escalate = []spec.Signal{spec.SIGKILL, spec.Signal(3)}[w.draw("escalate", 2)]
		if w.draw("before", 2) == 1 {
			p.Stop.Before = &spec.Before{Run: &spec.HookRun{Command: "drain", Timeout: spec.Seconds(3)}}
		}
		if name == "api" && w.draw("after", 3) > 0 {
			p.Start.After = map[string]string{w.pick("other", "web", "web", "job"): w.pick("how", spec.AfterRunning, spec.AfterDone)}
		}
		nice := w.draw("nice", 3)
		p.Nice = &nice
		p.Admin.Down = w.draw("down", 4) == 3
		if index := w.draw("index", 8); index < 4 {
			p.Admin.Index = map[int]bool{index: !p.Admin.Down}
		}
		w.desired[name] = &p
	},
	"remove": func(w *walker) { delete(w.desired, w.pick("program", "web", "api")) },
	"command": func(w *walker) {
		c := Command{Kind: CommandKind(1 + w.draw("kind", 4))}
		for _, name := range w.names() {
			for n := range 4 {
				if w.draw("target", 2) == 1 {
					c.Targets = append(c.Targets, InstanceID{name, n})
				}
			}
		}
		world, _, actions, _ := Execute(w.w, c, w.now)
		w.w = world
		for _, a := range actions {
			w.k.do(a)
		}
		w.check()
	},
	"tell": func(w *walker) { w.tell(1 + w.draw("facts", 3)) },
	"die": func(w *walker) {
		if ids := w.k.ids(); len(ids) > 0 {
			id := ids[w.draw("who", len(ids))]
			if p := w.k.live[id]; p.main {
				p.left = w.draw("left", 3) % 2
				w.k.exit(id, Exit{Code: w.draw("code", 2)})
			} else {
				w.k.empty(id)
			}
		}
	},
	"time": func(w *walker) {
		w.now = w.now.Add(time.Duration(1+w.draw("time", 20)) * 700 * time.Millisecond)
		w.fire()
	},
	"said again": func(w *walker) { // the keeper says something twice
		if len(w.k.queue) > 0 && w.k.queue[0].Kind != FactPreflight {
			w.apply(w.k.queue[0])
		}
	},
	"control dies": func(w *walker) {
		if w.draw("mid-turn", 2) == 1 { // written down, but never sent
			w.stage.turn()
		}
		w.restarted(w.controlDies(w.draw("rolls", 2) == 1))
	},
	"amnesia": func(w *walker) { // the journal is lost with control
		w.w = NewWorld()
		w.w.Generation = 1
		w.restarted(nil)
	},
}

func (w *walker) restarted(err error) {
	if err != nil {
		w.rt.Fatal(err)
	}
	w.k.queue = slices.DeleteFunc(w.k.queue, func(f Fact) bool { return f.Kind == FactPreflight || f.Kind == FactTuned })
	for _, f := range w.k.hello(w.w) {
		w.apply(f)
	}
	w.tell(len(w.k.queue)) // ended, and not acknowledged
}

func (w *walker) tell(n int) {
	for range min(n, len(w.k.queue)) {
		f := w.k.queue[0]
		w.k.queue = w.k.queue[1:]
		w.apply(f)
	}
}

func (w *walker) draw(what string, n int) int { return rapid.IntRange(0, n-1).Draw(w.rt, what) }

func (w *walker) pick(what string, of ...string) string {
	return rapid.SampledFrom(of).Draw(w.rt, what)
}

// rest lets everything go well until nothing moves any more.
func (w *walker) rest() {
	w.calm = true
	for range 300 {
		for range 300 {
			w.turn()
			if len(w.k.queue) == 0 {
				break
			}
			w.tell(len(w.k.queue))
		}
		at := w.wake()
		if at.IsZero() {
			if w.held() == "" {
				return
			}
			w.w, _, _, _ = Execute(w.w, Command{Kind: CommandForce}, w.now)
		}
		if at.After(w.now) {
			w.now = at
		}
		w.fire()
	}
	w.rt.Fatalf("the world does not come to rest: %s", w.picture())
}

func (w *walker) held() string {
	for _, p := range w.w.Programs {
		if p.Held != "" {
			return p.Held
		}
	}
	return ""
}

// Any edits, facts and commands, then quiet: the world becomes what is desired,
// and then there is nothing to do. At no time do two runs of an instance live.
func TestWalksConverge(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWalker(rt)
		kinds := slices.Sorted(maps.Keys(walks))
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			walks[rapid.SampledFrom(kinds).Draw(rt, "step")](w)
			if w.draw("turn", 3) > 0 {
				w.turn()
			}
		}
		w.rest()
		w.arrived()
	})
}

// arrived checks that the world is what is desired.
func (w *walker) arrived() {
	for _, name := range w.names() {
		p, want := w.w.Programs[name], w.desired[name]
		if want == nil {
			w.rt.Fatalf("%s is still in the world: %s", name, w.picture())
		}
		if len(p.Instances) != want.Instances {
			w.rt.Fatalf("%s has %d instances of %d: %s", name, len(p.Instances), want.Instances, w.picture())
		}
		for n, i := range p.Instances {
			why := w.astray(i, want)
			if w.waits(want) && i.State != StateStopping && i.State != StateStarting {
				why = "" // as it was, or as far as it can come
			}
			if (i.Waits != "") && !w.waits(want) {
				why = "it waits for nothing"
			}
			if why != "" || i.ID.Index != n {
				w.rt.Fatalf("%s: %s: %s", i.ID, why, w.picture())
			}
		}
		plan := DiffProgram(name, want, w.w, w.now)
		if w.waits(want) {
			plan.Changes = slices.DeleteFunc(plan.Changes, func(c Change) bool { return c.Later })
		}
		if !plan.Empty() || len(plan.programs) > 0 {
			w.rt.Fatalf("%s is settled, but: %+v", name, plan)
		}
	}
	w.k.agree(w)
}

// waits reports whether a program lacks what its start.after names.
func (w *walker) waits(want *spec.Program) bool {
	for other, how := range want.Start.After {
		if !w.w.there(other, how) {
			return true
		}
	}
	return false
}

func (w *walker) astray(i *Instance, want *spec.Program) string {
	down := want.Admin.IsDown(i.ID.Index)
	switch {
	case down && i.State != StateExited:
		return "it should be down"
	case down || i.Finished != "":
		return ""
	case i.State != StateRunning:
		return "it should run"
	case i.Launch != want.Launch.Digest():
		return "it is of another launch"
	case i.Tuning != want.Tuning.Digest():
		return "it is of another tuning"
	case i.Cycle || i.Rolling:
		return "it waits for something"
	}
	return ""
}

// agree checks that the world and the kernel know the same.
func (k *kernel) agree(w *walker) {
	alive := 0
	for _, p := range w.w.Programs {
		for _, i := range p.Instances {
			if !i.Alive() {
				continue
			}
			alive++
			if p := k.live[i.ID]; p == nil || p.run != i.Run || p.launch != i.Launch || p.tuning != i.Tuning {
				w.rt.Fatalf("%s lives as run %d, says the world; the kernel has %+v", i.ID, i.Run, p)
			}
		}
	}
	if alive != len(k.live) {
		w.rt.Fatalf("%d live, %d are known", len(k.live), alive)
	}
}

func (w *walker) picture() string {
	var b strings.Builder
	for _, name := range w.names() {
		if p := w.w.Programs[name]; p != nil {
			fmt.Fprintf(&b, "\n%s held=%q preflight=%s", name, p.Held, p.Preflight)
			for _, i := range p.Instances {
				raw, _ := json.Marshal(i)
				fmt.Fprintf(&b, "\n  %s", raw)
			}
		}
	}
	return b.String()
}

// cloneWorld is a copy that shares nothing that Diff could write to.
func cloneWorld(w World) World {
	out := w
	out.Programs, out.waiters = map[string]*Program{}, map[string][]string{}
	for name, list := range w.waiters {
		out.waiters[name] = slices.Clone(list)
	}
	if w.waiters == nil {
		out.waiters = nil
	}
	for name, p := range w.Programs {
		q := *p
		q.past, q.Instances = slices.Clone(p.past), slices.Clone(p.Instances)
		for n, i := range p.Instances {
			j := *i
			j.Ends, j.Pending = slices.Clone(i.Ends), maps.Clone(i.Pending)
			if i.LastExit != nil {
				x := *i.LastExit
				j.LastExit = &x
			}
			q.Instances[n] = &j
		}
		out.Programs[name] = &q
	}
	return out
}
