package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	zmq4 "github.com/pebbe/zmq4"
	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/rpc/zmq"
	"github.com/procnanny/procnanny/runtime/daemontest"
)

// stampSource is a program whose last act (at CONT, the only signal that it
// takes) or first one is to write CLOCK_MONOTONIC to a file: nothing that is
// larger, or starts more slowly, could tell when it ended or began.
const stampSource = `
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>
static void stamp(const char *path) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	long long ns = t.tv_sec * 1000000000LL + t.tv_nsec;
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	if (fd < 0 || pwrite(fd, &ns, 8, 0) != 8) _exit(99);
}
int main(int argc, char **argv) {
	if (argc == 3) {
		sigset_t set;
		int got;
		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		sigprocmask(SIG_BLOCK, &set, 0);
		sigwait(&set, &got);
	}
	stamp(argv[1]);
	_exit(argc == 3 ? 3 : 0);
}
`

// stampRoom is where a latency is measured: a directory in memory, with the
// program that stamps. The stamps have a directory of their own: the one above
// the configuration is watched.
type stampRoom struct {
	b   *testing.B
	dir string
}

func newStampRoom(b *testing.B) *stampRoom {
	b.Helper()
	check(b, daemontest.Build())
	dir, err := os.MkdirTemp("/dev/shm", "pn")
	if err != nil {
		b.Skip("needs /dev/shm:", err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	for _, sub := range []string{"config", "state", "run", "log", "stamps"} {
		check(b, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	check(b, os.WriteFile(dir+"/stamp.c", []byte(stampSource), 0o644))
	if out, err := exec.Command("cc", "-O2", "-static", "-o", dir+"/stamp", dir+"/stamp.c").CombinedOutput(); err != nil {
		b.Skipf("needs a C compiler: %v\n%s", err, out)
	}
	return &stampRoom{b, dir}
}

// daemon runs one instance of the program, and what is to be done when it
// crashes.
func (r *stampRoom) daemon(on string) {
	r.b.Helper()
	const config = `programs: web: {command: %q, args: [%q, "wait"], start: min_uptime: "0s", restart: {delay: "30ms", factor: 1, jitter: 0, flap: {count: 2, within: "1ms"}}%s}`
	text := fmt.Sprintf(config, r.dir+"/stamp", r.dir+"/stamps/end", on)
	check(r.b, os.WriteFile(r.dir+"/config/web.cue", []byte(text), 0o644))
	d := daemontest.New(r.b)
	d.Dir = r.dir
	d.Start()
	check(r.b, poll(func() (bool, string) {
		_, err := os.Stat(r.dir + "/run/events.sock")
		return err == nil, ""
	}))
}

func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // every kernel has it
	return ts.Nano()
}

func (r *stampRoom) stamp(name string) int64 {
	r.b.Helper()
	raw, err := os.ReadFile(filepath.Join(r.dir, "stamps", name))
	check(r.b, err)
	return int64(binary.NativeEndian.Uint64(raw))
}

// hopper is a process that only publishes: the hop that everybody has to pay.
func hopper() {
	s, err := zmq4.NewSocket(zmq4.PUB)
	if err == nil {
		err = s.Bind(os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for in := bufio.NewReader(os.Stdin); ; {
		if _, err := in.ReadByte(); err != nil {
			os.Exit(0)
		}
		_, _ = s.SendMessage("hop", binary.NativeEndian.AppendUint64(nil, uint64(monotonic())))
	}
}

// hop is a bare hop, to be taken as often as somebody asks.
type hop struct {
	to  *os.File
	sub *zmq.Subscription
}

func (r *stampRoom) hop(ctx context.Context) *hop {
	r.b.Helper()
	endpoint := "ipc://" + r.dir + "/hop.sock"
	self, err := os.Executable()
	check(r.b, err)
	from, to, err := os.Pipe()
	check(r.b, err)
	cmd := exec.Command(self, endpoint)
	cmd.Env, cmd.Stdin, cmd.Stderr = append(os.Environ(), roleVar+"=hopper"), from, os.Stderr
	check(r.b, cmd.Start())
	from.Close()
	sub, err := zmq.Subscribe(endpoint, nil)
	check(r.b, err)
	r.b.Cleanup(func() { to.Close(); _ = cmd.Wait(); _ = sub.Close() })
	h := &hop{to, sub}
	for { // until it is connected
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		_, err := h.take(short)
		if cancel(); err == nil {
			return h
		}
		check(r.b, ctx.Err())
	}
}

func (h *hop) take(ctx context.Context) (int64, error) {
	if _, err := h.to.Write([]byte{1}); err != nil {
		return 0, err
	}
	_, body, err := h.sub.NextRaw(ctx)
	return monotonic() - int64(binary.NativeEndian.Uint64(append(body, make([]byte, 8)...))), err
}

// latencies are nanoseconds.
type latencies []int64

func (l latencies) report(b *testing.B, what string) (p50 float64) {
	slices.Sort(l)
	p50 = float64(l[len(l)/2]) / 1e3
	b.ReportMetric(p50, what+"-p50-us")
	b.ReportMetric(float64(l[len(l)*99/100])/1e3, what+"-p99-us")
	return p50
}

// BenchmarkExit measures with real processes, from a program's last instruction
// but one: until its event is in the hands of a subscriber, beside a bare hop
// of the same library; and until the first instruction of its hook's command.
func BenchmarkExit(b *testing.B) {
	b.Run("event", func(b *testing.B) { measureExits(b, false) })
	b.Run("hook", func(b *testing.B) { measureExits(b, true) })
}

func measureExits(b *testing.B, hook bool) {
	r := newStampRoom(b)
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	on := ""
	if hook {
		on = fmt.Sprintf(", on: crashed: [{run: {command: %q, args: [%q]}}]", r.dir+"/stamp", r.dir+"/stamps/hooked")
	}
	r.daemon(on)
	bare := r.hop(ctx)
	sub, err := zmq.Subscribe("ipc://"+r.dir+"/run/events.sock", []string{"state.web.", "hook."})
	check(b, err)
	defer sub.Close()
	next := func() (at int64, m map[string]any) {
		_, body, err := sub.NextRaw(ctx)
		at = monotonic()
		check(b, err)
		v, err := rpc.DecodeValue(body)
		check(b, err)
		m, _ = v.(map[string]any)
		return at, m
	}
	pid := r.livingPID()
	var event, hooked, hops latencies
	b.ResetTimer()
	for warm := -3; warm < b.N; warm++ {
		time.Sleep(5 * time.Millisecond) // so that all sleep, as they do in life
		one, err := bare.take(ctx)
		check(b, err)
		check(b, unix.Kill(pid, unix.SIGUSR1))
		for seen := map[string]bool{}; !seen["running"] || hook && !seen["hook"]; {
			at, m := next()
			name, _ := m["event"].(string)
			switch seen[name] = true; name {
			case "running":
				living, _ := m["pid"].(int64)
				pid = int(living)
			case "hook": // its command is done
				hooked = append(hooked, r.stamp("hooked")-r.stamp("end"))
			case "backoff", "exited":
				if _, ended := m["code"]; ended {
					event = append(event, at-r.stamp("end"))
				}
			}
		}
		if hops = append(hops, one); warm == -1 {
			event, hooked, hops = nil, nil, nil
		}
	}
	b.StopTimer()
	p50 := event.report(b, "event")
	b.ReportMetric(p50/hops.report(b, "hop"), "event/hop")
	if hook {
		hooked.report(b, "hook")
	}
}

// livingPID is the program's process, as the kernel lists it.
func (r *stampRoom) livingPID() (pid int) {
	r.b.Helper()
	check(r.b, poll(func() (bool, string) {
		out, err := exec.Command("pgrep", "-f", "^"+r.dir+"/stamp ").Output()
		if err == nil {
			_, err = fmt.Sscan(string(out), &pid)
		}
		return err == nil, string(out)
	}))
	return pid
}
