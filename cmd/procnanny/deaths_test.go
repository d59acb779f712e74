package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/rpc/zmq"
	"github.com/procnanny/procnanny/runtime/daemontest"
	"github.com/procnanny/procnanny/runtime/place"
)

// What programs of these tests do: this test binary again.
const (
	roleVar   = "PROCNANNY_TEST_ROLE"
	ledgerVar = "PROCNANNY_TEST_LEDGER"
	// deathsVar sets how many deaths there are, of all kinds or of some: "300",
	// "keeper=300,both=100".
	deathsVar = "PROCNANNY_TEST_DEATHS"
)

// roles are what the test binary is when it is a program.
var roles = map[string]func(){"writer": writer, "crasher": crasher, "hopper": hopper, "holder": holder, "sleeper": sleeper}

// writer writes numbered lines and never ends; it must never be restarted.
func writer() {
	for i := 1; ; i++ {
		fmt.Println(i)
		time.Sleep(time.Millisecond)
	}
}

// sleeper does nothing, for ever.
func sleeper() { time.Sleep(time.Hour * 24 * 365) }

// holder holds a lock while it lives.
func holder() {
	lock := hold()
	time.Sleep(time.Hour * 24 * 365)
	runtime.KeepAlive(lock)
}

// hold takes the lock of the program's instance, and says where somebody else
// has it.
func hold() *os.File {
	name := filepath.Join(os.Getenv(ledgerVar), os.Getenv("PROCNANNY_PROGRAM")+"."+os.Getenv("PROCNANNY_INSTANCE"))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		os.Exit(251)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = os.WriteFile(name+".overlap", []byte(os.Getenv("PROCNANNY_RUN_ID")), 0o600)
	}
	return f
}

const crasherLines = 300

// crasher holds a lock while it lives, writes numbered lines, and ends with a
// code that its run's number determines.
func crasher() {
	run, _ := strconv.Atoi(os.Getenv("PROCNANNY_RUN_ID"))
	lock := hold()
	for i := range crasherLines {
		fmt.Println(run, i)
	}
	time.Sleep(time.Duration(50+rand.IntN(300)) * time.Millisecond)
	runtime.KeepAlive(lock)
	os.Exit(codeOf(run))
}

func codeOf(run int) int { return run%200 + 1 }

const (
	writers  = 5
	crashers = 5
)

// mortal is a daemon whose processes are killed.
type mortal struct {
	t      *testing.T
	dir    string
	args   []string
	wrap   []string // what executes the daemon
	env    []string // of the daemon, besides ours
	stderr *os.File

	programs map[string]any
	client   rpc.Caller
	pids     map[string]int // of the writers
	took     []time.Duration
	deaths   int
}

func newMortal(t *testing.T, wrap ...string) *mortal {
	t.Helper()
	return newMortalWith(t, mortalOptions{wrap: wrap})
}

// mortalOptions are what some tests want otherwise.
type mortalOptions struct {
	wrap   []string
	env    []string             // of the daemon, besides ours
	change func(map[string]any) // of the programs
}

func newMortalWith(t *testing.T, o mortalOptions) *mortal {
	t.Helper()
	check(t, daemontest.Build())
	dir := daemontest.Dir(t)
	check(t, os.Mkdir(dir+"/ledger", 0o755))
	m := &mortal{t: t, dir: dir, wrap: o.wrap, env: o.env, programs: mortalPrograms(t, dir), args: daemontest.Flags(dir, "--supervised", "no")}
	if o.change != nil {
		o.change(m.programs)
	}
	m.configure()
	var err error
	m.stderr, err = os.Create(filepath.Join(dir, "stderr"))
	check(t, err)
	t.Cleanup(func() { m.stderr.Close() })
	m.client, err = zmq.Dial("ipc://"+dir+"/run/rpc.sock", untilTimeout)
	check(t, err)
	t.Cleanup(func() { m.client.Close() })
	t.Cleanup(m.end)
	m.start()
	err = poll(func() (bool, string) {
		out, _ := exec.Command(daemontest.Bin("procnanny"), "--run", dir+"/run", "status", "writer").CombinedOutput()
		return strings.Count(string(out), " running ") == writers, string(out)
	})
	check(t, err)
	return m
}

// configure saves what the programs are, as an editor does.
func (m *mortal) configure() {
	m.t.Helper()
	b, err := json.Marshal(map[string]any{"programs": m.programs})
	check(m.t, err)
	name := filepath.Join(m.dir, "config", "a.json")
	check(m.t, os.WriteFile(name+"~", b, 0o644))
	check(m.t, os.Rename(name+"~", name))
}

func mortalPrograms(t *testing.T, dir string) map[string]any {
	t.Helper()
	self, err := os.Executable()
	check(t, err)
	program := func(role string, instances int) map[string]any {
		return map[string]any{
			"command": self, "instances": instances, "start": map[string]any{"min_uptime": "0s"},
			"env":     map[string]any{roleVar: role, ledgerVar: dir + "/ledger", "GORACE": "atexit_sleep_ms=0"},
			"restart": map[string]any{"delay": "20ms", "factor": 1, "max_delay": "20ms", "jitter": 0},
			"output":  map[string]any{"rotate": map[string]any{"size": 100 << 10, "keep": 10000}},
		}
	}
	programs := map[string]any{"writer": program("writer", writers)}
	for i := range crashers {
		programs[fmt.Sprintf("crasher%d", i)] = program("crasher", 1)
	}
	return programs
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start is what a person or a service manager does.
func (m *mortal) start() {
	m.t.Helper()
	args := append(slices.Clone(m.wrap), daemontest.Bin("procnannyd"))
	args = append(args, m.args...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr, cmd.Env = m.stderr, append(os.Environ(), m.env...)
	check(m.t, cmd.Start())
	go func() { _ = cmd.Wait() }() // reaps it; however it ends
}

// end ends what is left, also after a failure.
func (m *mortal) end() {
	if m.t.Failed() {
		said, _ := os.ReadFile(m.stderr.Name())
		m.t.Logf("the daemon said at last:\n%s", said[max(0, len(said)-4000):])
	}
	pid, _ := place.Holder(m.dir + "/run")
	if pid == 0 { // nobody holds the programs: who does, can end them
		m.start()
		_ = poll(func() (bool, string) {
			pid, _ = place.Holder(m.dir + "/run")
			_, err := m.ask()
			return pid != 0 && err == nil, ""
		})
	}
	if pid == 0 {
		m.t.Error("there is no daemon to end")
		return
	}
	_ = unix.Kill(pid, unix.SIGTERM)
	for deadline := time.Now().Add(stopTimeout); time.Now().Before(deadline); time.Sleep(untilPause) {
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) || zombie(pid) {
			return
		}
	}
	m.t.Errorf("the daemon (pid %d) does not end", pid)
}

func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(b), ") Z ")
}

// who are the keeper and the control that answer now.
type who struct {
	Keeper  process `msgpack:"keeper"`
	Control process `msgpack:"control"`
}

type process struct {
	PID int `msgpack:"pid"`
}

// settled waits until somebody answers, and says who; the writers must be the
// same processes as ever.
func (m *mortal) settled(since time.Time) (w who) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), untilTimeout)
	defer cancel()
	err := m.client.Call(ctx, "version", nil, &w)
	if err != nil {
		m.t.Fatalf("nobody answers: %v", err)
	}
	var reply struct {
		Programs map[string]struct {
			Instances map[int]process `msgpack:"instances"`
		} `msgpack:"programs"`
	}
	check(m.t, m.client.Call(ctx, "status", map[string]any{"program": "writer"}, &reply))
	if !since.IsZero() {
		m.took = append(m.took, time.Since(since))
	}
	pids := map[string]int{}
	for i, v := range reply.Programs["writer"].Instances {
		pids["writer/"+strconv.Itoa(i)] = v.PID
	}
	if len(pids) != writers {
		m.t.Fatalf("the writers are %v", pids)
	}
	if m.pids == nil {
		m.pids = pids
	}
	for name, pid := range pids {
		if m.pids[name] != pid || pid == 0 {
			m.t.Fatalf("%s has pid %d, it had %d", name, pid, m.pids[name])
		}
	}
	return w
}

// renewed waits until others answer than those who did.
func (m *mortal) renewed(old who, keeper bool) who {
	m.t.Helper()
	since := time.Now()
	for deadline := since.Add(untilTimeout); ; time.Sleep(2 * time.Millisecond) {
		w, err := m.ask()
		if err == nil && w.Control.PID != old.Control.PID && (!keeper || w.Keeper.PID != old.Keeper.PID) {
			return m.settled(since)
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("no others answer: %v, %+v after %+v", err, w, old)
		}
	}
}

// askTimeout is how long one who was there when we asked may take to answer on a
// busy machine; who has died meanwhile never will.
const askTimeout = time.Second

// ask asks once, on a connection of its own.
func (m *mortal) ask() (w who, err error) {
	client, err := zmq.Dial("ipc://"+m.dir+"/run/rpc.sock", askTimeout)
	if err != nil {
		return w, err
	}
	defer client.Close()
	return w, client.Call(context.Background(), "version", nil, &w)
}

// dawdle lets some time pass. Every fourth time it is so long that who died young
// before is forgotten: else they would be started ever more slowly.
func (m *mortal) dawdle() {
	time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
	if m.deaths++; m.deaths%4 == 0 {
		time.Sleep(1100 * time.Millisecond)
	}
}

// kinds are the deaths, with how many of each there are in a usual test.
var kinds = []struct {
	name  string
	times int
	happy bool // no end of a program may be unknown
	do    func(*mortal, who) who
}{
	{"control", 20, true, func(m *mortal, w who) who {
		check(m.t, unix.Kill(w.Control.PID, unix.SIGKILL))
		return m.renewed(w, false)
	}},
	{"keeper", 20, true, func(m *mortal, w who) who {
		check(m.t, unix.Kill(w.Keeper.PID, unix.SIGKILL))
		return m.renewed(w, true)
	}},
	{"upgrade", 8, true, func(m *mortal, w who) who {
		check(m.t, m.client.Call(context.Background(), "upgrade", nil, nil))
		next := m.renewed(w, false)
		if next.Keeper.PID != w.Keeper.PID {
			m.t.Fatalf("the keeper's pid was %d and is %d", w.Keeper.PID, next.Keeper.PID)
		}
		return next
	}},
	{"both", 10, false, func(m *mortal, w who) who {
		check(m.t, unix.Kill(w.Control.PID, unix.SIGSTOP)) // so that it raises no other first
		check(m.t, unix.Kill(w.Keeper.PID, unix.SIGKILL))
		if err := unix.Kill(w.Control.PID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			m.t.Fatal(err)
		}
		_ = poll(func() (bool, string) {
			return errors.Is(unix.Kill(w.Keeper.PID, 0), unix.ESRCH) || zombie(w.Keeper.PID), ""
		})
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		m.start()
		return m.renewed(w, true)
	}},
}

// Whoever of us dies, at whatever moment: no program ends, starts twice or
// loses a line, and every end is known.
func TestDeaths(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			m := newMortal(t)
			w := m.settled(time.Time{})
			for range deaths(kind.name, kind.times) {
				m.dawdle()
				w = kind.do(m, w)
			}
			m.judge(kind.happy)
		})
	}
}

// mayMount is why we cannot have mounts of our own: a container's root, or one in
// a chroot, may not.
var mayMount = sync.OnceValue(func() error {
	out, err := exec.Command("unshare", "--mount", "true").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return err
})

// noCgroups executes a program where no cgroup v2 is mounted.
var noCgroups = []string{"unshare", "--mount", "sh", "-c", `umount -a -t cgroup2 && exec "$@"`, "sh"}

// Without cgroups it is no different: notes tell what lives.
func TestDeathsWithoutCgroups(t *testing.T) {
	if err := mayMount(); err != nil {
		t.Skip("unmounting needs privilege:", err)
	}
	for _, kind := range kinds {
		if kind.name == "control" {
			continue // the keeper holds everything all the time
		}
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			m := newMortal(t, noCgroups...)
			w := m.settled(time.Time{})
			for range deaths("sweep-"+kind.name, kind.times/2) {
				m.dawdle()
				w = kind.do(m, w)
			}
			said, err := os.ReadFile(m.stderr.Name())
			if check(t, err); !strings.Contains(string(said), "no cgroup contains the programs") {
				t.Error("there are cgroups")
			}
			m.judge(kind.happy)
		})
	}
}

func deaths(kind string, usual int) int {
	for part := range strings.SplitSeq(os.Getenv(deathsVar), ",") {
		name, n, named := strings.Cut(part, "=")
		if !named {
			name, n = kind, part
		}
		if name != kind || n == "" {
			continue
		}
		var err error
		if usual, err = strconv.Atoi(n); err != nil {
			panic(deathsVar + ": " + err.Error())
		}
	}
	if testing.Short() {
		usual = min(usual, 3)
	}
	return usual
}

// judge stops everything and reads what was written.
func (m *mortal) judge(happy bool) {
	m.t.Helper()
	if out, err := exec.Command(daemontest.Bin("procnanny"), "--run", m.dir+"/run", "stop", "--all", "--wait").CombinedOutput(); err != nil {
		m.t.Fatalf("cannot stop: %v\n%s", err, out)
	}
	if overlaps, _ := filepath.Glob(m.dir + "/ledger/*.overlap"); len(overlaps) > 0 {
		m.t.Errorf("two copies at once: %v", overlaps)
	}
	lines := 0
	for i := range writers {
		lines += m.judgeWriter(i)
	}
	var all tally
	for i := range crashers {
		m.judgeCrasher(fmt.Sprintf("crasher%d", i), happy, &all)
	}
	if happy && all.unknown+all.cut > 0 {
		m.t.Errorf("%d ends are unknown, the output of %d runs is not whole", all.unknown, all.cut)
	}
	slices.Sort(m.took)
	m.t.Logf("%d deaths; %d lines of writers, %d ends of crashers (%d unknown, %d not started, %d with output cut); status again after %v (median), %v (most)",
		len(m.took), lines, all.ends, all.unknown, all.never, all.cut, m.took[len(m.took)/2].Round(time.Millisecond), m.took[len(m.took)-1].Round(time.Millisecond))
}

func (m *mortal) output(target string) [][]byte {
	m.t.Helper()
	cmd := exec.Command(daemontest.Bin("procnanny"), "--run", m.dir+"/run", "logs", "--raw", target)
	out, err := cmd.Output()
	check(m.t, err)
	return linesOf(out)
}

// linesOf are the lines of an output. One that is empty has none: of a program
// whose runs all ended while none of us lived, nothing may be there.
func linesOf(out []byte) [][]byte {
	if len(out) == 0 {
		return nil
	}
	return bytes.Split(bytes.TrimSuffix(out, []byte("\n")), []byte("\n"))
}

// No output is no line, but a line that is empty is one: nobody wrote it, and
// whoever judges must see it.
func TestNoOutputIsNoLine(t *testing.T) {
	for out, want := range map[string]int{"": 0, "\n": 1, "1 0": 1, "1 0\n": 1, "\n1 0\n": 2, "1 0\n\n": 2} {
		lines := linesOf([]byte(out))
		if len(lines) != want {
			t.Errorf("%q has %d lines, it should have %d", out, len(lines), want)
		}
		for _, line := range lines {
			if _, _, ok := nextLine(string(line), 0, map[int]int{}); ok != (len(line) > 0) {
				t.Errorf("%q of %q may be a run's first line: %t", line, out, ok)
			}
		}
	}
}

func (m *mortal) judgeWriter(i int) int {
	m.t.Helper()
	lines := m.output(fmt.Sprintf("writer/%d", i))
	if len(lines) == 0 {
		m.t.Errorf("writer/%d wrote nothing", i)
	}
	for n, line := range lines {
		if string(line) != strconv.Itoa(n+1) {
			m.t.Errorf("writer/%d: line %d is %q", i, n+1, line)
			break
		}
	}
	return len(lines)
}

// tally counts the runs of crashers.
type tally struct{ ends, unknown, never, cut int }

// nextLine is the run and number of a line that may follow. Where a run's output
// was cut, in the middle of a line perhaps, the next run's first line follows.
func nextLine(line string, last int, wrote map[int]int) (run, n int, ok bool) {
	if _, err := fmt.Sscan(line, &run, &n); err == nil && n == wrote[run] && run >= last {
		return run, n, true
	}
	due := fmt.Sprint(last, wrote[last])
	for i := 1; i <= len(due) && strings.HasPrefix(line, due[:i]); i++ {
		if _, err := fmt.Sscan(line[i:], &run, &n); err == nil && n == 0 && run > last {
			return run, n, true
		}
	}
	return 0, 0, false
}

// judgeCrasher compares the history of a program with what it wrote. A run
// that ended while none of us lived may lack lines; no other may.
func (m *mortal) judgeCrasher(program string, happy bool, all *tally) {
	m.t.Helper()
	wrote := map[int]int{}
	last := 0
	for _, line := range m.output(program + "/0") {
		run, n, ok := nextLine(string(line), last, wrote)
		if !ok { // never twice, never out of order
			m.t.Errorf("%s: %q follows line %d of run %d", program, line, wrote[last]-1, last)
			break
		}
		last = run
		wrote[run] = n + 1
	}
	var reply struct {
		Runs []struct {
			ID      int      `msgpack:"run_id"`
			Code    int      `msgpack:"exitcode"`
			Signal  int      `msgpack:"exitsignal"`
			Unknown bool     `msgpack:"exit_unknown"`
			Error   string   `msgpack:"error"`
			End     *float64 `msgpack:"end"`
		} `msgpack:"runs"`
	}
	check(m.t, m.client.Call(context.Background(), "history", map[string]any{"program": program}, &reply))
	for _, r := range reply.Runs {
		stopped := r.Signal == int(unix.SIGTERM) && r.ID == reply.Runs[len(reply.Runs)-1].ID
		all.ends++
		switch {
		case r.End == nil:
			m.t.Errorf("%s: run %d has no end", program, r.ID)
		case r.Unknown && strings.Contains(r.Error, "nobody knows") && (!happy || wrote[r.ID] == 0): // the keeper died between the note of a start and the start
			all.never++
		case r.Unknown:
			all.unknown++
		case r.Error != "" && wrote[r.ID] == 0: // told as what it is: nothing ran
			all.never++
			if !strings.Contains(r.Error, "the order to start it was lost") {
				m.t.Logf("%s: run %d: %s", program, r.ID, r.Error)
			}
		case r.Error != "":
			m.t.Errorf("%s: run %d wrote %d lines, and is said not to have run: %s", program, r.ID, wrote[r.ID], r.Error)
		case r.Code != codeOf(r.ID) && !stopped:
			m.t.Errorf("%s: run %d ended with %d, signal %d", program, r.ID, r.Code, r.Signal)
		case wrote[r.ID] != crasherLines && !stopped:
			m.t.Logf("%s: run %d has %d lines", program, r.ID, wrote[r.ID])
			all.cut++
		}
	}
}
