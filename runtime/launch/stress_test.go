package launch

import (
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// Thousands of spawns from several goroutines while the collector runs and
// threads come and go: none fails, none gets what is another's.
func TestSpawnsUnderGC(t *testing.T) {
	const workers = 8
	each := 150
	if testing.Short() {
		each = 20
	}
	var stop atomic.Bool
	var churn, work sync.WaitGroup
	churn.Go(func() {
		for !stop.Load() {
			runtime.GC()
		}
	})
	var ends [256]atomic.Int64
	for w := range workers {
		work.Go(func() {
			for n := range each {
				code := (w*each + n) % 250
				r := request("/bin/sh", "-c", "exit $CODE")
				r.Env = []string{"CODE=" + string([]byte{byte('0' + code/100), byte('0' + code/10%10), byte('0' + code%10)})}
				r.Tuning.Nice = new(0)
				p, err := Start(r, NoStdio, -1)
				if err != nil {
					t.Error(err)
					return
				}
				ends[code].Add(1)
				if status := p.wait(t); status.ExitStatus() != code {
					t.Errorf("ended with %v, should be %d", status, code)
				}
			}
		})
	}
	work.Wait()
	stop.Store(true)
	churn.Wait()
	total := int64(0)
	for i := range ends {
		total += ends[i].Load()
	}
	expect(t, "spawns", total, int64(workers*each))
}

// Signals that arrive at the parent meanwhile are neither lost nor the child's.
func TestSignalsDuringSpawns(t *testing.T) {
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			_ = unix.Kill(unix.Getpid(), unix.SIGURG) // as Go's own preemption
		}
	})
	for range 200 {
		p, err := Start(request("/bin/true"), NoStdio, -1)
		if err != nil {
			t.Fatal(err)
		}
		if status := p.wait(t); status != 0 {
			t.Fatalf("ended with %v", status)
		}
	}
	stop.Store(true)
	wg.Wait()
}

func reapFor(b *testing.B, pid, pidfd int) {
	b.Helper()
	if pidfd >= 0 {
		unix.Close(pidfd)
	}
	b.StopTimer()
	if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
}

// The benchmarks measure until the program is executed; reaping is not in them.
func BenchmarkStart(b *testing.B) {
	full := request("/bin/true")
	full.Tuning = spec.Tuning{Nice: new(5), IONice: &spec.IONice{Class: "best-effort", Level: 6}, Limits: lowLimits(), OOMScoreAdj: new(100), CPUs: "0-1"}
	full.Identity = spec.Identity{UID: 65534, GID: 65534, Switch: true}
	for name, r := range map[string]*Request{"plain": request("/bin/true"), "full": full} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				p, err := Start(r, NoStdio, -1)
				if err != nil {
					b.Fatal(err)
				}
				reapFor(b, p.PID, p.PidFD)
			}
		})
	}
	b.Run("ForkExec", func(b *testing.B) {
		for b.Loop() {
			pidfd := -1
			attr := &syscall.ProcAttr{Dir: "/", Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd}}
			pid, err := syscall.ForkExec("/bin/true", []string{"true"}, attr)
			if err != nil {
				b.Fatal(err)
			}
			reapFor(b, pid, pidfd)
		}
	})
	b.Run("os-exec", func(b *testing.B) {
		for b.Loop() {
			cmd := exec.Command("/bin/true")
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := cmd.Wait(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
}

// BenchmarkCompile is our own part of a start.
func BenchmarkCompile(b *testing.B) {
	r := request("/bin/true")
	r.Tuning = spec.Tuning{Nice: new(5), IONice: &spec.IONice{Class: "best-effort", Level: 6}, Limits: lowLimits(), OOMScoreAdj: new(100)}
	b.ReportAllocs()
	for b.Loop() {
		p := newBuilder(r, NoStdio)
		p.compile()
		p.release()
	}
}
