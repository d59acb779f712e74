package engine

import (
	"iter"
	"maps"
	"reflect"
	"slices"
	"sort"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// loop is the state of whoever makes a turn: of the one who holds Engine.turning.
type loop struct {
	config  reconcile.ConfigView
	world   reconcile.World
	desired Desired
	// wished is set once there is desired state. Until then facts are taken in
	// and nothing follows from them: what was adopted is not stopped only
	// because nobody has said yet that it shall run.
	wished bool
	// programs are the desired ones by name; an unchanged one keeps its pointer.
	programs map[string]*spec.Program
	marks    map[string][]spec.Override // overrides by program
	// askers are the persons whose wish a program is as it is now; those of the
	// files are not here.
	askers  map[string]*spec.Requester
	wakes   *wakes
	exec    Executor
	rec     Recorder
	engine  *Engine
	now     func() time.Time
	witness Witness
	base    reconcile.View
	contain string

	// What this turn touched.
	dirty   map[string]bool               // programs to diff and to draw again
	moved   map[reconcile.InstanceID]bool // instances that may have changed
	touched []reconcile.InstanceID        // the same, in order
	// looked are instances whose observed values changed: what they are now. From
	// the next turn on the picture has them.
	looked  map[reconcile.InstanceID]reconcile.Observation
	redrawn bool // what the picture says beside programs changed
	events  []reconcile.Event
	orders  []reconcile.Order
	// answers are given at the end of the turn, when the picture is the new one:
	// who asked for something and looks, sees it.
	answers []func()

	clockSet func() time.Duration
	booted   time.Time     // by the clock that the loop goes by; zero: not known
	wasSet   time.Duration // by how much the clock was set before this turn

	observedAt time.Time
	gallery    gallery
	turns      uint64
	room       reconcile.Room
	// rolls are what was recorded of each program beside its instances.
	rolls map[string]*reconcile.Roll
}

func newLoop(c Config, e *Engine) *loop {
	l := &loop{
		world: c.World, wakes: newWakes(), exec: c.Executor, rec: c.Recorder, engine: e, base: c.View, contain: c.Containment,
		programs: map[string]*spec.Program{}, dirty: map[string]bool{}, moved: map[reconcile.InstanceID]bool{}, marks: map[string][]spec.Override{},
		looked: map[reconcile.InstanceID]reconcile.Observation{}, askers: map[string]*spec.Requester{}, rolls: map[string]*reconcile.Roll{},
		redrawn: true, now: c.Now, witness: c.Witness, clockSet: c.ClockSet, booted: c.Booted.Round(0),
	}
	if l.now == nil {
		l.now = time.Now
	}
	for name, p := range c.World.Programs {
		l.dirty[name] = true
		l.rolls[name] = new(p.Roll())
	}
	return l
}

func (l *loop) apply(f reconcile.Fact, now time.Time) {
	if l.witness != nil {
		l.witness.Fact(l.world, f)
	}
	w, events := l.room.Apply(l.world, f, now)
	l.world = w
	l.note(events)
	l.touch(f.ID)
}

// touch marks an instance, and so its program, as part of this turn.
func (l *loop) touch(id reconcile.InstanceID) {
	l.dirty[id.Program] = true
	if id.Index >= 0 && !l.moved[id] {
		l.moved[id] = true
		l.touched = append(l.touched, id)
	}
}

// touchEdited touches those of p to which it matters that something else is
// desired: start.min_uptime counts as it is now, and who stopped what is removed
// is not who starts it again.
func (l *loop) touchEdited(p *reconcile.Program, removed bool) {
	for _, i := range p.Instances {
		if i.State == reconcile.StateStarting || removed && i.State == reconcile.StateStopping {
			l.touch(i.ID)
		}
	}
}

func (l *loop) touchAll() {
	for name := range l.world.Programs {
		l.dirty[name] = true
	}
	for name := range l.programs {
		l.dirty[name] = true
	}
}

func (l *loop) order(actions []reconcile.Action) {
	l.orders = slices.Grow(l.orders, len(actions))
	for _, a := range actions {
		l.orders = append(l.orders, reconcile.Order{Action: a, Program: l.programs[a.ID.Program], Generation: l.world.Generation})
	}
}

// desire takes new desired state and marks the programs that it changes.
func (l *loop) desire(d Desired) {
	programs := make(map[string]*spec.Program, len(d.Spec.Programs))
	marks := map[string][]spec.Override{}
	for _, o := range d.Overrides {
		marks[o.Program] = append(marks[o.Program], o)
	}
	for name, p := range d.each() {
		old := l.programs[name]
		if old != nil && (old == p || reflect.DeepEqual(old, p)) {
			programs[name] = old
		} else {
			programs[name] = p
			l.changed(name, d.By)
			if old != nil {
				l.asked(name, old.Admin, p.Admin, d.By)
			}
		}
		if !reflect.DeepEqual(marks[name], l.marks[name]) {
			l.dirty[name] = true
		}
	}
	for name := range l.programs {
		if programs[name] == nil {
			l.changed(name, d.By)
		}
	}
	for name := range l.world.Programs {
		if programs[name] == nil {
			l.dirty[name] = true
		}
	}
	if maps.Equal(programs, d.Shared) {
		programs = d.Shared // the sender's, whom nobody changes either
	}
	d.Spec, d.Shared = spec.Spec{}, nil // programs hold it
	l.desired, l.programs, l.marks, l.config = d, programs, marks, d.Config
	l.redrawn = true // also where no program differs: the configuration does
	if !l.wished {
		l.wished = true
		l.touchAll()
	}
	l.world.Generation = d.Generation
	l.world.ShuttingDown = l.world.ShuttingDown || d.Ending
}

// changed notes that a program is to be what it was not, and who says so.
func (l *loop) changed(name string, by *spec.Requester) {
	l.dirty[name] = true
	if by != nil {
		l.askers[name] = by
	} else {
		delete(l.askers, name)
	}
}

// each goes through the desired programs.
func (d *Desired) each() iter.Seq2[string, *spec.Program] {
	return func(yield func(string, *spec.Program) bool) {
		for name := range d.Spec.Programs {
			p := d.Shared[name]
			if p == nil {
				p = new(d.Spec.Programs[name])
			}
			if !yield(name, p) {
				return
			}
		}
	}
}

// asked notes on each instance that becomes wanted up or down who wants it.
func (l *loop) asked(name string, before, after spec.Admin, by *spec.Requester) {
	p := l.world.Programs[name]
	if p == nil || reflect.DeepEqual(before, after) {
		return
	}
	for _, i := range p.Instances {
		if before.IsDown(i.ID.Index) != after.IsDown(i.ID.Index) {
			i.By = by
			l.touch(i.ID)
		}
	}
}

// turn lets Diff speak for every touched program, then records, acts, swaps the
// picture and tells: in that order.
func (l *loop) turn(now time.Time) {
	l.turns++
	for _, name := range l.wakes.due(now) {
		l.fire(name, now)
	}
	l.decide(now)
	batch := l.batch()
	if len(batch.Changed)+len(batch.Gone)+len(batch.Events)+len(batch.Programs) > 0 || batch.ClockSet != 0 {
		l.rec.Record(batch)
	}
	if len(l.orders) > 0 {
		l.exec.Do(l.orders)
	}
	if len(l.dirty) > 0 || l.redrawn {
		l.swap()
	}
	if len(batch.Events) > 0 {
		l.rec.Publish(batch)
	}
	for _, answer := range l.answers {
		answer()
	}
	l.forgetTurn()
}

// decide lets Diff speak, once there is something to compare with: nothing is
// stopped or started before the first desired state came, whatever facts come
// first. A shutdown needs none. The first time it speaks for everything, and
// with that a boot is over. Then it speaks for those whose turn may have come with
// what was found of others.
func (l *loop) decide(now time.Time) {
	if !l.wished && !l.world.ShuttingDown {
		return
	}
	names := l.dirtyNames()
	var moved []string
	if l.world.ShuttingDown { // those, too, that a program waits for no longer after this
		moved = reconcile.Moved(l.world, names)
	}
	for _, name := range names {
		l.diff(name, now)
	}
	l.world.Booting = false
	moved = append(moved, reconcile.Moved(l.world, names)...)
	slices.Sort(moved)
	for _, name := range slices.Compact(moved) {
		l.dirty[name] = true
		l.diff(name, now)
	}
}

// forgetTurn makes ready for the next turn. The lists that others were given
// are theirs now; the instances in a batch are not, and change from here on.
func (l *loop) forgetTurn() {
	l.events, l.orders, l.touched, l.answers, l.redrawn = nil, nil, nil, nil, false
	l.wasSet = 0
	l.dirty, l.moved, l.looked = emptied(l.dirty), emptied(l.moved), emptied(l.looked)
}

// afterwards has answer called at the end of the turn. It must not block.
func (l *loop) afterwards(answer func()) { l.answers = append(l.answers, answer) }

// fire turns the passed deadlines of a program into facts.
func (l *loop) fire(name string, now time.Time) {
	l.dirty[name] = true
	p := l.world.Programs[name]
	if p == nil {
		return
	}
	for _, id := range reconcile.Due(p, now) {
		l.apply(reconcile.Fact{Kind: reconcile.FactDeadline, ID: id, Run: runOf(p, id.Index), At: now}, now)
	}
}

func runOf(p *reconcile.Program, index int) reconcile.RunID {
	if i := p.Find(index); i != nil {
		return i.Run
	}
	return 0
}

func (l *loop) dirtyNames() []string {
	names := make([]string, 0, len(l.dirty))
	for name := range l.dirty {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// diff brings one program a step further toward what is desired of it.
func (l *loop) diff(name string, now time.Time) {
	desired := l.programs[name]
	if desired == nil && l.world.Programs[name] == nil {
		return
	}
	plan := reconcile.DiffProgram(name, desired, l.world, now)
	if l.witness != nil {
		l.witness.Plan(l.world, name, desired, plan)
	}
	plan.By = l.askers[name]
	if p := l.world.Programs[name]; p != nil && p.Spec != desired {
		l.touchEdited(p, desired == nil && p.Target != "")
	}
	w, events := l.room.Commit(l.world, plan, now)
	l.world = w
	l.take(events)
	l.order(plan.Actions)
	for _, c := range plan.Changes {
		if !c.Later {
			l.touch(c.ID)
		}
	}
	p := l.world.Programs[name]
	if p == nil {
		delete(l.askers, name) // gone, and so is what was wanted of it
	}
	l.wakes.set(name, reconcile.Wake(p))
}

// batch lists what this turn changed, in the order in which it did.
func (l *loop) batch() reconcile.Batch {
	b := reconcile.Batch{Events: l.events, NextRun: l.world.NextRun, ClockSet: l.wasSet}
	for _, name := range l.dirtyNames() {
		if p := l.rolled(name); p != nil {
			b.Programs = append(b.Programs, p)
		}
	}
	for _, id := range l.touched {
		if i := l.instance(id); i != nil {
			b.Changed = append(b.Changed, i)
		} else {
			b.Gone = append(b.Gone, id)
		}
	}
	return b
}

// rolled returns a program whose roll changed. A hold that is over frees all
// instances that held, and neither an event nor a change names them.
func (l *loop) rolled(name string) *reconcile.Program {
	p, old := l.world.Programs[name], reconcile.Roll{}
	if r := l.rolls[name]; r != nil {
		old = *r
	}
	if p == nil {
		delete(l.rolls, name)
		if old == (reconcile.Roll{}) {
			return nil
		}
		return &reconcile.Program{Name: name}
	}
	now := p.Roll()
	if now == old {
		return nil
	}
	l.rolls[name] = new(now)
	if old.Held != "" && now.Held != old.Held {
		for _, i := range p.Instances {
			l.touch(i.ID)
		}
	}
	return p
}

func (l *loop) instance(id reconcile.InstanceID) *reconcile.Instance {
	if p := l.world.Programs[id.Program]; p != nil {
		return p.Find(id.Index)
	}
	return nil
}
