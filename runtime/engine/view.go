package engine

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// gallery holds the newest picture of each program, sorted by name: a turn
// copies the list of pointers, and draws only what it touched.
type gallery struct {
	views      []*reconcile.ProgramView
	generation uint64 // that all of them show
}

// place is where a name is in views, or would be.
func (g *gallery) place(name string) (n int, ok bool) {
	return slices.BinarySearchFunc(g.views, name, func(v *reconcile.ProgramView, name string) int { return strings.Compare(v.Name, name) })
}

func (g *gallery) get(name string) *reconcile.ProgramView {
	if n, ok := g.place(name); ok {
		return g.views[n]
	}
	return nil
}

func (g *gallery) instance(id reconcile.InstanceID) *reconcile.InstanceView {
	if p := g.get(id.Program); p != nil {
		return p.Instance(id.Index)
	}
	return nil
}

// merge puts new pictures in place of the old ones, adds those of new names
// and takes out those that are nil.
func (g *gallery) merge(drawn map[string]*reconcile.ProgramView) {
	sorted := true
	for name, v := range drawn {
		n, ok := g.place(name)
		if ok && v != nil {
			g.views[n] = v
		}
		sorted = sorted && ok == (v != nil)
	}
	if sorted {
		return
	}
	kept := make([]*reconcile.ProgramView, 0, len(g.views)+len(drawn))
	for _, v := range g.views {
		if now, ok := drawn[v.Name]; !ok || now != nil {
			kept = append(kept, v)
		}
	}
	for name, v := range drawn {
		if _, ok := g.place(name); !ok && v != nil {
			kept = append(kept, v)
		}
	}
	slices.SortFunc(kept, func(a, b *reconcile.ProgramView) int { return strings.Compare(a.Name, b.Name) })
	g.views = kept
}

// follow has every picture say which configuration its program is held to now:
// the one that was accepted last, whether or not it says anything new of it.
func (g *gallery) follow(generation uint64) {
	if g.generation == generation {
		return // what was drawn since shows it, too
	}
	g.generation = generation
	for n, old := range g.views {
		if old.Generation != generation {
			v := *old
			v.Generation = generation
			g.views[n] = &v
		}
	}
}

// swap puts a new picture in place of the old one. Programs that this turn did
// not touch keep their pointer as long as the configuration is the same, and
// instances that did not move keep theirs.
func (l *loop) swap() {
	drawn := make(map[string]*reconcile.ProgramView, len(l.dirty))
	for name := range l.dirty {
		drawn[name] = l.draw(name)
	}
	for id := range l.looked {
		if _, ok := drawn[id.Program]; !ok {
			drawn[id.Program] = l.draw(id.Program)
		}
	}
	l.gallery.merge(drawn)
	l.gallery.follow(l.desired.Generation)
	v := l.base
	v.Config, v.ObservedAt = l.config, l.observedAt
	v.Programs = slices.Clone(l.gallery.views)
	old := l.engine.picture.Swap(&picture{&v, make(chan struct{})})
	if old != nil {
		close(old.next)
	}
}

// draw makes the picture of one program anew; nil is one that nobody wants and
// nothing is left of.
func (l *loop) draw(name string) *reconcile.ProgramView {
	p := l.world.Programs[name]
	want, defined := l.programs[name]
	if p == nil && !defined {
		return nil
	}
	v := &reconcile.ProgramView{Name: name, Defined: defined, Overrides: l.marks[name], Generation: l.desired.Generation}
	v.Spec = shownSpec(p, want)
	if p != nil {
		v.Held = p.Held
		v.Instances = l.drawInstances(p, v, l.gallery.get(name))
		v.Flapping = slices.ContainsFunc(p.Instances, func(i *reconcile.Instance) bool { return i.Flapping })
	}
	return v
}

// shownSpec is what is desired of a program, or was when it was last.
func shownSpec(p *reconcile.Program, want *spec.Program) *spec.Program {
	switch {
	case want != nil:
		return want
	case p != nil && p.Spec != nil:
		return p.Spec
	}
	return &spec.Program{}
}

// drawInstances walks the old and the new list side by side: both are sorted.
func (l *loop) drawInstances(p *reconcile.Program, v, old *reconcile.ProgramView) []*reconcile.InstanceView {
	var kept []*reconcile.InstanceView
	if old != nil {
		kept = old.Instances
	}
	out := make([]*reconcile.InstanceView, len(p.Instances))
	for n, i := range p.Instances {
		for len(kept) > 0 && kept[0].ID.Index < i.ID.Index {
			kept = kept[1:]
		}
		down := v.Spec.Admin.IsDown(i.ID.Index)
		var before *reconcile.InstanceView
		if len(kept) > 0 && kept[0].ID == i.ID {
			before = kept[0]
		}
		_, looked := l.looked[i.ID]
		if before != nil && before.Down == down && !l.moved[i.ID] && !looked {
			out[n] = before
			continue
		}
		out[n] = l.drawInstance(i, down, before)
	}
	return out
}

// drawInstance makes the picture of one instance anew; before is the old one, or
// nil.
func (l *loop) drawInstance(i *reconcile.Instance, down bool, before *reconcile.InstanceView) *reconcile.InstanceView {
	iv := &reconcile.InstanceView{Instance: *i, Down: down, Containment: l.contain}
	iv.Ends = slices.Clone(i.Ends)
	if !i.Alive() {
		return iv
	}
	if o, ok := l.looked[i.ID]; ok && o.Run == i.Run {
		iv.Observed, iv.Drift, iv.Output = o.Observed, o.Drift, o.Output
	} else if before != nil && before.Run == i.Run {
		iv.Observed, iv.Drift, iv.Output = before.Observed, before.Drift, before.Output
	}
	return iv
}

// observe changes the picture only: what the kernel says is asked anew after a
// restart, and needs no record. Mostly it says what it said before.
func (l *loop) observe(o reconcile.Observation) {
	if i := l.instance(o.ID); i == nil || i.Run != o.Run {
		return
	}
	if v := l.gallery.instance(o.ID); v != nil && shows(v, &o) {
		delete(l.looked, o.ID)
	} else {
		l.looked[o.ID] = o
	}
}

// shows reports whether a picture shows an observation already.
func shows(v *reconcile.InstanceView, o *reconcile.Observation) bool {
	same := func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }
	return v.Run == o.Run && v.Output == o.Output && maps.Equal(v.Drift, o.Drift) && maps.EqualFunc(v.Observed, o.Observed, same)
}
