package proc

import (
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/spec"
)

func manyStarts(n int, g *spec.Program) []reconcile.Order {
	list := make([]reconcile.Order, n)
	for i := range list {
		list[i] = order(reconcile.ActionStart, i, reconcile.RunID(i+1), g)
	}
	return list
}

func silent() *Proc {
	return New(Config{Send: func([]keeper.Order) error { return nil }, Facts: func([]reconcile.Fact) {}})
}

// A thousand starts in one turn of the engine cost milliseconds.
func TestAThousandStartsAreQuick(t *testing.T) {
	for name, g := range map[string]*spec.Program{
		"plain":    program(func(g *spec.Program) { g.Args = []string{"1000"} }),
		"expanded": program(func(g *spec.Program) { g.Args = []string{"$(instance)"}; g.Env = map[string]string{"A": "$(PATH)"} }),
	} {
		best := time.Hour
		for range 5 {
			p, list := silent(), manyStarts(1000, g)
			from := time.Now()
			p.Do(list)
			best = min(best, time.Since(from))
		}
		// The aim is 10 ms; the race detector and a busy machine are allowed for.
		if best > 100*time.Millisecond {
			t.Errorf("%s: 1000 starts take %v", name, best)
		}
	}
}

func BenchmarkDo(b *testing.B) {
	for name, g := range map[string]*spec.Program{
		"plain":    program(func(g *spec.Program) { g.Args = []string{"1000"} }),
		"expanded": program(func(g *spec.Program) { g.Args = []string{"$(instance)"}; g.Env = map[string]string{"A": "$(PATH)"} }),
	} {
		b.Run(name, func(b *testing.B) {
			p, list := silent(), manyStarts(1000, g)
			b.ReportAllocs()
			for b.Loop() {
				p.Do(list)
			}
		})
	}
}
