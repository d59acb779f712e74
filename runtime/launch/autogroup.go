package launch

import (
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel lets only one autogroup change through in a tenth of a second,
// unless one has CAP_SYS_ADMIN.
const (
	autogroupPause = 110 * time.Millisecond
	autogroupQueue = 256 // each holds a descriptor
)

// setAutogroup gives the session of pid its nice value. A kernel that is busy
// (EAGAIN) is asked again later; one without autogroups needs nothing.
func setAutogroup(pid, nice int) error {
	err := writeProc(procPath(pid, "autogroup"), strconv.Itoa(nice))
	switch {
	case errors.Is(err, unix.EAGAIN):
		laterAutogroup(pid, nice)
		return nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL):
		return nil
	}
	return err
}

// readAutogroup parses "/autogroup-9 nice 0"; nothing without autogroups.
func readAutogroup(p *process) (json.RawMessage, error) {
	line, err := readLine(procPath(p.pid, "autogroup"))
	_, nice, ok := strings.Cut(line, " nice ")
	if err != nil || !ok {
		return nil, nil //nolint:nilerr // this kernel has none
	}
	return marshal(strconv.Atoi(nice))
}

// pendingAutogroup is a change that waits for the kernel's pause. dir is the
// process's directory in /proc: unlike a pid it never becomes another's.
type pendingAutogroup struct {
	dir  int
	nice int
}

var autogroups struct {
	mu    sync.Mutex
	queue []pendingAutogroup
}

// laterAutogroup tries again in its own time. When the queue is full the
// change is left to the next look at drift.
func laterAutogroup(pid, nice int) {
	autogroups.mu.Lock()
	defer autogroups.mu.Unlock()
	if len(autogroups.queue) >= autogroupQueue {
		return
	}
	dir, err := unix.Open("/proc/"+strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	autogroups.queue = append(autogroups.queue, pendingAutogroup{dir, nice})
	if len(autogroups.queue) == 1 {
		go autogroupLoop()
	}
}

// autogroupLoop lives as long as something waits.
func autogroupLoop() {
	pause := true
	for {
		if pause {
			time.Sleep(autogroupPause)
		}
		autogroups.mu.Lock()
		p := autogroups.queue[0]
		autogroups.mu.Unlock()
		err := p.write()
		pause = err == nil // what is gone by now cost nothing
		if errors.Is(err, unix.EAGAIN) {
			pause = true
			continue // somebody else of the machine was first
		}
		_ = unix.Close(p.dir)
		autogroups.mu.Lock()
		autogroups.queue = autogroups.queue[1:]
		left := len(autogroups.queue)
		autogroups.mu.Unlock()
		if left == 0 {
			return
		}
	}
}

func (p pendingAutogroup) write() error {
	fd, err := unix.Openat(p.dir, "autogroup", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "autogroup")
	defer f.Close()
	_, err = f.WriteString(strconv.Itoa(p.nice))
	return err
}
