package examples_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/procnanny/procnanny/runtime/daemontest"
)

// TestDemoLeavesNothing looks away while the demo plays: the pipe that it writes
// to is closed, or takes nothing, as a terminal that was closed does. It ends
// early then, and the daemon and its directory with it.
func TestDemoLeavesNothing(t *testing.T) {
	for name, look := range map[string]func(t *testing.T, cmd *exec.Cmd){
		"closed pipe": func(t *testing.T, cmd *exec.Cmd) {
			cmd.Stdout = nil
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			start(t, cmd)
			if _, err := bufio.NewReader(io.LimitReader(out, 16)).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			_ = out.Close()
		},
		"nothing can be written": func(t *testing.T, cmd *exec.Cmd) {
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Skip(err)
			}
			defer full.Close()
			cmd.Stdout = full
			start(t, cmd)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := daemontest.Dir(t)
			work := dir + "/work"
			// What it runs is built already, and where it works we want to know.
			script(t, dir+"/make", "exit 0")
			script(t, dir+"/mktemp", `mkdir "$DEMO_WORK" && echo "$DEMO_WORK"`)
			cmd := exec.Command("./demo")
			cmd.Env = daemontest.Environ("PATH="+dir+":"+os.Getenv("PATH"), "BIN="+bin, "DEMO_WORK="+work)
			look(t, cmd)
			_ = cmd.Wait() // how it ends is told to whoever still listens
			if _, err := os.Stat(work); !os.IsNotExist(err) {
				log, _ := os.ReadFile(work + "/daemon.log")
				t.Errorf("the demo left %s (%v); its daemon said:\n%s", work, err, log)
				shut := exec.Command(bin+"/procnanny", "shutdown", "--run", work+"/run", "--wait")
				if out, err := shut.CombinedOutput(); err != nil {
					t.Logf("%v: %s", err, out)
				}
			}
		})
	}
}

func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func script(t *testing.T, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
}
