package daemontest

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// How long tests wait for what must happen some time, how often they look, and
// how long a daemon may take to end.
const (
	Patience    = time.Minute
	Pause       = 30 * time.Millisecond
	StopTimeout = time.Minute
)

// Poll looks until ok, or says what it saw last.
func Poll(ok func() (good bool, saw string)) error {
	for deadline := time.Now().Add(Patience); ; time.Sleep(Pause) {
		good, saw := ok()
		if good {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not after %v; at last:\n%s", Patience, saw)
		}
	}
}

// Dir makes a directory for a daemon until the test is over, with an empty config
// in it.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pn")
	if err == nil {
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		err = os.Mkdir(dir+"/config", 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Flags have procnannyd read dir/config and keep all else in dir as well.
func Flags(dir string, more ...string) []string {
	return append([]string{"--config", dir + "/config", "--state", dir + "/state", "--run", dir + "/run", "--log-dir", dir + "/log"}, more...)
}

// Environ is our environment without anything of procnanny, and with more.
func Environ(more ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "PROCNANNY_") })
	return append(env, more...)
}

// Daemon is a procnannyd of a test.
type Daemon struct {
	// Dir has everything in it: see [Flags].
	Dir string
	// Wrap, unless empty, is the beginning of the command line that executes it.
	Wrap []string

	t    testing.TB
	cmd  *exec.Cmd
	done chan error
}

// New makes a daemon that has not started yet, in a directory of its own.
func New(t testing.TB) *Daemon {
	t.Helper()
	return &Daemon{Dir: Dir(t), t: t}
}

// Start starts it. When the test is over it is stopped, and must end well.
func (d *Daemon) Start(flags ...string) {
	d.t.Helper()
	if err := Build(); err != nil {
		d.t.Fatal(err)
	}
	// Not a buffer: whoever has it open would keep Wait from returning.
	stderr, err := os.Create(d.Dir + "/stderr")
	if err != nil {
		d.t.Fatal(err)
	}
	defer stderr.Close()
	args := append(append(slices.Clone(d.Wrap), Bin("procnannyd")), Flags(d.Dir, flags...)...)
	d.cmd, d.done = exec.Command(args[0], args[1:]...), make(chan error, 1)
	d.cmd.Env, d.cmd.Stderr = Environ(), stderr
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	go func() { d.done <- d.cmd.Wait() }()
	d.t.Cleanup(d.stop)
}

func (d *Daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-d.done:
		if err != nil {
			d.t.Errorf("procnannyd did not end well: %v", err)
		}
	case <-time.After(StopTimeout):
		_ = d.cmd.Process.Kill()
		d.t.Errorf("procnannyd did not end within %v of TERM", StopTimeout)
	}
	if d.t.Failed() {
		said, _ := os.ReadFile(d.Dir + "/stderr")
		d.t.Logf("procnannyd said at last:\n%s", said[max(0, len(said)-4000):])
	}
}

// PID is the process that was started.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Run is the directory of its sockets.
func (d *Daemon) Run() string { return d.Dir + "/run" }

// Endpoint is where it takes requests.
func (d *Daemon) Endpoint() string { return "ipc://" + d.Run() + "/rpc.sock" }
