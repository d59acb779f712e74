package examples_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/daemontest"
)

// TestDemoLeavesNothing looks away while the demo plays: the pipe that it writes
// to is closed, or takes nothing, as a terminal that was closed does; or it is
// told to end without the picture that it shows. It ends early then, and the
// daemon and its directory with it.
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
		"told to end": func(t *testing.T, cmd *exec.Cmd) {
			screen, slave := terminal(t)
			defer slave.Close()
			cmd.Stdout = slave
			start(t, cmd)
			live := make(chan struct{})
			go func() {
				seen, tell := bufio.NewReader(screen), sync.OnceFunc(func() { close(live) })
				for {
					if text, err := seen.ReadString('H'); err != nil {
						return
					} else if strings.Contains(text, "\x1b[?1049h") { // the picture begins
						tell()
					}
				}
			}()
			select {
			case <-live:
			case <-time.After(daemontest.Patience):
				t.Error("there is no picture")
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := daemontest.Dir(t)
			work := dir + "/work"
			// What it runs is built already, and where it works we want to know.
			script(t, dir+"/make", "exit 0")
			script(t, dir+"/mktemp", `mkdir "$DEMO_WORK" && echo "$DEMO_WORK"`)
			ctx, cancel := context.WithTimeout(t.Context(), daemontest.Patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, "./demo")
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

// terminal is a new one: its screen, and what a command has as stdout.
func terminal(t *testing.T) (screen, slave *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	fd := int(screen.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return screen, slave
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
