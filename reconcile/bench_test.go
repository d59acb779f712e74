package reconcile

import (
	"fmt"
	"testing"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// crowd is a desired program of n instances that never waits.
func crowd(n int) *spec.Program {
	p := spec.Defaults()
	p.Command, p.Instances = "/bin/web", n
	p.Start.MinUptime, p.Restart.Delay = 0, 0
	p.Restart.Flap.Count = 0
	return &p
}

// startAll brings a crowd to run: one look, then the facts.
func startAll(w World, p *spec.Program, now time.Time) World {
	plan := DiffProgram("web", p, w, now)
	w, _ = Commit(w, plan, now)
	for _, a := range plan.Actions {
		w, _ = Apply(w, Fact{Kind: FactStarted, ID: a.ID, Run: a.Run, At: now, PID: 1000 + int(a.Run)}, now)
	}
	return w
}

// exitAll lets every instance die at once, as batches of the engine, and looks
// after each.
func exitAll(w World, p *spec.Program, now time.Time, batch int) World {
	all := w.Programs["web"].Instances
	for n := 0; n < len(all); n += batch {
		for _, i := range all[n:min(n+batch, len(all))] {
			w, _ = Apply(w, Fact{Kind: FactExited, ID: i.ID, Run: i.Run, At: now, Exit: &Exit{Code: 1}}, now)
		}
		w, _ = Commit(w, DiffProgram("web", p, w, now), now)
	}
	return w
}

func BenchmarkStart(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := crowd(n)
			b.ReportAllocs()
			for b.Loop() {
				startAll(NewWorld(), p, epoch)
			}
		})
	}
}

// BenchmarkLookAtNew is the one look that starts 1000 instances, with its effect.
func BenchmarkLookAtNew(b *testing.B) {
	p := crowd(1000)
	b.ReportAllocs()
	for b.Loop() {
		w := NewWorld()
		Commit(w, DiffProgram("web", p, w, epoch), epoch)
	}
}

func BenchmarkMassExit(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := crowd(n)
			w := startAll(NewWorld(), p, epoch)
			b.ReportAllocs()
			for b.Loop() {
				w = exitAll(w, p, epoch, 256)
				b.StopTimer()
				for _, i := range w.Programs["web"].Instances {
					w, _ = Apply(w, Fact{Kind: FactStarted, ID: i.ID, Run: i.Run, At: epoch, PID: 1}, epoch)
				}
				b.StartTimer()
			}
		})
	}
}

func BenchmarkLookAtSettled(b *testing.B) {
	p := crowd(5000)
	w := startAll(NewWorld(), p, epoch)
	b.ReportAllocs()
	for b.Loop() {
		if !DiffProgram("web", p, w, epoch).Empty() {
			b.Fatal("it is not settled")
		}
	}
}

func BenchmarkOneCrash(b *testing.B) {
	p := crowd(1)
	w := startAll(NewWorld(), p, epoch)
	b.ReportAllocs()
	for b.Loop() {
		w = exitAll(w, p, epoch, 1)
		i := w.Programs["web"].Instances[0]
		w, _ = Apply(w, Fact{Kind: FactStarted, ID: i.ID, Run: i.Run, At: epoch, PID: 1}, epoch)
	}
}

// BenchmarkRoll replaces 1000 instances to the end.
func BenchmarkRoll(b *testing.B) {
	for b.Loop() {
		p := crowd(1000)
		w := startAll(NewWorld(), p, epoch)
		q := *p
		q.Args = []string{"new"}
		rollOut(b, w, &q)
	}
}

func rollOut(b *testing.B, w World, p *spec.Program) {
	for range 100000 {
		plan := DiffProgram("web", p, w, epoch)
		if plan.Empty() {
			return
		}
		w, _ = Commit(w, plan, epoch)
		for _, a := range plan.Actions {
			f := Fact{ID: a.ID, Run: a.Run, At: epoch, PID: 1, Launch: a.Launch}
			switch a.Kind {
			case ActionStart:
				f.Kind = FactStarted
			case ActionSignal:
				f.Kind, f.Exit = FactExited, &Exit{Code: -1, Signal: spec.SIGTERM}
			case ActionPreflight:
				f.Kind = FactPreflight
			default:
			}
			w, _ = Apply(w, f, epoch)
		}
	}
	b.Fatal("the roll does not end")
}

// A mass exit allocates for what exits, not for its square. (Time would say
// more, but only on a machine of one's own: see BenchmarkMassExit.)
func TestMassExitIsNotQuadratic(t *testing.T) {
	cost := func(n int) float64 {
		return testing.AllocsPerRun(1, func() {
			p := crowd(n)
			exitAll(startAll(NewWorld(), p, epoch), p, epoch, 256)
		})
	}
	if small, large := cost(500), cost(5000); large > 15*small {
		t.Errorf("5000 exits allocate %.0f times, 500 only %.0f", large, small)
	}
}

// A look at a settled program allocates the same few times however many
// instances it has.
func TestALookAtTheSettledIsCheap(t *testing.T) {
	p := crowd(5000)
	w := startAll(NewWorld(), p, epoch)
	if n := testing.AllocsPerRun(5, func() { DiffProgram("web", p, w, epoch) }); n > 10 {
		t.Errorf("it allocates %.0f times", n)
	}
}
