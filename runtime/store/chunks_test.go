package store

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// share gives g its programs as a caller keeps them: those that are as before
// by the same pointer.
func share(g *Generation, before map[string]*spec.Program) {
	g.Shared = map[string]*spec.Program{}
	for name, p := range g.Spec.Programs {
		raw, _ := json.Marshal(p)
		if old := before[name]; old != nil {
			if was, _ := json.Marshal(old); string(was) == string(raw) {
				g.Shared[name] = old
				continue
			}
		}
		g.Shared[name] = new(p)
	}
}

// TestChunksAreTheGeneration: whatever was edited, added and taken away before,
// what is read back is what was written, head and all.
func TestChunksAreTheGeneration(t *testing.T) {
	b := newBench(t)
	s, _ := b.open()
	random := rand.New(rand.NewPCG(1, 2))
	g := manyPrograms(0)
	// Names and values that could be taken for the text around them.
	g.Digest = `,"Spec":{"programs":null`
	g.By.Key = `"}],"Spec":{"programs":null`
	g.Defined = map[string]string{`,"Spec":{"programs":null`: "a.cue:1"}
	g.Spec.ExitWhen = `p1`
	g.Spec.On = spec.Hooks{"crashed": {{Name: "mail"}}}
	g.Source.Files["b"] = []byte(`,"Spec":{"programs":null`)
	for n := range 30 {
		g.Spec.Programs = maps.Clone(g.Spec.Programs)
		for range random.IntN(60) {
			name := fmt.Sprintf("p \"%d\"\u2028<&>", random.IntN(200))
			if random.IntN(4) == 0 {
				delete(g.Spec.Programs, name)
				continue
			}
			p := spec.Defaults()
			p.Command, p.Env, p.Nice = "a \x00 }{\"", map[string]string{"A": fmt.Sprint(random.Uint64())}, new(random.IntN(20))
			g.Spec.Programs[name] = p
		}
		share(&g, g.Shared)
		added, err := s.AddGeneration(g)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := encodeGeneration(unshared(added))
		if err != nil {
			t.Fatal(err)
		}
		want, err := decodeGeneration(plain)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Generation(added.Number)
		if a, b := text(t, got), text(t, want); err != nil || a != b {
			t.Fatalf("after %d edits: %v\n%s\n%s", n, err, a, b)
		}
	}
	list := s.Generations()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, found := b.open()
	defer s.Close()
	if len(found.Loss) > 0 || len(list) != keepGenerations || text(t, found.Generations) != text(t, list) {
		t.Errorf("opened again: %v\n%+v\n%+v", found.Loss, found.Generations, list)
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func unshared(g Generation) Generation {
	g.Shared = nil
	return g
}

// TestAnEditEncodesItsChunk: not the rest.
func TestAnEditEncodesItsChunk(t *testing.T) {
	g := manyPrograms(1000)
	share(&g, nil)
	var c chunks
	_, keep, err := c.encode(g, g.Shared)
	if err != nil {
		t.Fatal(err)
	}
	c.last = keep
	p := spec.Defaults()
	p.Nice = new(7)
	g.Spec.Programs["p5"] = p
	share(&g, g.Shared)
	_, next, err := c.encode(g, g.Shared)
	if err != nil {
		t.Fatal(err)
	}
	anew := 0
	for n := range next {
		if len(next[n].packed) > 0 && &next[n].packed[0] != &keep[n].packed[0] {
			anew++
		}
	}
	if anew != 1 || len(next) < 1000/chunkOf {
		t.Errorf("%d of %d chunks were encoded anew", anew, len(next))
	}
}

// TestAFailedGenerationIsForgotten: the next one does not build on it.
func TestAFailedGenerationIsForgotten(t *testing.T) {
	b := newBench(t)
	s, _ := b.open()
	defer s.Close()
	g := manyPrograms(50)
	share(&g, nil)
	if _, err := s.AddGeneration(g); err != nil {
		t.Fatal(err)
	}
	kept := s.intent.chunks.last
	s.intent.fault = func() error { return fmt.Errorf("no space") }
	p := spec.Defaults()
	p.Nice = new(7)
	g.Spec.Programs["p5"] = p
	share(&g, g.Shared)
	if _, err := s.AddGeneration(g); err == nil {
		t.Fatal("it was kept")
	}
	if &s.intent.chunks.last[0] != &kept[0] {
		t.Error("what was not kept is remembered")
	}
}

func BenchmarkAddGeneration(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		g := manyPrograms(n)
		for i := range n {
			g.Source.Files["a"] = fmt.Appendf(g.Source.Files["a"], "programs: p%d: {command: \"/usr/bin/env\", args: [\"sleep\", \"%d\"]}\n", i, i)
		}
		share(&g, nil)
		for _, edit := range []bool{false, true} {
			b.Run(fmt.Sprintf("of %d, one edited %v", n, edit), func(b *testing.B) {
				var c chunks
				began := cpu(b)
				for i := range b.N {
					if edit {
						p := *g.Shared["p5"]
						p.Nice = new(i % 20)
						g.Shared["p5"] = &p
						_, c.last, _ = c.encode(g, g.Shared)
					} else {
						_, _ = encodeGeneration(unshared(g))
					}
				}
				b.ReportMetric(float64((cpu(b)-began)/time.Duration(b.N))/1e6, "cpu-ms/op")
			})
		}
	}
}
