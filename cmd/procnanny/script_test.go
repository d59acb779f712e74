package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/daemontest"
	"github.com/procnanny/procnanny/runtime/launch"
	"github.com/procnanny/procnanny/runtime/place"
)

// How long tests wait, and how they do it.
const (
	untilTimeout = daemontest.Patience
	untilPause   = daemontest.Pause
	stopTimeout  = daemontest.StopTimeout
)

func poll(ok func() (bool, string)) error { return daemontest.Poll(ok) }

func TestMain(m *testing.M) {
	if role := roles[os.Getenv(roleVar)]; role != nil {
		role()
	}
	os.Exit(daemontest.Main(m))
}

// TestScripts runs testdata/script: one script for each thing a person does.
// Beside testscript's own commands there are:
//
//	daemon [FLAG...]       start procnannyd on $WORK/config, with $STATE, $RUN and $LOGS, and wait until it answers
//	stopdaemon [SIGNAL]    end it (TERM), and fail unless it ends with 0; a killed one is only waited for
//	smalldisk DIR SIZE     mount a small file system on a new directory, as root, until the script ends
//	until COMMAND REGEXP   run COMMAND with sh until its output matches; with ! until it does not
func TestScripts(t *testing.T) {
	check(t, daemontest.Build()) // some scripts start them by name
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		Setup:               setUp,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "mount": // may mount file systems, as nobody else sees them
				return mayMount() == nil, nil
			case "resource": // may raise hard limits
				return launch.May(unix.CAP_SYS_RESOURCE), nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"daemon": startDaemon, "stopdaemon": stopDaemon, "until": until, "smalldisk": smallDisk,
		},
	})
}

// setUp gives a script its environment: our commands, short paths for sockets,
// and nothing of procnanny from outside.
func setUp(env *testscript.Env) error {
	short, err := os.MkdirTemp("/tmp", "pn")
	if err != nil {
		return err
	}
	env.Defer(func() { os.RemoveAll(short) })
	// The daemon of root wants places that nobody else can write.
	if err := os.Chmod(env.WorkDir, 0o755); err != nil {
		return err
	}
	env.Setenv("PATH", filepath.Dir(daemontest.Bin("procnanny"))+string(filepath.ListSeparator)+env.Getenv("PATH"))
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("TZ", "UTC")
	env.Setenv("NO_COLOR", "")
	env.Setenv("RUN", short+"/run")
	env.Setenv("STATE", short+"/state")
	env.Setenv("LOGS", short+"/log")
	env.Setenv("PROCNANNY_RUN", short+"/run")
	env.Setenv("LOOP", loopback())
	return nil
}

// scripts counts the scripts of this process.
var scripts atomic.Uint32

// loopback is an address that nobody else uses, so that every port is free.
func loopback() string {
	n := uint32(os.Getpid())<<6 | scripts.Add(1)&63
	return fmt.Sprintf("127.%d.%d.%d", 1+n>>16%250, n>>8&255, 1+n&255%250)
}

// running is the daemon of a script.
type running struct {
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	done   chan error
}

// daemons has the running daemon of each script.
var daemons sync.Map

func startDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! daemon (use: ! exec procnannyd ...)")
	}
	d := &running{stderr: &bytes.Buffer{}, done: make(chan error, 1)}
	args = append([]string{
		"--config", ts.MkAbs("config"), "--state", ts.Getenv("STATE"), "--run", ts.Getenv("RUN"), "--log-dir", ts.Getenv("LOGS"),
	}, args...)
	d.cmd = exec.Command(daemontest.Bin("procnannyd"), args...)
	d.cmd.Dir, d.cmd.Env, d.cmd.Stderr = ts.MkAbs("."), scriptEnv(ts), d.stderr
	ts.Check(d.cmd.Start())
	go func() { d.done <- d.cmd.Wait() }()
	if _, twice := daemons.LoadOrStore(ts, d); twice {
		_ = d.cmd.Process.Kill()
		ts.Fatalf("this script has a daemon already")
	}
	ts.Defer(func() { d.end(ts); endSuccessor(ts) })
	ts.Setenv("DAEMON", fmt.Sprint(d.cmd.Process.Pid))
	err := poll(func() (bool, string) {
		out, err := shell(ts, "procnanny status").CombinedOutput()
		return err == nil, string(out)
	})
	if err != nil {
		ts.Fatalf("the daemon does not answer: %v\nit says:\n%s", err, d.stderr)
	}
}

// end ends what a script left behind.
func (d *running) end(ts *testscript.TestScript) {
	if v, ok := daemons.Load(ts); !ok || v != d {
		return
	}
	daemons.Delete(ts)
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(stopTimeout):
		_ = d.cmd.Process.Kill()
	}
	ts.Logf("the daemon said:\n%s", d.stderr)
}

// endSuccessor ends a daemon that took the place of a killed one, which the
// script cannot know.
func endSuccessor(ts *testscript.TestScript) {
	if pid, _ := place.Holder(ts.Getenv("RUN")); pid == 0 {
		return
	}
	if out, err := shell(ts, "procnanny shutdown --wait").CombinedOutput(); err != nil {
		ts.Logf("a daemon is left: %v\n%s", err, out)
	}
}

func stopDaemon(ts *testscript.TestScript, _ bool, args []string) {
	v, ok := daemons.LoadAndDelete(ts)
	if !ok {
		ts.Fatalf("this script has no daemon")
	}
	d := v.(*running)
	sig := syscall.SIGTERM
	if len(args) > 0 && args[0] == "KILL" {
		sig = syscall.SIGKILL
	}
	ts.Check(d.cmd.Process.Signal(sig))
	select {
	case err := <-d.done:
		if err != nil && sig == syscall.SIGTERM {
			ts.Fatalf("the daemon did not end well: %v\nit said:\n%s", err, d.stderr)
		}
	case <-time.After(stopTimeout):
		_ = d.cmd.Process.Kill()
		ts.Fatalf("the daemon did not end within %v; it said:\n%s", stopTimeout, d.stderr)
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: until COMMAND REGEXP")
	}
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	err = poll(func() (bool, string) {
		out, _ := shell(ts, args[0]).CombinedOutput() // its exit code is the script's business
		return re.Match(out) != neg, string(out)
	})
	if err != nil {
		ts.Fatalf("until %q %q: %v", args[0], args[1], err)
	}
}

func smallDisk(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: smalldisk DIR SIZE")
	}
	ts.Check(os.Mkdir(args[0], 0o750))
	ts.Check(unix.Mount("tmpfs", args[0], "tmpfs", 0, "mode=750,size="+args[1]))
	ts.Defer(func() { _ = unix.Unmount(args[0], unix.MNT_DETACH) })
}

func shell(ts *testscript.TestScript, line string) *exec.Cmd {
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir, cmd.Env = ts.MkAbs("."), scriptEnv(ts)
	return cmd
}

// scriptEnv is the script's environment, as far as our commands need it.
func scriptEnv(ts *testscript.TestScript) []string {
	var env []string
	for _, key := range []string{"PATH", "HOME", "TZ", "NO_COLOR", "RUN", "STATE", "LOGS", "LOOP", "WORK", "TMPDIR", "DAEMON", "PROCNANNY_RUN", "PROCNANNY_CONNECT", "PROCNANNY_CONFIG"} {
		if v := ts.Getenv(key); v != "" || strings.HasPrefix(key, "NO_") {
			env = append(env, key+"="+v)
		}
	}
	return env
}
