package output

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wait is what the keeper's loop does for one pipe: the delay, then poll.
func waitFor(tb testing.TB, pipe int, delay time.Duration) (hangup bool) {
	if delay > 0 {
		ts := unix.NsecToTimespec(int64(delay))
		_ = unix.Nanosleep(&ts, nil)
		return false
	}
	fds := []unix.PollFd{{Fd: int32(pipe), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, 60_000)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			tb.Fatal(err)
		}
		return fds[0].Revents&unix.POLLIN == 0
	}
}

// drainAll is the keeper for one pipe until its end.
func drainAll(tb testing.TB, s *Sink, pipe int) (n int) {
	for {
		k, more, err := s.Drain(pipe, Turn)
		if n += k; err != nil {
			tb.Fatal(err)
		}
		if !more && waitFor(tb, pipe, s.Delay()) && k == 0 {
			return n
		}
	}
}

// floor is the shortest program that does the same: read, write, no line's end.
func floor(tb testing.TB, file string, pipe, size int) (n int) {
	if size > pipeDefault {
		if _, err := unix.FcntlInt(uintptr(pipe), unix.F_SETPIPE_SZ, size); err != nil {
			tb.Fatal(err)
		}
	}
	unix.SetNonblock(pipe, false)
	out, in, seq := -1, 0, 0
	b := make([]byte, size)
	for {
		if out < 0 || in > 50_000_000 {
			if out >= 0 {
				unix.Close(out)
				os.Rename(file, fmt.Sprint(file, ".", seq))
				seq++
				in = 0
			}
			var err error
			if out, err = unix.Open(file, unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, 0o640); err != nil {
				tb.Fatal(err)
			}
		}
		k, err := unix.Read(pipe, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			tb.Fatal(err)
		}
		if k == 0 {
			unix.Close(out)
			return n
		}
		if _, err := unix.Write(out, b[:k]); err != nil {
			tb.Fatal(err)
		}
		n += k
		in += k
	}
}

func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// start runs a writer and returns the reading end of its pipe.
func start(tb testing.TB, cmd *exec.Cmd) int {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		tb.Fatal(err)
	}
	unix.SetNonblock(p[1], false)
	f := os.NewFile(uintptr(p[1]), "pipe")
	cmd.Stdout = f
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	f.Close()
	tb.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); unix.Close(p[0]) })
	return p[0]
}

// BenchmarkDrain: MB/s and CPU seconds per GB of the draining side, beside the
// floor, on a tmpfs and on the file system of TMPDIR.
func BenchmarkDrain(b *testing.B) {
	for _, place := range []struct{ name, dir string }{{"tmpfs", "/dev/shm"}, {"disk", os.TempDir()}} {
		for _, lines := range []int{1, 40, 650} {
			run := func(name string, f func(dir string, pipe int) int) {
				b.Run(fmt.Sprintf("%s/write=%d/%s", place.name, lines*lineSize, name), func(b *testing.B) {
					benchOne(b, place.dir, lines, f)
				})
			}
			run("rw64K", func(dir string, pipe int) int { return floor(b, dir+"/log", pipe, 64<<10) })
			run("rw1M", func(dir string, pipe int) int { return floor(b, dir+"/log", pipe, 1<<20) })
			run("sink", func(dir string, pipe int) int {
				d, err := Open(dir, -1)
				if err != nil {
					b.Fatal(err)
				}
				defer d.Close()
				return drainAll(b, d.Sink("web", 0, "", Policy{RotateBytes: 50_000_000, Keep: 100}), pipe)
			})
		}
	}
}

func benchOne(b *testing.B, place string, lines int, f func(dir string, pipe int) int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	total := 300_000_000
	if lines == 1 {
		total = 100_000_000
	}
	var bytes int
	var used, wall time.Duration
	for b.Loop() {
		dir, err := os.MkdirTemp(place, "output-bench")
		if err != nil {
			b.Skip("no such place here:", err)
		}
		pipe := start(b, helper("write", total, lines))
		waitFor(b, pipe, 0)
		c, t := cpu(), time.Now()
		bytes += f(dir, pipe)
		used += cpu() - c
		wall += time.Since(t)
		os.RemoveAll(dir)
	}
	b.ReportMetric(float64(bytes)/1e6/wall.Seconds(), "MB/s")
	b.ReportMetric(used.Seconds()/float64(bytes)*1e9, "cpu-s/GB")
	b.ReportMetric(0, "ns/op")
}
