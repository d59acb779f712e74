package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bin holds the four commands and the Go client, built from this tree.
var bin string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("/tmp", "procnanny-examples")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", bin+"/",
		"../cmd/procnannyd", "../cmd/procnanny-control", "../cmd/procnanny-eval", "../cmd/procnanny")
	client := exec.Command("go", "build", "-buildvcs=false", "-o", bin+"/client", "./clients/go")
	for _, cmd := range []*exec.Cmd{build, client} {
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "cannot build the commands: %v\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}

// wait looks until ok says yes, for at most 20 seconds.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s in vain: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// daemon is a procnannyd of our own on a copy of some files.
type daemon struct {
	t      *testing.T
	config string
	run    string
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	done   chan error
	env    []string // of clients, beside where the sockets are
}

// startDaemon starts procnannyd on copies of files and stops it when the test
// ends, which it must do well.
func startDaemon(t *testing.T, files ...string) *daemon {
	t.Helper()
	return startDaemonWith(t, func(string) []string { return nil }, files...)
}

// startDaemonWith is startDaemon with flags, which may need the directory that
// everything is in.
func startDaemonWith(t *testing.T, flags func(dir string) []string, files ...string) *daemon {
	t.Helper()
	// Not t.TempDir: the path of a socket has 107 bytes, and a daemon of root
	// wants places that nobody else can write.
	dir, err := os.MkdirTemp("/tmp", "pn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &daemon{t: t, config: dir + "/config", run: dir + "/run", stderr: &bytes.Buffer{}, done: make(chan error, 1)}
	copyFiles(t, d.config, files...)
	args := append([]string{"--config", d.config, "--state", dir + "/state", "--run", d.run, "--log-dir", dir + "/logs"}, flags(dir)...)
	d.cmd = exec.Command(bin+"/procnannyd", args...)
	d.cmd.Stderr = d.stderr
	d.cmd.Env = clean()
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.done <- d.cmd.Wait() }()
	t.Cleanup(d.stop)
	return d
}

func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-d.done:
		if err != nil {
			d.t.Errorf("procnannyd did not end well: %v", err)
		}
	case <-time.After(30 * time.Second):
		_ = d.cmd.Process.Kill()
		d.t.Error("procnannyd did not end within 30 s of TERM")
	}
	if d.t.Failed() {
		d.t.Logf("procnannyd said:\n%s", d.stderr)
	}
}

// clean is our environment without anything of procnanny.
func clean() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PROCNANNY_") {
			env = append(env, kv)
		}
	}
	return env
}

// command is a command that talks to d. One that hangs is killed after a
// minute, which fails the test and not the whole run.
func (d *daemon) command(name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	d.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(append(clean(), "PROCNANNY_RUN="+d.run), d.env...)
	return cmd
}

// states are the states of a program's instances, in order, and their pids.
func (d *daemon) states(program string) (states []string, pids []int) {
	out, err := d.command(bin+"/procnanny", "status", "-o", "json").Output()
	if err != nil {
		return nil, nil
	}
	var reply struct {
		Programs map[string]struct {
			Instances map[int]struct {
				State string `json:"state"`
				PID   int    `json:"pid"`
			} `json:"instances"`
		} `json:"programs"`
	}
	if err := json.Unmarshal(out, &reply); err != nil {
		d.t.Fatalf("cannot read status: %v\n%s", err, out)
	}
	all := reply.Programs[program].Instances
	for i := range len(all) {
		states, pids = append(states, all[i].State), append(pids, all[i].PID)
	}
	return states, pids
}

// running waits until n instances of a program run, and returns their pids.
func (d *daemon) running(program string, n int) []int {
	d.t.Helper()
	var pids []int
	wait(d.t, fmt.Sprintf("%d running instances of %s", n, program), func() bool {
		var states []string
		states, pids = d.states(program)
		return len(states) == n && strings.Count(strings.Join(states, " "), "running") == n
	})
	return pids
}

// copyFiles copies files, or all files below a directory, into dir.
func copyFiles(t *testing.T, dir string, files ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			if err := os.CopyFS(dir, os.DirFS(file)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
