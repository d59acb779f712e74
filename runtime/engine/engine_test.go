package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

func TestHoursOfACrashLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		defer h.run(reconcile.NewWorld())()
		h.dies["web"] = 100 * time.Millisecond
		programs := map[string]spec.Program{"web": program("/bin/web", 1), "ok": program("/bin/ok", 2)}
		h.desire(programs)
		for range 10 {
			time.Sleep(time.Hour)
			h.check(programs)
		}
		web := reconcile.InstanceID{Program: "web"}
		defer h.quietly()()
		starts := h.starts[web]
		if n := len(starts); n < 10*3600/34 || n > 10*3600/29 {
			t.Errorf("%d starts in ten hours; with 30 s and 10 %% of jitter between them there should be about 1140", n)
		}
		for n := 1; n < 6; n++ { // 0.5 s, 1, 2, 4, 8, each with at most a tenth more
			want := 500 * time.Millisecond << (n - 1)
			if gap := starts[n].Sub(starts[n-1]) - 101*time.Millisecond; gap < want || gap > want+want/10+5*time.Millisecond {
				t.Errorf("start %d came after %v of rest instead of %v", n, gap, want)
			}
		}
		if i := h.instances[web]; i.Starts != len(starts) || i.Attempt < 1000 || !i.LastExit.At.Equal(i.Ends[len(i.Ends)-1]) {
			t.Errorf("web is %+v", i)
		}
		for _, index := range []int{0, 1} {
			if n := len(h.starts[reconcile.InstanceID{Program: "ok", Index: index}]); n != 1 {
				t.Errorf("ok/%d was started %d times", index, n)
			}
		}
	})
}

// Nothing happens while nothing happens: no turn, no timer.
func TestIdleIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		defer h.run(reconcile.NewWorld())()
		programs := map[string]spec.Program{}
		for n := range 100 {
			programs[fmt.Sprint("p", n)] = program("/bin/x", 10)
		}
		h.desire(programs)
		time.Sleep(time.Minute)
		h.check(programs)
		before, after, live, view := uint64(0), uint64(0), 0, h.e.View()
		h.between(func(l *loop) { before = l.turns })
		time.Sleep(7 * 24 * time.Hour)
		h.between(func(l *loop) { after, live = l.turns, len(h.live) })
		if after != before+1 || h.e.View() != view { // one is that of the first question
			t.Errorf("%d turns in an idle week", after-before-1)
		}
		if live != 1000 {
			t.Errorf("%d of 1000 live", live)
		}
	})
}

// The way of small steps leads where a look at everything leads, for the
// record and the picture too; and a control that dies on the way goes on.
func TestSmallStepsEqualTheWhole(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &wander{host: newHost(t), r: rand.New(rand.NewPCG(seed, 1)), programs: map[string]spec.Program{}}
				w.stop = w.run(reconcile.NewWorld())
				w.desire(w.programs)
				for range 120 {
					w.step()
					w.check(w.programs)
				}
				w.quiet()
				w.stop()
			})
		})
	}
}

// wander takes random steps.
type wander struct {
	*host
	r        *rand.Rand
	programs map[string]spec.Program
	stop     func()
}

func (w *wander) name() string { return fmt.Sprint("p", w.r.IntN(4)) }

func (w *wander) step() {
	steps := []func(){w.edit, w.edit, w.remove, w.command, w.fate, w.pass, w.pass, w.pass, w.observe, w.die}
	steps[w.r.IntN(len(steps))]()
}

func (w *wander) edit() {
	p := program(fmt.Sprint("/bin/", w.r.IntN(2)), w.r.IntN(5))
	p.Restart.Delay = spec.Milliseconds(w.r.IntN(3) * 200)
	nice := w.r.IntN(3)
	p.Nice = &nice
	p.Admin.Down = w.r.IntN(5) == 0
	name := w.name()
	if other := w.name(); other < name && w.r.IntN(2) == 0 {
		p.Start.After = map[string]string{other: spec.AfterRunning}
	}
	w.programs[name] = p
	w.desire(w.programs)
}

func (w *wander) remove() {
	delete(w.programs, w.name())
	w.desire(w.programs)
}

func (w *wander) command() {
	kinds := []reconcile.CommandKind{reconcile.CommandRestart, reconcile.CommandStart, reconcile.CommandSignal, reconcile.CommandForce}
	c := reconcile.Command{Kind: kinds[w.r.IntN(len(kinds))], Signal: 1}
	for n := range w.r.IntN(4) {
		c.Targets = append(c.Targets, reconcile.InstanceID{Program: w.name(), Index: n})
	}
	if _, err := w.e.Command(context.Background(), c); err != nil {
		w.t.Fatal(err)
	}
}

// fate changes how long processes live and whether they listen.
func (w *wander) fate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := w.name()
	w.dies[name] = time.Duration(w.r.IntN(4)) * 300 * time.Millisecond
	w.deaf[name] = w.r.IntN(4) == 0
}

func (w *wander) pass() { time.Sleep(time.Duration(w.r.IntN(5000)) * time.Millisecond) }

func (w *wander) observe() {
	id := reconcile.InstanceID{Program: w.name(), Index: w.r.IntN(3)}
	w.mu.Lock()
	run := w.live[id]
	w.mu.Unlock()
	o := reconcile.Observation{ID: id, Run: run, Drift: map[string]string{"nice": fmt.Sprint("is ", w.r.IntN(20))}}
	w.seen[id] = o
	if err := w.e.Observe(context.Background(), time.Now(), []reconcile.Observation{o}); err != nil {
		w.t.Fatal(err)
	}
}

// die ends the engine and starts another one on what was recorded.
func (w *wander) die() {
	w.stop()
	time.Sleep(time.Duration(w.r.IntN(500)) * time.Millisecond)
	synctest.Wait()
	w.mu.Lock()
	world, facts := w.world(), w.adopted()
	w.mu.Unlock()
	w.stop = w.run(world)
	if err := w.e.Facts(context.Background(), facts); err != nil {
		w.t.Fatal(err)
	}
	w.pass()
	w.desire(w.programs)
}

// quiet lets everything come to rest, and wants it to be what is desired.
func (w *wander) quiet() {
	w.mu.Lock()
	clear(w.dies)
	clear(w.deaf)
	w.mu.Unlock()
	for range 20 {
		time.Sleep(time.Minute)
		w.check(w.programs)
	}
	defer w.quietly()()
	want, may := 0, 0 // how many shall live, and how many more may: those that wait, unless they lived before
	for name, p := range w.programs {
		if p.Admin.Down {
			continue
		}
		if w.lacks(name) {
			may += p.Instances
			continue
		}
		for n := range p.Instances {
			id := reconcile.InstanceID{Program: name, Index: n}
			want++
			if i := w.instances[id]; w.live[id] == 0 || i.State != reconcile.StateRunning && w.host.programs[name].Held == "" {
				w.t.Errorf("%s does not run: %+v", id, i)
			}
		}
	}
	if len(w.live) < want || len(w.live) > want+may {
		w.t.Errorf("%d live, %d shall", len(w.live), want)
	}
}

// lacks reports whether what a program waits for is not there, and will not come.
func (w *wander) lacks(name string) bool {
	for other := range w.programs[name].Start.After {
		p, ok := w.programs[other]
		if !ok || p.Admin.Down || p.Instances == 0 {
			return true
		}
		for n := range p.Instances {
			if i := w.instances[reconcile.InstanceID{Program: other, Index: n}]; i.State != reconcile.StateRunning {
				return true
			}
		}
	}
	return false
}

func TestPersistThenActThenTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		defer h.run(reconcile.NewWorld())()
		h.desire(map[string]spec.Program{"web": program("/bin/web", 3)})
		// Desire returns at the end of its turn: these are its calls. host.start
		// has seen that each run was recorded before it was ordered.
		defer h.quietly()()
		if !slices.Equal(h.calls, []string{"record", "do", "publish"}) {
			t.Errorf("the turn was %v", h.calls)
		}
		if v := h.e.View(); len(v.Programs) != 1 || len(v.Programs[0].Instances) != 3 {
			t.Error("the picture does not show what Desire did")
		}
	})
}

// A control that restarts takes over what lives, and touches nothing: neither
// before the desired state is there, however long that takes, nor after.
func TestANewControlTouchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		stop := h.run(reconcile.NewWorld())
		programs := map[string]spec.Program{"web": program("/bin/web", 5), "db": program("/bin/db", 1)}
		h.desire(programs)
		time.Sleep(time.Minute)
		stop()
		h.takeOrders()
		before, world := named(h.live), h.world()

		defer h.run(world)()
		if err := h.e.Facts(context.Background(), h.adopted()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if o := h.takeOrders(); len(o) > 0 {
			t.Fatalf("before anything is desired: %+v", o)
		}
		h.desire(programs)
		time.Sleep(time.Hour)
		h.check(programs)
		if o := h.takeOrders(); len(o) > 0 {
			t.Errorf("with the same desired: %+v", o)
		}
		defer h.quietly()()
		if !reflect.DeepEqual(before, named(h.live)) {
			t.Errorf("%v live, %v did", h.live, before)
		}
	})
}

func named(m map[reconcile.InstanceID]reconcile.RunID) map[string]reconcile.RunID {
	out := map[string]reconcile.RunID{}
	for id, run := range m {
		out[id.String()] = run
	}
	return out
}

// What ended while nobody was desired yet comes back once it is, and by then
// only once.
func TestAnExitBeforeTheFirstDesire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		stop := h.run(reconcile.NewWorld())
		programs := map[string]spec.Program{"web": program("/bin/web", 2)}
		h.desire(programs)
		time.Sleep(time.Minute)
		stop()
		h.takeOrders()
		dead := reconcile.InstanceID{Program: "web", Index: 1}
		delete(h.live, dead)

		defer h.run(h.world())()
		if err := h.e.Facts(context.Background(), h.adopted()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if o := h.takeOrders(); len(o) > 0 {
			t.Fatalf("before anything is desired: %+v", o)
		}
		h.desire(programs)
		time.Sleep(time.Minute)
		h.check(programs)
		o := h.takeOrders()
		if len(o) != 1 || o[0].Kind != reconcile.ActionStart || o[0].ID != dead {
			t.Errorf("ordered %+v", o)
		}
		defer h.quietly()()
		if i := h.instances[dead]; i.StartCause != reconcile.CauseCrash {
			t.Errorf("it started because of %q", i.StartCause)
		}
	})
}

func TestBootingEndsWithTheFirstLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		defer h.run(reconcile.NewWorld())()
		if err := h.e.SetConfig(context.Background(), reconcile.ConfigView{State: "rejected"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		h.between(func(l *loop) {
			if !l.world.Booting {
				t.Error("the boot is over before anything was desired")
			}
		})
		h.desire(map[string]spec.Program{"web": program("/bin/web", 1)})
		h.desire(map[string]spec.Program{"web": program("/bin/web", 2)})
		defer h.quietly()()
		for index, want := range []reconcile.Cause{reconcile.CauseBoot, reconcile.CauseScale} {
			if i := h.instances[reconcile.InstanceID{Program: "web", Index: index}]; i.StartCause != want {
				t.Errorf("web/%d started because of %q, not %q", index, i.StartCause, want)
			}
		}
	})
}

func TestASlowWaiterHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		defer h.run(reconcile.NewWorld())()
		h.dies["web"] = 100 * time.Millisecond
		h.desire(map[string]spec.Program{"web": program("/bin/web", 1)})
		seen, done := 0, make(chan struct{})
		go func() {
			defer close(done)
			_, err := h.e.Wait(context.Background(), func(*reconcile.View) bool {
				seen++
				time.Sleep(time.Hour)
				return seen == 3
			})
			if err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(10 * time.Minute)
		resume := h.quietly()
		if n := len(h.starts[reconcile.InstanceID{Program: "web"}]); n < 15 {
			t.Errorf("%d starts while somebody looked at the picture", n)
		}
		resume()
		<-done
	})
}

func TestWaitSeesWhatComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		stop := h.run(reconcile.NewWorld())
		running := func(v *reconcile.View) bool {
			return len(v.Programs) == 1 && len(v.Programs[0].Instances) == 2 && v.Programs[0].Instances[1].State == reconcile.StateRunning
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := h.e.Wait(ctx, running); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait for what does not come: %v", err)
		}
		h.desire(map[string]spec.Program{"web": program("/bin/web", 2)})
		if v, err := h.e.Wait(context.Background(), running); err != nil || !running(v) {
			t.Errorf("Wait: %v", err)
		}
		stop()
		if _, err := h.e.Wait(context.Background(), func(*reconcile.View) bool { return false }); !errors.Is(err, ErrStopped) {
			t.Errorf("Wait on a stopped engine: %v", err)
		}
	})
}

func TestShutdownStopsAllAndThenNothingIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		stop := h.run(reconcile.NewWorld())
		h.dies["web"] = time.Second
		h.deaf["db"] = true
		h.desire(map[string]spec.Program{"web": program("/bin/web", 3), "db": program("/bin/db", 1)})
		time.Sleep(5 * time.Second)
		ctx := context.Background()
		if _, err := h.e.Command(ctx, reconcile.Command{Kind: reconcile.CommandShutdown}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err := h.e.Wait(ctx, func(v *reconcile.View) bool {
			for _, p := range v.Programs {
				if slices.ContainsFunc(p.Instances, func(i *reconcile.InstanceView) bool { return i.Alive() }) {
					return false
				}
			}
			return true
		})
		if took := time.Since(began); err != nil || took < 10*time.Second || took > 11*time.Second {
			t.Errorf("the deaf one takes the stop timeout of 10 s; it took %v, %v", took, err)
		}
		time.Sleep(time.Hour)
		stop()
		if len(h.live) > 0 {
			t.Errorf("%v live", h.live)
		}
		for name, err := range map[string]error{
			"Facts": h.e.Facts(ctx, nil), "Desire": h.e.Desire(ctx, Desired{}), "SetConfig": h.e.SetConfig(ctx, reconcile.ConfigView{}), "Observe": h.e.Observe(ctx, began, nil),
		} {
			// The inbox still has room: what is sent is either refused or never
			// answered, but nobody waits for ever.
			if name != "Facts" && name != "SetConfig" && !errors.Is(err, ErrStopped) {
				t.Errorf("%s on a stopped engine: %v", name, err)
			}
		}
		if _, err := h.e.Command(ctx, reconcile.Command{}); !errors.Is(err, ErrStopped) {
			t.Errorf("Command: %v", err)
		}
		if _, err := h.e.Plan(ctx, spec.Spec{}); !errors.Is(err, ErrStopped) {
			t.Errorf("Plan: %v", err)
		}
	})
}

// The end of one program's wait is the turn in which another gets there; at the
// end of all the order is the other way round.
func TestTheTurnOfThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		stop := h.run(reconcile.NewWorld())
		defer stop()
		programs := map[string]spec.Program{"a": program("/bin/a", 2), "m": program("/bin/m", 1), "z": program("/bin/z", 3)}
		for name, other := range map[string]string{"a": "m", "m": "z"} {
			p := programs[name]
			p.Start.After = map[string]string{other: spec.AfterRunning}
			programs[name] = p
		}
		h.desire(programs)
		lives := func(want map[string]int) {
			t.Helper()
			h.check(programs)
			defer h.quietly()()
			got := map[string]int{}
			for id := range h.live {
				got[id.Program]++
			}
			if !maps.Equal(got, want) {
				t.Errorf("%v live, want %v", got, want)
			}
		}
		time.Sleep(500 * time.Millisecond)
		lives(map[string]int{"z": 3})
		v := h.e.View()
		if i := v.Programs[0].Instances[1]; i.Waits != "m" || i.State != reconcile.StateExited {
			t.Errorf("a/1 is %v and waits for %q", i.State, i.Waits)
		}
		time.Sleep(time.Second)
		lives(map[string]int{"z": 3, "m": 1})
		time.Sleep(time.Second)
		lives(map[string]int{"z": 3, "m": 1, "a": 2})
		h.takeOrders()
		for _, name := range []string{"a", "m", "z"} {
			h.dies[name] = time.Second
		}
		if _, err := h.e.Command(context.Background(), reconcile.Command{Kind: reconcile.CommandShutdown}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		lives(map[string]int{})
		var order []string
		for _, o := range h.takeOrders() {
			if o.Kind == reconcile.ActionSignal {
				order = append(order, o.ID.Program)
			}
		}
		if got := fmt.Sprint(order); got != "[a a m z z z]" {
			t.Errorf("they were stopped in the order %s", got)
		}
	})
}

// Plan is what Desire then does, and changes nothing itself.
func TestPlanForetellsAndChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		defer h.run(reconcile.NewWorld())()
		h.desire(map[string]spec.Program{"web": program("/bin/web", 3), "db": program("/bin/db", 1), "old": program("/bin/old", 2)})
		time.Sleep(time.Minute)
		h.check(map[string]spec.Program{"web": program("/bin/web", 3), "db": program("/bin/db", 1), "old": program("/bin/old", 2)})
		h.takeOrders()
		next := map[string]spec.Program{"web": program("/bin/web", 5), "db": program("/bin/db2", 1), "new": program("/bin/new", 1)}
		records, view := h.called(), h.e.View()
		first, err := h.e.Plan(context.Background(), spec.Spec{Programs: next})
		if err != nil {
			t.Fatal(err)
		}
		second, _ := h.e.Plan(context.Background(), spec.Spec{Programs: next})
		if !reflect.DeepEqual(first.Changes, second.Changes) {
			t.Errorf("two plans differ:\n%+v\n%+v", first.Changes, second.Changes)
		}
		synctest.Wait()
		if h.called() != records || h.e.View() != view || len(h.takeOrders()) > 0 {
			t.Error("a plan recorded, drew or did something")
		}
		h.desire(next)
		var got, want []string
		for _, o := range h.takeOrders() {
			got = append(got, fmt.Sprint(o.Kind, o.ID, o.Run, o.Signal))
		}
		for _, a := range first.Actions {
			want = append(want, fmt.Sprint(a.Kind, a.ID, a.Run, a.Signal))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) || len(want) == 0 {
			t.Errorf("foretold %v\ndone     %v", want, got)
		}
	})
}

// Who is untouched keeps the pointers of its picture: encoders cache by them.
func TestUntouchedKeepsItsPicture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		defer h.run(reconcile.NewWorld())()
		programs := map[string]spec.Program{"a": program("/bin/a", 2), "b": program("/bin/b", 3)}
		h.desire(programs)
		time.Sleep(time.Minute)
		before := h.e.View()
		resume := h.quietly()
		h.end(reconcile.InstanceID{Program: "b", Index: 1}, h.live[reconcile.InstanceID{Program: "b", Index: 1}], reconcile.Exit{Code: 1}, 0)
		resume()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		after := h.e.View()
		if before == after || before.Programs[0] != after.Programs[0] || before.Programs[1] == after.Programs[1] {
			t.Error("a is redrawn, or b is not")
		}
		for n, same := range []bool{true, false, true} {
			if got := before.Programs[1].Instances[n] == after.Programs[1].Instances[n]; got != same {
				t.Errorf("b/%d keeps its picture: %t", n, got)
			}
		}
		if before.Programs[1].Instances[1].State != reconcile.StateRunning {
			t.Error("an old picture changed")
		}
	})
}

// An edit of min_uptime shows in the picture of who is starting, and holds.
func TestMinUptimeCountsAsItIsNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		defer h.run(reconcile.NewWorld())()
		web := program("/bin/web", 1)
		web.Start.MinUptime = spec.Seconds(3600)
		h.desire(map[string]spec.Program{"web": web})
		time.Sleep(time.Second)
		web.Start.MinUptime = spec.Seconds(5)
		h.desire(map[string]spec.Program{"web": web})
		synctest.Wait()
		if i := h.e.View().Programs[0].Instances[0]; i.State != reconcile.StateStarting || !i.Until.Equal(i.StartedAt.Add(5*time.Second)) {
			t.Errorf("it is %v until %v, started at %v", i.State, i.Until, i.StartedAt)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if i := h.e.View().Programs[0].Instances[0]; i.State != reconcile.StateRunning {
			t.Errorf("it is %v", i.State)
		}
	})
}

// New files that say of each program what the old ones said are in force at once
// all the same: the picture says so, and what was refused before is mended.
func TestTheConfigurationIsShownThoughNoProgramChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		defer h.run(reconcile.NewWorld())()
		programs := map[string]spec.Program{"web": program("/bin/web", 2)}
		h.desire(programs)
		time.Sleep(time.Minute)
		ctx := context.Background()
		if err := h.e.SetConfig(ctx, reconcile.ConfigView{State: "rejected", Generation: 1}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // else both are one turn
		if c := h.e.View().Config; c.State != "rejected" {
			t.Errorf("the picture says %+v", c)
		}
		before := h.e.View().Programs[0].Instances
		d := Desired{Spec: spec.Spec{Programs: programs}, Generation: 2, Config: reconcile.ConfigView{State: "ok", Generation: 2}}
		if err := h.e.Desire(ctx, d); err != nil {
			t.Fatal(err)
		}
		if c := h.e.View().Config; c.State != "ok" || c.Generation != 2 {
			t.Errorf("the picture says %+v", c)
		}
		after := h.e.View().Programs[0]
		if after.Generation != 2 {
			t.Errorf("a program is held to generation %d, want 2", after.Generation)
		}
		if !slices.Equal(after.Instances, before) {
			t.Error("instances are drawn again that are as they were")
		}
	})
}

// Observed values are in the picture and not in the record.
func TestObservedValuesAreShownNotRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		defer h.run(reconcile.NewWorld())()
		h.desire(map[string]spec.Program{"web": program("/bin/web", 2)})
		time.Sleep(time.Minute)
		records := h.called()
		id := reconcile.InstanceID{Program: "web", Index: 1}
		list := []reconcile.Observation{
			{ID: id, Run: h.runOf(id), Drift: map[string]string{"nice": "is 3"}},
			{ID: reconcile.InstanceID{Program: "web"}, Run: 99, Drift: map[string]string{"nice": "of another run"}},
		}
		if err := h.e.Observe(context.Background(), time.Now(), list); err != nil {
			t.Fatal(err)
		}
		v := h.e.View()
		if !v.ObservedAt.Equal(time.Now()) || v.Programs[0].Instances[1].Drift["nice"] != "is 3" || v.Programs[0].Instances[0].Drift != nil {
			t.Errorf("the picture shows %+v", v.Programs[0].Instances)
		}
		if h.called() != records {
			t.Error("an observation was recorded")
		}
		if err := h.e.Observe(context.Background(), time.Now(), list); err != nil {
			t.Fatal(err)
		}
		if h.e.View().Programs[0] != v.Programs[0] {
			t.Error("what is as it was is drawn again")
		}
		h.desire(map[string]spec.Program{"web": program("/bin/web", 3)})
		h.end(reconcile.InstanceID{Program: "web"}, h.runOf(reconcile.InstanceID{Program: "web"}), reconcile.Exit{Code: 1}, 0)
		synctest.Wait()
		if got := h.e.View().Programs[0].Instances[1].Drift["nice"]; got != "is 3" {
			t.Errorf("after others have changed the picture shows %q", got)
		}
		h.end(id, h.runOf(id), reconcile.Exit{Code: 1}, 0)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := h.e.View().Programs[0].Instances[1]; got.State != reconcile.StateRunning || got.Drift != nil {
			t.Errorf("of the next run the picture shows %v, drift %v", got.State, got.Drift)
		}
	})
}

func TestWhatIsDueAgainAndAgainIsSlowedDown(t *testing.T) {
	now := time.Unix(1000, 0)
	var p pacer
	if _, ok := p.wait(time.Time{}, now); ok {
		t.Error("no deadline sets the timer")
	}
	if d, ok := p.wait(now.Add(time.Second), now); !ok || d != time.Second {
		t.Errorf("a second away is %v", d)
	}
	for range dueAgain {
		if d, ok := p.wait(now, now); !ok || d != 0 {
			t.Fatalf("what is due waits %v", d)
		}
	}
	if d, _ := p.wait(now, now); d != dueRest {
		t.Errorf("what is due for ever waits %v", d)
	}
	p.wait(now.Add(time.Second), now)
	if d, _ := p.wait(now, now); d != 0 {
		t.Errorf("after that, what is due waits %v", d)
	}
}
