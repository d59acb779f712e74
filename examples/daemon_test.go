package examples_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/runtime/daemontest"
)

// bin holds the four commands, built from this tree, and goClient is that client.
var bin, goClient string

func TestMain(m *testing.M) {
	os.Exit(daemontest.Main(m, func(dir string) error {
		bin, goClient = daemontest.Bin(""), dir+"/client"
		if err := daemontest.Build(); err != nil {
			return err
		}
		out, err := exec.Command("go", "build", "-buildvcs=false", "-o", goClient, "./clients/go").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("cannot build the Go client: %w\n%s", err, out)
		}
		return err
	}))
}

// wait looks until ok says yes.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if err := daemontest.Poll(func() (bool, string) { return ok(), what }); err != nil {
		t.Fatal(err)
	}
}

// daemon is a procnannyd of our own on a copy of some files.
type daemon struct {
	*daemontest.Daemon
	t      *testing.T
	config string
	env    []string // of clients, beside where the sockets are
}

// startDaemon starts procnannyd on copies of files.
func startDaemon(t *testing.T, files ...string) *daemon {
	t.Helper()
	return startDaemonWith(t, func(string) []string { return nil }, files...)
}

// startDaemonWith is startDaemon with flags, which may need the directory that
// everything is in.
func startDaemonWith(t *testing.T, flags func(dir string) []string, files ...string) *daemon {
	t.Helper()
	d := &daemon{Daemon: daemontest.New(t), t: t}
	d.config = d.Dir + "/config"
	copyFiles(t, d.config, files...)
	d.Start(flags(d.Dir)...)
	return d
}

// command is a command that talks to d. One that hangs is killed after a
// minute, which fails the test and not the whole run.
func (d *daemon) command(name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	d.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(daemontest.Environ("PROCNANNY_RUN="+d.Run()), d.env...)
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
