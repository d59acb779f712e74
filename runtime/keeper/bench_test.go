package keeper

import (
	"fmt"
	"os"
	"testing"

	"github.com/procnanny/procnanny/runtime/launch"
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

// BenchmarkWire is what a message costs each end.
func BenchmarkWire(b *testing.B) {
	end := Fact{
		Kind: FactExited, Run: 12345, Program: "web", Index: 3, PID: 1 << 20, AtNS: 1 << 50, Code: -1, Signal: 9, CPUNS: 1 << 22, PeakBytes: 1 << 24,
	}
	start := Order{Kind: OrderStart, Start: &Start{
		Program: "web", Index: 3, Run: 12345, LaunchDigest: "0123456789abcdef", TuningDigest: "fedcba9876543210", Generation: 12,
		Output: Output{RotateBytes: 10 << 20, Keep: 10},
		Launch: launch.Request{
			Candidates: []string{"/usr/local/bin/web"}, Argv: []string{"web", "--port", "8080"}, Dir: "/", Umask: 0o22, Stdin: "null",
			Mode: spec.OutputMode{Kind: "merged"},
		},
	}}
	for range 20 {
		start.Start.Launch.Env = append(start.Start.Launch.Env, "SOME_VARIABLE=of the usual length, more or less")
	}
	b.Run("end", func(b *testing.B) { benchMessage(b, &end, AppendFact, DecodeFact) })
	b.Run("start", func(b *testing.B) { benchMessage(b, &start, AppendOrder, DecodeOrder) })
}

func benchMessage[T any](b *testing.B, v *T, write func([]byte, *T) ([]byte, error), read func([]byte) (T, error)) {
	buf, err := write(nil, v)
	must(b, err)
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			buf, _ = write(buf[:0], v)
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := read(buf[frameHead:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkNote is the text of a note, of which a start writes two.
func BenchmarkNote(b *testing.B) {
	v := note{
		Boot: "cb0a5b5e-7a6b-4a3e-8a59-2f1c7a4f6a11", Run: 12345, Program: "web", Index: 3, PID: 1 << 20, Inode: 1 << 33, StartedNS: 1 << 50,
		LaunchDigest: "0123456789abcdef", TuningDigest: "fedcba9876543210", Generation: 12, Cookie: cookieName + "12345",
		Output: Output{RotateBytes: 10 << 20, Keep: 10}, Pipes: [2]uint64{123456},
	}
	b.ReportAllocs()
	for range b.N {
		v.text()
	}
}
