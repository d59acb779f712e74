package engine

import (
	"slices"
	"sort"

	"github.com/procnanny/procnanny/reconcile"
)

// swap puts a new picture in place of the old one. Programs that this turn did
// not touch keep their pointer, and so do instances that did not move.
func (l *loop) swap() {
	for name := range l.dirty {
		l.draw(name)
	}
	if l.resort {
		l.names = l.names[:0]
		for name := range l.views {
			l.names = append(l.names, name)
		}
		sort.Strings(l.names)
		l.resort = false
	}
	v := l.base
	v.Config, v.ObservedAt = l.config, l.observedAt
	v.Programs = make([]*reconcile.ProgramView, len(l.names))
	for i, name := range l.names {
		v.Programs[i] = l.views[name]
	}
	old := l.engine.picture.Swap(&picture{&v, make(chan struct{})})
	if old != nil {
		close(old.next)
	}
}

// draw makes the picture of one program anew.
func (l *loop) draw(name string) {
	p := l.world.Programs[name]
	want, defined := l.programs[name]
	old := l.views[name]
	if p == nil && !defined {
		delete(l.views, name)
		l.resort = l.resort || old != nil
		return
	}
	l.resort = l.resort || old == nil
	v := &reconcile.ProgramView{Name: name, Defined: defined, Overrides: l.marks[name], Generation: l.desired.Generation}
	if defined {
		v.Spec = *want
	}
	if p != nil {
		if !defined && p.Spec != nil {
			v.Spec = *p.Spec
		}
		v.Held = p.Held
		v.Instances = l.drawInstances(p, v, old)
		v.Flapping = slices.ContainsFunc(p.Instances, func(i *reconcile.Instance) bool { return i.Flapping })
	}
	l.views[name] = v
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
		same := len(kept) > 0 && kept[0].ID == i.ID && kept[0].Down == down
		if same && !l.moved[i.ID] {
			out[n] = kept[0]
			continue
		}
		out[n] = l.drawInstance(i, down)
	}
	return out
}

func (l *loop) drawInstance(i *reconcile.Instance, down bool) *reconcile.InstanceView {
	iv := &reconcile.InstanceView{Instance: *i, Down: down, Containment: l.contain}
	iv.Ends = slices.Clone(i.Ends)
	if o, ok := l.observed[i.ID]; ok && o.Run == i.Run && i.Alive() {
		iv.Drift = o.Drift
		iv.Observed = o.Observed
	}
	return iv
}
