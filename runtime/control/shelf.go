package control

import (
	"reflect"

	"github.com/procnanny/procnanny/runtime/store"
	"github.com/procnanny/procnanny/spec"
)

// shelf is what the files of the desired generation say. The engine and the
// picture hold the same programs: a thousand of them are in memory once.
type shelf struct {
	programs map[string]*spec.Program
	on       spec.Hooks
	exitWhen string
}

// shelve keeps what s says. A program that is as it was before stays the same.
func shelve(s spec.Spec, before shelf) shelf {
	out := shelf{programs: make(map[string]*spec.Program, len(s.Programs)), on: s.On, exitWhen: s.ExitWhen}
	for name, p := range s.Programs {
		if old := before.programs[name]; old != nil && reflect.DeepEqual(*old, p) {
			out.programs[name] = old
		} else {
			out.programs[name] = own(p)
		}
	}
	return out
}

func own(p spec.Program) *spec.Program { return &p }

// spec is the shelf as others want it.
func (s shelf) spec() spec.Spec {
	out := spec.Spec{Programs: make(map[string]spec.Program, len(s.programs)), On: s.on, ExitWhen: s.exitWhen}
	for name, p := range s.programs {
		out.Programs[name] = *p
	}
	return out
}

// without lists the programs that no override is about: what With makes of them
// is what they are.
func (s shelf) without(overrides []spec.Override) map[string]*spec.Program {
	out := make(map[string]*spec.Program, len(s.programs))
	for name, p := range s.programs {
		out[name] = p
	}
	for _, o := range overrides {
		delete(out, o.Program)
	}
	return out
}

// hold makes g the generation that is desired.
func (d *desk) hold(g store.Generation) {
	d.shelf = shelve(g.Spec, d.shelf)
	g.Spec = spec.Spec{}
	d.current = g
}

// said is what the files of the desired generation say.
func (d *desk) said() spec.Spec { return d.shelf.spec() }
