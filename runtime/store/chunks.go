package store

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"hash/fnv"
	"slices"
	"sync"

	"github.com/procnanny/procnanny/spec"
)

// chunkOf is about how many programs are packed together.
const chunkOf = 32

// chunks remembers how the programs of the last generation were packed: those
// of the next one are mostly the same, and a thousand of them take 17 ms.
type chunks struct{ last []chunk }

// chunk is some programs, as a gzip member of its own: what reads a generation
// reads members one after the other as one text.
type chunk struct {
	names    []string
	programs []*spec.Program // nobody changes them, so the same ones say the same
	packed   []byte
}

// whereProgramsGo is where in a generation without programs they belong. It is in
// no string of it: there the quotes would be escaped.
var whereProgramsGo = []byte(`,"Spec":{"programs":null`)

// encode is encodeGeneration of g, whose programs are shared. What it keeps of
// them takes effect with keep.
func (c *chunks) encode(g Generation, shared map[string]*spec.Program) (value []byte, keep []chunk, err error) {
	g.Spec.Programs = nil
	frame, err := json.Marshal(g)
	if err != nil {
		return nil, nil, err
	}
	head, tail, ok := bytes.Cut(frame, whereProgramsGo)
	if !ok {
		return nil, nil, errors.New("there is no place for its programs")
	}
	var z zipper
	z.add(slices.Concat(head, []byte(`,"Spec":{"programs":{`)))
	keep = divide(shared)
	between := ""
	for n := range keep {
		k := &keep[n]
		if len(k.names) == 0 {
			continue
		}
		if between != "" {
			z.add([]byte(between))
		}
		between = ","
		if k.packed = c.known(n, len(keep), k); k.packed == nil {
			if k.packed, err = k.pack(); err != nil {
				return nil, nil, err
			}
		}
		z.out = append(z.out, k.packed...)
	}
	z.add(slices.Concat([]byte("}"), tail))
	return seal(z.out), keep, nil
}

// known is how chunk n of so many was packed, if it held the same.
func (c *chunks) known(n, of int, k *chunk) []byte {
	if len(c.last) != of || !slices.Equal(c.last[n].programs, k.programs) || !slices.Equal(c.last[n].names, k.names) {
		return nil
	}
	return c.last[n].packed
}

// divide puts programs into chunks by their names alone, so that one more or
// less changes one chunk.
func divide(shared map[string]*spec.Program) []chunk {
	n := 1
	for n*chunkOf < len(shared) {
		n *= 2
	}
	out := make([]chunk, n)
	for name := range shared {
		h := fnv.New32a()
		_, _ = h.Write([]byte(name)) // never fails
		k := &out[int(h.Sum32())&(n-1)]
		k.names = append(k.names, name)
	}
	for i := range out {
		k := &out[i]
		slices.Sort(k.names)
		k.programs = make([]*spec.Program, len(k.names))
		for j, name := range k.names {
			k.programs[j] = shared[name]
		}
	}
	return out
}

func (k *chunk) pack() ([]byte, error) {
	var text []byte
	for n, name := range k.names {
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		value, err := k.programs[n].MarshalJSON()
		if err != nil {
			return nil, err
		}
		if n > 0 {
			text = append(text, ',')
		}
		text = append(append(append(text, key...), ':'), value...)
	}
	var z zipper
	z.add(text)
	return z.out, nil
}

// writers are large, so each is used for many members.
var writers = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // a level that exists
	return w
}}

// zipper puts gzip members one behind the other.
type zipper struct{ out []byte }

func (z *zipper) add(text []byte) {
	var buf bytes.Buffer
	w := writers.Get().(*gzip.Writer)
	w.Reset(&buf)
	_, _ = w.Write(text) // to memory
	_ = w.Close()
	writers.Put(w)
	z.out = append(z.out, buf.Bytes()...)
}
