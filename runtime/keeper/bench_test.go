package keeper

import (
	"fmt"
	"os"
	"testing"

	"github.com/procnanny/procnanny/spec"
)

// BenchmarkRestart is from the order to start over the end to the news of it,
// of a process that ends at once: one turn of a restart without its delay.
func BenchmarkRestart(b *testing.B) {
	for name, c := range map[string]testConfig{"cgroup": {}, "sweep": {Sweep: true}} {
		b.Run(name, func(b *testing.B) {
			r := startRig(b, c)
			spent := cpuNS(b, r.cmd.Process.Pid)
			for range b.N {
				o := r.shell(0, "")
				o.Start.Launch.Candidates, o.Start.Launch.Argv = []string{"/bin/true"}, []string{"true"}
				r.send(o)
				r.next(FactStarted, o.Start.Run)
				r.next(FactEmptied, o.Start.Run)
				r.facts = nil
			}
			b.ReportMetric(float64(cpuNS(b, r.cmd.Process.Pid)-spent)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuNS is what all threads of a process have run: on a busy machine it says
// more than the time on the wall.
func cpuNS(b *testing.B, pid int) (sum int) {
	b.Helper()
	dir := fmt.Sprintf("/proc/%d/task/", pid)
	tasks, err := os.ReadDir(dir)
	must(b, err)
	for _, t := range tasks {
		var n int
		if text, err := os.ReadFile(dir + t.Name() + "/schedstat"); err == nil {
			_, _ = fmt.Sscan(string(text), &n)
		}
		sum += n
	}
	return sum
}

// BenchmarkColdStart is a thousand sleepers, started and killed.
func BenchmarkColdStart(b *testing.B) {
	r := startRig(b, testConfig{})
	for range b.N {
		orders := make([]Order, 1000)
		kills := make([]Order, 1000)
		for i := range orders {
			orders[i] = r.shell(i, "")
			orders[i].Start.Launch.Candidates, orders[i].Start.Launch.Argv = []string{"/bin/sleep"}, []string{"sleep", "1000"}
			kills[i] = Order{Kind: OrderKill, Run: orders[i].Start.Run, Signal: spec.SIGKILL}
		}
		r.send(orders...)
		for _, o := range orders {
			r.next(FactStarted, o.Start.Run)
		}
		b.StopTimer()
		r.send(kills...)
		for _, o := range orders {
			r.next(FactEmptied, o.Start.Run)
		}
		b.StartTimer()
	}
}
