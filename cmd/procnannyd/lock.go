package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/place"
)

// How long, and how often, we look at a lock whose holder is dead: its control
// holds it as well, and either hands everything over to us or raises a keeper
// of its own.
const (
	deadHolderWait  = 15 * time.Second
	deadHolderPause = 20 * time.Millisecond
)

// lock locks the run and the state directory, or takes both over from whom we
// inherit; an orphaned control may hand us its will.
func lock(d place.Daemon, will *keeper.Will) ([]*os.File, *keeper.Will, error) {
	for deadline := time.Now().Add(deadHolderWait); ; time.Sleep(deadHolderPause) {
		if will != nil && len(will.Locks) > 0 {
			locks, err := takeOver(will.Locks)
			return locks, will, err
		}
		locks, err := lockAll(slices.Compact([]string{d.Run, d.State}))
		if err == nil {
			return locks, will, nil
		}
		held := (*place.HeldError)(nil)
		if !errors.As(err, &held) {
			return nil, nil, err
		}
		if left, cerr := keeper.Claim(d.Run); cerr == nil {
			will = left
			continue
		}
		if pid, _ := place.Holder(held.Dir()); pid != 0 && !dying(pid) || time.Now().After(deadline) {
			return nil, nil, err
		}
	}
}

// dying reports whether a process is on its way out: it was killed, and the
// kernel has not finished with it yet.
func dying(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return true
	}
	const sigkill = 1 << (unix.SIGKILL - 1)
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		switch key {
		case "State":
			if strings.HasPrefix(value, "Z") || strings.HasPrefix(value, "X") {
				return true
			}
		case "SigPnd", "ShdPnd":
			if set, err := strconv.ParseUint(value, 16, 64); err == nil && set&sigkill != 0 {
				return true
			}
		}
	}
	return false
}

func takeOver(fds []int) (locks []*os.File, err error) {
	for _, fd := range fds {
		f, err := place.TakeOver(fd)
		if err != nil {
			return nil, err
		}
		locks = append(locks, f)
	}
	return locks, nil
}

func lockAll(dirs []string) (locks []*os.File, err error) {
	for _, dir := range dirs {
		f, err := place.Lock(dir)
		if err != nil {
			for _, l := range locks {
				l.Close()
			}
			return nil, err
		}
		locks = append(locks, f)
	}
	return locks, nil
}

func descriptors(files []*os.File) (fds []int) {
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	return fds
}

// selfPath is what to execute for another one of us: what was asked for at our
// start, so that a link that leads to a new version leads there again; but only
// if it is us, whatever argv[0] says.
func selfPath() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find our own executable: %w", err)
	}
	asked, err := exec.LookPath(os.Args[0])
	if err == nil {
		asked, err = filepath.Abs(asked)
	}
	if err == nil && same(asked, self) {
		return asked, nil
	}
	return self, nil
}

func same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
