package control

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
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
	fresh := make(map[string]*spec.Program, len(s.Programs))
	for name, p := range s.Programs {
		if old := before.programs[name]; old != nil && reflect.DeepEqual(*old, p) {
			out.programs[name] = old
		} else {
			fresh[name] = new(p)
		}
	}
	share(fresh, out.programs)
	return out
}

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
	if len(overrides) == 0 {
		return s.programs // not even the list is there twice
	}
	out := make(map[string]*spec.Program, len(s.programs))
	maps.Copy(out, s.programs)
	for _, o := range overrides {
		delete(out, o.Program)
	}
	return out
}

// hold makes g the generation that is desired.
func (d *desk) hold(g store.Generation) { d.holdOn(g, shelve(g.Spec, d.shelf)) }

// holdOn is hold of what is on a shelf already.
func (d *desk) holdOn(g store.Generation, s shelf) {
	d.shelf, d.source = s, pack(g.Source)
	g.Spec, g.Shared, g.Source = spec.Spec{}, nil, spec.Source{}
	d.current = g
}

// packed are files in a twentieth of their size: nobody asks for them but who
// judges an override.
type packed []byte

func pack(src spec.Source) packed {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed) // a level that exists
	_ = json.NewEncoder(z).Encode(src)              // a plain value, to memory
	_ = z.Close()
	return bytes.Clone(b.Bytes())
}

func (p packed) unpack() (src spec.Source, err error) {
	z, err := gzip.NewReader(bytes.NewReader(p))
	if err == nil {
		err = json.NewDecoder(z).Decode(&src)
	}
	if err != nil {
		return src, fmt.Errorf("cannot unpack the files: %w", err)
	}
	return src, nil
}

// said is what the files of the desired generation say.
func (d *desk) said() spec.Spec { return d.shelf.spec() }
