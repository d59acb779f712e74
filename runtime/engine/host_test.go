package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// host plays keeper, kernel and store. Its clock is the bubble's.
type host struct {
	t  *testing.T
	mu sync.Mutex
	e  *Engine

	live map[reconcile.InstanceID]reconcile.RunID
	// dies is how long a process of a program lives; 0 is for ever.
	dies map[string]time.Duration
	// set is by how much the clock is said to have been set.
	set atomic.Int64
	// deaf programs need KILL.
	deaf   map[string]bool
	starts map[reconcile.InstanceID][]time.Time
	orders []reconcile.Order

	// What was recorded: it alone must make a new engine go on.
	instances map[reconcile.InstanceID]reconcile.Instance
	programs  map[string]reconcile.Program
	nextRun   reconcile.RunID
	events    []reconcile.Event
	published int
	calls     []string // of the current turn

	// seen is what the engine was told that the kernel says.
	seen map[reconcile.InstanceID]reconcile.Observation
}

func newHost(t *testing.T) *host {
	return &host{
		t: t, live: map[reconcile.InstanceID]reconcile.RunID{}, dies: map[string]time.Duration{}, deaf: map[string]bool{},
		starts: map[reconcile.InstanceID][]time.Time{}, instances: map[reconcile.InstanceID]reconcile.Instance{},
		programs: map[string]reconcile.Program{}, nextRun: 1,
	}
}

// run starts an engine on what the host has recorded, and returns its end.
func (h *host) run(w reconcile.World) (stop func()) {
	h.seen = map[reconcile.InstanceID]reconcile.Observation{}
	h.e = New(Config{Executor: h, Recorder: h, World: w, Containment: "sweep", ClockSet: func() time.Duration { return time.Duration(h.set.Swap(0)) }})
	ctx, cancel := context.WithCancel(context.Background())
	done, e := make(chan struct{}), h.e
	go func() {
		defer close(done)
		e.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// world is what a store would recover.
func (h *host) world() reconcile.World {
	w := reconcile.NewWorld()
	w.NextRun, w.Booting = h.nextRun, false
	for _, id := range h.ids() {
		i := h.instances[id]
		p := w.Programs[id.Program]
		if p == nil {
			r := h.programs[id.Program]
			p = &reconcile.Program{Name: id.Program}
			p.SetRoll(r.Roll())
			w.Programs[id.Program] = p
		}
		p.Instances = append(p.Instances, &i)
	}
	return w
}

func (h *host) ids() []reconcile.InstanceID {
	return slices.SortedFunc(maps.Keys(h.instances), reconcile.InstanceID.Compare)
}

func (h *host) Record(b reconcile.Batch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, "record")
	for _, i := range b.Changed {
		h.instances[i.ID] = copied(i)
	}
	for _, id := range b.Gone {
		delete(h.instances, id)
	}
	for _, p := range b.Programs {
		h.programs[p.Name] = *p
	}
	h.nextRun = b.NextRun
	h.events = append(h.events, b.Events...)
}

func copied(i *reconcile.Instance) reconcile.Instance {
	v := *i
	v.Ends, v.Pending = slices.Clone(i.Ends), maps.Clone(i.Pending)
	return v
}

func (h *host) Publish(b reconcile.Batch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, "publish")
	h.published += len(b.Events)
	if h.published > len(h.events) {
		h.t.Errorf("%d events are told, %d recorded", h.published, len(h.events))
	}
}

func (h *host) Do(orders []reconcile.Order) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, "do")
	for _, o := range orders {
		h.orders = append(h.orders, o)
		if do := h.doing()[o.Kind]; do != nil {
			do(o)
		}
	}
}

func (h *host) doing() map[reconcile.ActionKind]func(reconcile.Order) {
	return map[reconcile.ActionKind]func(reconcile.Order){
		reconcile.ActionStart: h.start,
		reconcile.ActionSignal: func(o reconcile.Order) {
			if !h.deaf[o.ID.Program] {
				h.end(o.ID, o.Run, reconcile.Exit{Code: -1, Signal: o.Signal}, time.Millisecond)
			}
		},
		reconcile.ActionKill: func(o reconcile.Order) {
			h.end(o.ID, o.Run, reconcile.Exit{Code: -1, Signal: spec.SIGKILL}, time.Millisecond)
		},
		reconcile.ActionPreflight: func(o reconcile.Order) {
			h.say(time.Millisecond, reconcile.Fact{Kind: reconcile.FactPreflight, ID: o.ID, Launch: o.Launch})
		},
		reconcile.ActionTune: func(o reconcile.Order) {
			h.say(time.Millisecond, reconcile.Fact{Kind: reconcile.FactTuned, ID: o.ID, Run: o.Run, Tuning: o.Tuning})
		},
	}
}

func (h *host) start(o reconcile.Order) {
	if old, ok := h.live[o.ID]; ok {
		h.t.Errorf("%s: run %d is to start while run %d lives", o.ID, o.Run, old)
	}
	if i := h.instances[o.ID]; i.Run != o.Run || i.State != reconcile.StateStarting {
		h.t.Errorf("%s: run %d is ordered before it is recorded: %+v", o.ID, o.Run, i)
	}
	if o.Program == nil {
		h.t.Errorf("%s is to start without a program", o.ID)
	}
	h.live[o.ID] = o.Run
	h.starts[o.ID] = append(h.starts[o.ID], time.Now())
	h.say(time.Millisecond, reconcile.Fact{Kind: reconcile.FactStarted, ID: o.ID, Run: o.Run, PID: 1000 + int(o.Run)})
	if d := h.dies[o.ID.Program]; d > 0 {
		h.end(o.ID, o.Run, reconcile.Exit{Code: 1}, time.Millisecond+d)
	}
}

// end lets a run end later, unless it has by then.
func (h *host) end(id reconcile.InstanceID, run reconcile.RunID, x reconcile.Exit, after time.Duration) {
	time.AfterFunc(after, func() {
		h.mu.Lock()
		if h.live[id] != run {
			h.mu.Unlock()
			return
		}
		delete(h.live, id)
		h.mu.Unlock()
		x.At = time.Now()
		h.tell(reconcile.Fact{Kind: reconcile.FactExited, ID: id, Run: run, At: x.At, Exit: &x})
	})
}

func (h *host) say(after time.Duration, f reconcile.Fact) {
	time.AfterFunc(after, func() {
		f.At = time.Now()
		h.tell(f)
	})
}

func (h *host) tell(f reconcile.Fact) {
	if err := h.e.Facts(context.Background(), []reconcile.Fact{f}); err != nil && !errors.Is(err, ErrStopped) {
		h.t.Error(err)
	}
}

// adopted is what a keeper tells a new control.
func (h *host) adopted() (facts []reconcile.Fact) {
	for _, id := range h.ids() {
		i := h.instances[id]
		switch run, ok := h.live[id]; {
		case ok && run == i.Run:
			facts = append(facts, reconcile.Fact{
				Kind: reconcile.FactAdopted, ID: id, Run: run, PID: 1000 + int(run), At: i.StartedAt, Launch: i.Launch, Tuning: i.Tuning, Generation: i.Generation,
			})
		case i.Alive():
			facts = append(facts, reconcile.Fact{Kind: reconcile.FactExited, ID: id, Run: i.Run, At: time.Now(), Exit: &reconcile.Exit{Code: 1, At: time.Now()}})
		}
	}
	return facts
}

func (h *host) desire(programs map[string]spec.Program) {
	h.t.Helper()
	d := Desired{Spec: spec.Spec{Programs: programs}, Generation: 1, Config: reconcile.ConfigView{State: "ok", Generation: 1}}
	if err := h.e.Desire(context.Background(), d); err != nil {
		h.t.Fatal(err)
	}
}

// takeOrders are those given since the last call.
func (h *host) takeOrders() []reconcile.Order {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.orders
	h.orders = nil
	return out
}

// inspect runs on the loop's goroutine, between two turns.
type inspect func(*loop)

func (f inspect) take(l *loop) { f(l) }

// between runs fn between two turns, when all is quiet; it may read everything.
func (h *host) between(fn func(l *loop)) {
	h.t.Helper()
	synctest.Wait()
	done := make(chan struct{})
	err := h.e.send(context.Background(), inspect(func(l *loop) {
		defer close(done)
		h.mu.Lock()
		defer h.mu.Unlock()
		fn(l)
	}))
	if err != nil {
		h.t.Fatal(err)
	}
	<-done
}

// check holds everything that is true whenever the engine rests.
func (h *host) check(programs map[string]spec.Program) {
	h.t.Helper()
	var bad string
	h.between(func(l *loop) { bad = h.wrong(l, programs) })
	if bad != "" {
		h.t.Fatal(bad)
	}
}

func (h *host) wrong(l *loop, programs map[string]spec.Program) string {
	if err := reconcile.Check(l.world); err != nil {
		return err.Error()
	}
	for _, check := range []func(*loop) string{h.wrongRecord, h.wrongPicture} {
		if bad := check(l); bad != "" {
			return bad
		}
	}
	if !l.wished || l.world.ShuttingDown {
		return ""
	}
	plan := reconcile.Diff(spec.Spec{Programs: programs}, l.world, time.Now())
	for _, c := range plan.Changes {
		if !c.Later && c.Verb != reconcile.VerbWait {
			return fmt.Sprintf("a look at everything finds more to do: %+v", c)
		}
	}
	if len(plan.Actions) > 0 {
		return fmt.Sprintf("a look at everything finds more to do: %+v", plan.Actions)
	}
	if wake := l.wakes.next(); !sameWake(wake, l) {
		return fmt.Sprintf("the timer is set to %v", wake)
	}
	return ""
}

// sameWake compares the timer with a look at every program.
func sameWake(got time.Time, l *loop) bool {
	var want time.Time
	for _, p := range l.world.Programs {
		if at := reconcile.Wake(p); want.IsZero() || !at.IsZero() && at.Before(want) {
			want = at
		}
	}
	return got.Equal(want)
}

func (h *host) wrongRecord(l *loop) string {
	n := 0
	for _, p := range l.world.Programs {
		for _, i := range p.Instances {
			n++
			if got := h.instances[i.ID]; !reflect.DeepEqual(got, copied(i)) {
				return fmt.Sprintf("%s is %+v\nrecorded is %+v", i.ID, *i, got)
			}
		}
		r := h.programs[p.Name]
		if len(p.Instances) > 0 && (r.Held != p.Held || r.Target != p.Target || r.Preflight != p.Preflight || r.Forced != p.Forced) {
			return fmt.Sprintf("%s has held %q, preflight %v, recorded is %q, %v", p.Name, p.Held, p.Preflight, r.Held, r.Preflight)
		}
	}
	if n != len(h.instances) || h.nextRun != l.world.NextRun {
		return fmt.Sprintf("%d instances are recorded of %d; next run %d of %d", len(h.instances), n, h.nextRun, l.world.NextRun)
	}
	return ""
}

// checkPicture compares the picture with one that is drawn from nothing.
func (h *host) wrongPicture(l *loop) string {
	v := h.e.View()
	names := map[string]bool{}
	for name := range l.world.Programs {
		names[name] = true
	}
	for name := range l.programs {
		names[name] = true
	}
	if len(v.Programs) != len(names) {
		return fmt.Sprintf("the picture shows %d programs of %d", len(v.Programs), len(names))
	}
	for n, got := range v.Programs {
		if n > 0 && v.Programs[n-1].Name >= got.Name {
			return fmt.Sprintf("%s comes after %s", got.Name, v.Programs[n-1].Name)
		}
		kept := l.gallery
		l.gallery = gallery{}
		want := l.draw(got.Name)
		l.gallery = kept
		for _, i := range want.Instances { // what the kernel said is nowhere else
			if o := h.seen[i.ID]; i.Alive() && o.Run == i.Run {
				i.Drift = o.Drift
			}
		}
		if !reflect.DeepEqual(got, want) {
			return fmt.Sprintf("the picture shows %s\nit is %s", pictured(got), pictured(want))
		}
	}
	return ""
}

func pictured(v *reconcile.ProgramView) string {
	s := fmt.Sprintf("%+v", *v)
	for _, i := range v.Instances {
		s += fmt.Sprintf("\n%+v", *i)
	}
	return s
}

func program(command string, instances int) spec.Program {
	p := spec.Defaults()
	p.Command, p.Instances = command, instances
	return p
}

// quietly lets a test read what the host knows; the host waits until resume.
func (h *host) quietly() (resume func()) {
	synctest.Wait()
	h.mu.Lock()
	return h.mu.Unlock
}

func (h *host) called() int {
	defer h.quietly()()
	return len(h.calls)
}

func (h *host) runOf(id reconcile.InstanceID) reconcile.RunID {
	defer h.quietly()()
	return h.live[id]
}
