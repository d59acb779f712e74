package keeper

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/spec"
)

func countFDs(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(t, err)
	return len(list)
}

func countThreads(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	must(t, err)
	return len(list)
}

// exitsVar sets how often TestThousandExitsAtOnce has a thousand processes end.
const exitsVar = "PROCNANNY_TEST_EXITS"

// A thousand processes end in one instant: each end is seen once, with its code.
func TestThousandExitsAtOnce(t *testing.T) {
	rounds := 1
	if n, err := strconv.Atoi(os.Getenv(exitsVar)); err == nil {
		rounds = n
	}
	r := startRig(t, testConfig{})
	var took []time.Duration
	for round := range rounds {
		took = append(took, r.exitAtOnce(round))
	}
	slices.Sort(took)
	t.Logf("%d times a thousand ends, all of them known after %v (median), %v (most)", rounds, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
}

// exitAtOnce starts a thousand processes that wait, lets all of them end, and says
// how long it took to know of it.
func (r *rig) exitAtOnce(round int) time.Duration {
	const n = 1000
	t := r.t
	t.Helper()
	path := fmt.Sprintf("%s/gate.%d", r.c.Dir, round)
	orders, codes := make([]Order, n), map[uint64]int{}
	for i := range orders {
		code := (i + round) % 256
		orders[i] = r.shell(i, fmt.Sprintf("read x; exit %d", code))
		orders[i].Start.Launch.Stdin = path
		codes[orders[i].Start.Run] = code
	}
	gate, release := openGate(t, path)
	defer gate()
	r.send(orders...)
	for _, o := range orders {
		r.next(FactStarted, o.Start.Run)
	}
	release()
	began := time.Now()
	seen, empty := map[uint64]int{}, 0
	for len(seen) < n || empty < n {
		facts, err := r.conn.Recv()
		must(t, err)
		for _, f := range append(r.facts, facts...) {
			if f.Kind == FactEmptied {
				empty++
			}
			if f.Kind != FactExited {
				continue
			}
			seen[f.Run]++
			if want, ours := codes[f.Run]; !ours || f.Code != want || seen[f.Run] > 1 {
				t.Fatalf("run %d: code %d, want %d, seen %d times", f.Run, f.Code, want, seen[f.Run])
			}
		}
		r.facts = nil
	}
	took := time.Since(began)
	acks := make([]Order, n)
	for i, o := range orders {
		acks[i] = Order{Kind: OrderAck, Run: o.Start.Run, Program: "web", Index: i}
	}
	r.send(acks...)
	return took
}

// openGate makes a FIFO that blocks its readers until release.
func openGate(t testing.TB, path string) (done, release func()) {
	t.Helper()
	must(t, mkfifo(path))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	return func() { f.Close() }, func() {
		_, err := f.WriteString(strings.Repeat("\n", 1000))
		must(t, err)
	}
}

func TestNothingLeaks(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		pid := r.cmd.Process.Pid
		warm := r.begin(0, "exit 0").Run
		r.next(FactEmptied, warm)
		r.poll("log files to be closed", func() bool { return !holdsLog(pid) })
		fds, threads := countFDs(t, pid), countThreads(t, pid)
		starts := 2000
		if c.Sweep {
			starts = 300
		}
		for done := 0; done < starts; done += 50 {
			var orders []Order
			for i := range 50 {
				o := r.shell(i, "")
				o.Start.Launch.Candidates, o.Start.Launch.Argv = []string{"/bin/echo"}, []string{"echo", "hello"}
				if i%2 == 1 {
					o.Start.Launch.Mode = spec.OutputMode{Kind: "separate"}
				}
				if i%10 == 9 {
					o.Start.Launch.Candidates = []string{"/nonexistent"}
				}
				orders = append(orders, o)
			}
			r.send(orders...)
			for i, o := range orders {
				if i%10 == 9 {
					if f := r.next(FactStartFailed, o.Start.Run); f.Errno != 2 || f.Step == "" {
						t.Fatalf("%+v", f)
					}
					continue
				}
				r.next(FactEmptied, o.Start.Run)
				r.send(Order{Kind: OrderAck, Run: o.Start.Run})
			}
		}
		for i := range 50 {
			r.send(Order{Kind: OrderForget, Program: "web", Index: i})
		}
		r.poll(fmt.Sprintf("descriptors to be %d again", fds), func() bool { return countFDs(t, pid) <= fds })
		if now := countThreads(t, pid); now > threads+16 { // a busy machine has Go make some, once
			t.Errorf("threads: %d, before %d", now, threads)
		}
		r.send(Order{Kind: OrderAck, Run: warm})
		r.poll("all notes to be removed", func() bool {
			notes, _ := os.ReadDir(r.c.Dir + "/keeper")
			return len(notes) == 0
		})
	})
}

// An idle instance costs two descriptors, three with separate output, and the first
// of them one more each.
func TestWhatIdleInstancesCost(t *testing.T) {
	r := startRig(t, testConfig{})
	pid := r.cmd.Process.Pid
	if r.hello.Contain != "cgroup" {
		t.Skip("no cgroup v2 that we may write to:", r.hello.Degraded)
	}
	more := mayKeep(noFile())
	before := countFDs(t, pid)
	var orders []Order
	for i := range more + 20 {
		orders = append(orders, r.shell(i, "exec sleep 100"))
		if i < 10 {
			orders[i].Start.Launch.Mode = spec.OutputMode{Kind: "separate"}
		}
	}
	r.send(orders...)
	for _, o := range orders {
		r.next(FactStarted, o.Start.Run)
	}
	want := 2*len(orders) + 10 + more
	r.poll(fmt.Sprintf("%d instances to cost %d descriptors", len(orders), want), func() bool { return countFDs(t, pid) == before+want })
}

// holdsLog reports whether a process has a log file open.
func holdsLog(pid int) bool {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		if name, _ := os.Readlink(dir + e.Name()); strings.Contains(name, "/log/web/") {
			return true
		}
	}
	return false
}
