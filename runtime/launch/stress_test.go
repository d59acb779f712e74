package launch

import (
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

// BenchmarkStart measures our start and Go's own, one after the other in each
// round, so that a busy machine is the same for all. What it reports are
// medians in microseconds, from the call to its return; reaping is not in them.
func BenchmarkStart(b *testing.B) {
	full := request("/bin/true")
	full.Tuning = spec.Tuning{Nice: new(5), IONice: &spec.IONice{Class: "best-effort", Level: 6}, Limits: lowLimits(), OOMScoreAdj: new(100), CPUs: "0"}
	if unix.Geteuid() == 0 {
		full.Identity = spec.Identity{UID: 65534, GID: 65534, Switch: true}
	}
	ways := []struct {
		name  string
		spawn func() (pid, pidfd int, err error)
		took  []time.Duration
	}{
		{name: "plain-us", spawn: ours(request("/bin/true"))},
		{name: "full-us", spawn: ours(full)},
		{name: "ForkExec-us", spawn: forkExec},
		{name: "os-exec-us", spawn: osExec},
	}
	for b.Loop() {
		for i := range ways {
			w := &ways[i]
			from := time.Now()
			pid, pidfd, err := w.spawn()
			w.took = append(w.took, time.Since(from))
			if err != nil {
				b.Fatal(err)
			}
			if pidfd >= 0 {
				_ = unix.Close(pidfd)
			}
			if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, w := range ways {
		slices.Sort(w.took)
		b.ReportMetric(float64(w.took[len(w.took)/2].Nanoseconds())/1000, w.name)
	}
}

func ours(r *Request) func() (int, int, error) {
	return func() (int, int, error) {
		p, err := Start(r, NoStdio, -1)
		return p.PID, p.PidFD, err
	}
}

func forkExec() (int, int, error) {
	pidfd := -1
	attr := &syscall.ProcAttr{Dir: "/", Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd}}
	pid, err := syscall.ForkExec("/bin/true", []string{"true"}, attr)
	return pid, pidfd, err
}

func osExec() (int, int, error) {
	cmd := exec.Command("/bin/true")
	if err := cmd.Start(); err != nil {
		return 0, -1, err
	}
	pid := cmd.Process.Pid
	return pid, -1, cmd.Process.Release() // reaped by pid, as the others
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
