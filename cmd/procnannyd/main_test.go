package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/launch"
	"github.com/procnanny/procnanny/spec"
)

// This test binary is the daemon when roleVar says so, and its control when it
// is executed under control's name.
const roleVar = "PROCNANNYD_TEST_ROLE"

func TestMain(m *testing.M) {
	switch {
	case filepath.Base(os.Args[0]) == "procnanny-control":
		os.Exit(control())
	case os.Getenv(roleVar) == "daemon":
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// control says what it was given, starts as many sleepers as a variable says,
// and stops everything when it is asked to.
func control() int {
	conn, _, err := keeper.Connect(os.NewFile(3, "keeper"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	given, _ := json.Marshal(map[string]any{"args": os.Args[1:], "env": os.Environ(), "pid": os.Getpid()})
	said := os.Getenv("PROCNANNYD_TEST_SAID")
	if os.WriteFile(said+"~", given, 0o600) != nil || os.Rename(said+"~", said) != nil {
		return 1
	}
	n, _ := strconv.Atoi(os.Getenv("PROCNANNYD_TEST_SLEEPERS"))
	living := 0
	for i := range n {
		_ = conn.Send([]keeper.Order{{Kind: keeper.OrderStart, Start: &keeper.Start{
			Program: "sleeper", Index: i, Run: uint64(i + 1),
			Launch: launch.Request{
				Candidates: []string{"/bin/sleep"}, Argv: []string{"sleep", "1000"}, Dir: "/", Stdin: "null",
				Env: []string{"PATH=/bin"}, Mode: spec.OutputMode{Kind: "merged"},
			},
		}}})
	}
	asked := false
	for {
		facts, err := conn.Recv()
		if err != nil {
			return 0
		}
		for _, f := range facts {
			switch f.Kind {
			case keeper.FactStarted:
				if living++; living == n {
					_ = os.WriteFile(said+".all", nil, 0o600)
				}
			case keeper.FactEmptied:
				living--
			case keeper.FactAsked:
				asked = asked || f.Signal == spec.SIGTERM
				for i := range n {
					_ = conn.Send([]keeper.Order{{Kind: keeper.OrderKill, Run: uint64(i + 1), Signal: spec.SIGKILL}})
				}
			default:
			}
		}
		if asked && living == 0 {
			_ = conn.Send([]keeper.Order{{Kind: keeper.OrderShutdown}})
		}
	}
}

type daemon struct {
	t    testing.TB
	dir  string
	args []string
}

func newDaemon(t testing.TB) *daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "daemon")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	must(t, err)
	must(t, os.Mkdir(dir+"/libexec", 0o755))
	must(t, os.Symlink(self, dir+"/libexec/procnanny-control"))
	must(t, os.Mkdir(dir+"/etc", 0o755))
	must(t, os.WriteFile(dir+"/etc/a.cue", nil, 0o644))
	return &daemon{t, dir, []string{"--config", dir + "/etc", "--state", dir + "/state", "--run", dir + "/run", "--log-dir", dir + "/log"}}
}

func (d *daemon) command(args []string, env ...string) (*exec.Cmd, *strings.Builder) {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVar+"=daemon", "PROCNANNY_LIBEXEC="+d.dir+"/libexec", "PROCNANNYD_TEST_SAID="+d.dir+"/said",
		"NOTIFY_SOCKET=@nobody-listens-here", "LISTEN_FDS=1", "WATCHDOG_USEC=1", "HARMLESS=yes", "GORACE=atexit_sleep_ms=0")
	cmd.Env = append(cmd.Env, env...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

// start starts a daemon and waits until its control has said what it was given.
func (d *daemon) start(env ...string) *exec.Cmd {
	d.t.Helper()
	cmd, out := d.command(d.args, env...)
	must(d.t, cmd.Start())
	d.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
			defer late.Stop()
			_ = cmd.Wait()
		}
		if d.t.Failed() {
			d.t.Log(out)
		}
	})
	d.wait(d.dir + "/said")
	return cmd
}

func (d *daemon) wait(file string) {
	d.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("%s does not come", file)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDaemonStartsControlAndStops(t *testing.T) {
	d := newDaemon(t)
	cmd := d.start()
	var said struct {
		Args, Env []string
		PID       int
	}
	b, err := os.ReadFile(d.dir + "/said")
	must(t, err)
	must(t, json.Unmarshal(b, &said))
	if args := strings.Join(said.Args, " "); !strings.Contains(args, d.dir+"/state") || !strings.Contains(args, d.dir+"/etc") {
		t.Errorf("control was given %q", args)
	}
	env := strings.Join(said.Env, "\n")
	if strings.Contains(env, "NOTIFY_SOCKET") || strings.Contains(env, "LISTEN_FDS") || strings.Contains(env, "WATCHDOG") || !strings.Contains(env, "HARMLESS=yes") {
		t.Errorf("control's environment:\n%s", env)
	}

	second, out := d.command(d.args)
	err = second.Run()
	if want := strconv.Itoa(cmd.Process.Pid); err == nil || second.ProcessState.ExitCode() != 1 || !strings.Contains(out.String(), want) {
		t.Errorf("a second daemon: %v, %s", err, out)
	}

	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		t.Errorf("after TERM: %v", err)
	}
	if err := syscall.Kill(said.PID, 0); err == nil {
		t.Error("control lives on")
	}
}

func TestCommandLine(t *testing.T) {
	d := newDaemon(t)
	for _, c := range []struct {
		args []string
		env  string
		code int
		want string
	}{
		{[]string{"--help"}, "", 0, "--state"},
		{[]string{"--version"}, "", 0, "procnannyd " + version},
		{[]string{"--nonsense"}, "", 2, "nonsense"},
		{d.args, "PROCNANNY_LIBEXEC=/nonexistent", 1, "procnanny-control"},
		{append(d.args[:6:6], "--log-dir", d.dir+"/etc/a.cue/log"), "", 1, "a.cue"},
	} {
		cmd, out := d.command(c.args, c.env)
		err := cmd.Run()
		if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%q %s: %v: %s", c.args, c.env, err, out)
		}
	}
}

// BenchmarkMemory is what a thousand idle instances cost: "pss" of a process of
// this test, whose binary is larger than the daemon's, and its growth.
func BenchmarkMemory(b *testing.B) {
	d := newDaemon(b)
	empty := d.start("PROCNANNYD_TEST_SLEEPERS=0")
	time.Sleep(4 * time.Second)
	before := pss(b, empty.Process.Pid)
	must(b, empty.Process.Signal(syscall.SIGTERM))
	_ = empty.Wait()
	cmd := d.start("PROCNANNYD_TEST_SLEEPERS=1000")
	d.wait(d.dir + "/said.all")
	time.Sleep(4 * time.Second) // memory is given back after three
	after, woken := pss(b, cmd.Process.Pid), wakeups(cmd.Process.Pid)
	time.Sleep(5 * time.Second)
	b.ReportMetric(float64(wakeups(cmd.Process.Pid)-woken), "wakeups/5s")
	b.ReportMetric(float64(before), "pss-KiB")
	b.ReportMetric(float64(after-before)*1024/1000, "B/instance")
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", cmd.Process.Pid))
	b.ReportMetric(float64(len(tasks)), "threads")
}

func pss(b *testing.B, pid int) (kib int) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	must(b, err)
	_, rest, _ := strings.Cut(string(text), "\nPss:")
	_, _ = fmt.Sscan(rest, &kib)
	return kib
}

// wakeups counts how often the threads of a process were switched to.
func wakeups(pid int) (sum int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		_, rest, _ := strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
		n := 0
		_, _ = fmt.Sscan(rest, &n)
		sum += n
	}
	return sum
}
