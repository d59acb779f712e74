package engine

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// nobody carries nothing out and writes nothing down.
type nobody struct{ orders []reconcile.Order }

func (n *nobody) Do(o []reconcile.Order)  { n.orders = append(n.orders, o...) }
func (n *nobody) Record(reconcile.Batch)  {}
func (n *nobody) Publish(reconcile.Batch) {}

// crowd is a loop in which everything runs.
func crowd(b *testing.B, programs, instances int) (*loop, *nobody, time.Time) {
	b.Helper()
	n := &nobody{}
	e := New(Config{Executor: n, Recorder: n, World: reconcile.NewWorld()})
	d := Desired{Spec: spec.Spec{Programs: map[string]spec.Program{}}, Generation: 1}
	for k := range programs {
		p := program("/bin/x", instances)
		p.Restart.Delay, p.Start.MinUptime = 0, 0
		d.Spec.Programs[fmt.Sprintf("p%05d", k)] = p
	}
	now := time.Now()
	e.loop.desire(d)
	e.loop.turn(now)
	answer(e.loop, n, now)
	return e.loop, n, now
}

// answer tells that everything ordered was done, as one batch of facts.
func answer(l *loop, n *nobody, now time.Time) {
	for len(n.orders) > 0 {
		orders := n.orders
		n.orders = nil
		for _, o := range orders {
			if o.Kind == reconcile.ActionStart {
				l.apply(reconcile.Fact{Kind: reconcile.FactStarted, ID: o.ID, Run: o.Run, At: now, PID: 1}, now)
			}
		}
		l.turn(now)
	}
}

// cpu is what this process has used: on a busy machine the clock says nothing.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func exitFact(l *loop, id reconcile.InstanceID, now time.Time) reconcile.Fact {
	return reconcile.Fact{Kind: reconcile.FactExited, ID: id, Run: l.instance(id).Run, At: now, Exit: &reconcile.Exit{Code: 1, At: now}}
}

// BenchmarkTurn is an exit, its restart and the news that it runs: two turns or
// three, in a world of so many programs.
func BenchmarkTurn(b *testing.B) {
	for _, programs := range []int{1, 1000, 5000} {
		b.Run(fmt.Sprint(programs, " programs"), func(b *testing.B) {
			l, n, now := crowd(b, programs, 1)
			began, used := l.turns, cpu()
			b.ReportAllocs()
			b.ResetTimer()
			for k := range b.N {
				now = now.Add(time.Hour)
				id := reconcile.InstanceID{Program: fmt.Sprintf("p%05d", k%programs)}
				l.apply(exitFact(l, id, now), now)
				l.turn(now)
				for len(n.orders) == 0 {
					now = now.Add(time.Second)
					l.turn(now)
				}
				answer(l, n, now)
			}
			b.ReportMetric(float64(l.turns-began)/float64(b.N), "turns/op")
			b.ReportMetric(float64((cpu()-used).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkMassExit is 5000 instances of one program that end at once, told in
// so many batches, until all run again.
func BenchmarkMassExit(b *testing.B) {
	const instances = 5000
	for _, batches := range []int{1, 50} {
		b.Run(fmt.Sprint(batches, " batches"), func(b *testing.B) {
			l, n, now := crowd(b, 1, instances)
			used := cpu()
			b.ResetTimer()
			for range b.N {
				now = now.Add(time.Hour)
				for k := range instances {
					l.apply(exitFact(l, reconcile.InstanceID{Program: "p00000", Index: k}, now), now)
					if (k+1)%(instances/batches) == 0 {
						l.turn(now)
					}
				}
				for k := 0; len(n.orders) == 0 || k == 0; k++ {
					now = now.Add(time.Second)
					l.turn(now)
				}
				answer(l, n, now)
			}
			b.ReportMetric(float64((cpu()-used).Nanoseconds())/float64(b.N)/instances, "cpu-ns/instance")
		})
	}
}
