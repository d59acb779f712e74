package doctor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/oom"
	"github.com/procnanny/procnanny/runtime/place"
)

// found makes a finding of an error: nil is good.
func found(err error, good string) finding {
	if err != nil {
		return finding{false, err.Error()}
	}
	return finding{true, good}
}

func (h *Host) read(path string) (string, error) {
	b, err := os.ReadFile(filepath.Join(h.Proc, path))
	return strings.TrimSpace(string(b)), err
}

func kernel(h *Host) finding {
	text, err := h.read("sys/kernel/osrelease")
	if err != nil {
		return found(err, "")
	}
	var major, minor int
	_, err = fmt.Sscanf(text, "%d.%d", &major, &minor)
	return finding{err == nil && (major > 5 || major == 5 && minor >= 6), "Linux " + text}
}

func pidfd(*Host) finding {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err == nil {
		defer unix.Close(fd)
		err = unix.PidfdSendSignal(fd, 0, nil, 0)
	}
	return found(err, "processes can be held and signalled by descriptor")
}

func identity(*Host) finding {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return found(err, "")
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return found(err, "")
	}
	return finding{fs.Type == unix.PID_FS_MAGIC, map[bool]string{true: "pidfds have inodes of their own", false: "pidfds have no inodes"}[fs.Type == unix.PID_FS_MAGIC]}
}

// exitInfo asks how a process ended that somebody else has reaped already.
func exitInfo(*Host) finding {
	fd := -1
	cmd := exec.Command("/bin/sh", "-c", "exit 7")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &fd}
	err := cmd.Run()
	if fd < 0 {
		return found(errors.Join(errors.New("cannot start a process"), err), "")
	}
	defer unix.Close(fd)
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	if err := unix.IoctlPidfdInfo(fd, &info); err != nil {
		return found(fmt.Errorf("the kernel does not tell: %w", err), "")
	}
	good := info.Mask&unix.PIDFD_INFO_EXIT != 0 && unix.WaitStatus(info.Exit_code).ExitStatus() == 7
	return finding{good, map[bool]string{true: "the kernel tells them", false: "the kernel does not tell"}[good]}
}

func subreaper(*Host) finding {
	return found(unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "orphans come to us")
}

func cgroup(h *Host) finding {
	p, err := h.Cgroup()
	return found(err, p.Dir)
}

func cgroupKill(h *Host) finding {
	p, err := h.Cgroup()
	switch {
	case err != nil:
		return finding{false, "no cgroup"}
	case !p.Kill:
		return finding{false, "the file is not there"}
	}
	return finding{true, "a whole cgroup is killed at once"}
}

func controllers(h *Host) finding {
	p, err := h.Cgroup()
	if err != nil {
		return finding{false, "no cgroup"}
	}
	var have, lack []string
	for _, name := range keeper.Controllers() {
		if slices.Contains(p.Controllers, name) {
			have = append(have, name)
		} else {
			lack = append(lack, name)
		}
	}
	text := strings.Join(have, ", ")
	if len(lack) > 0 {
		text = strings.TrimPrefix(text+"; missing: "+strings.Join(lack, ", "), "; ")
	}
	return finding{len(lack) == 0, text}
}

func childLists(h *Host) finding {
	_, err := os.ReadFile(fmt.Sprintf("%s/self/task/%d/children", h.Proc, os.Getpid()))
	return found(err, "the kernel has them")
}

func visible(h *Host) finding {
	_, err := h.read("1/stat")
	return found(err, "visible")
}

func (h *Host) capability(number uint) finding {
	text, err := h.read("self/status")
	if err != nil {
		return found(err, "")
	}
	_, rest, _ := strings.Cut(text, "CapEff:")
	line, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	set, err := strconv.ParseUint(line, 16, 64)
	if err != nil {
		return found(fmt.Errorf("cannot read our capabilities: %w", err), "")
	}
	good := set>>number&1 == 1
	return finding{good, map[bool]string{true: "held", false: "not held"}[good]}
}

// protection takes it, and gives it back.
func protection(*Host) finding {
	back, err := oom.Try()
	return found(err, fmt.Sprintf("procnannyd and procnanny-control get an oom_score_adj of %d, programs the daemon's %d", min(oom.Usual, back), back))
}

// fewDescriptors is a hard limit below which it is said that there are few.
const fewDescriptors = 16384

func descriptors(*Host) finding {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return found(err, "")
	}
	room := uint64(0)
	if own := keeper.Reserved(l.Max); l.Max > own {
		room = (l.Max - own) / 2
	}
	return finding{l.Max >= fewDescriptors, fmt.Sprintf("hard limit %d: room for %d instances with merged output", l.Max, room)}
}

// pipePages is what a usual pipe holds, pages.
const pipePages = 16

func pipes(h *Host) finding {
	if h.capability(unix.CAP_SYS_RESOURCE).good {
		return finding{true, "no limit with CAP_SYS_RESOURCE"}
	}
	text, err := h.read("sys/fs/pipe-user-pages-soft")
	if err != nil {
		return found(err, "")
	}
	pages, err := strconv.Atoi(text)
	if err != nil || pages == 0 {
		return found(err, "no limit")
	}
	return finding{pages/pipePages >= fewDescriptors, fmt.Sprintf("whole pipes for %d instances (fs.pipe-user-pages-soft %d)", pages/pipePages, pages)}
}

func inotify(h *Host) finding {
	instances, _ := h.read("sys/fs/inotify/max_user_instances")
	watches, _ := h.read("sys/fs/inotify/max_user_watches")
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err == nil {
		unix.Close(fd)
	}
	return found(err, fmt.Sprintf("one of %s instances, %s watches", instances, watches))
}

func memfd(*Host) finding {
	fd, err := unix.MemfdCreate("procnanny-doctor", unix.MFD_CLOEXEC)
	if err == nil {
		unix.Close(fd)
	}
	return found(err, "there are")
}

func evaluator(*Host) finding {
	path, err := place.Libexec("procnanny-eval")
	if err != nil {
		return found(err, "")
	}
	cmd := exec.Command(path, "--schema")
	cmd.WaitDelay = time.Second
	late := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	if out, err := cmd.Output(); err != nil || len(out) == 0 {
		return found(fmt.Errorf("cannot run %s: %w", path, err), "")
	}
	return finding{true, path}
}
