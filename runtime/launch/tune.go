package launch

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// threadPasses is how often a process's threads are listed anew while it makes
// more of them.
const threadPasses = 8

// live is one process that is being tuned.
type live struct {
	pid     int
	want    *spec.Tuning
	cgroup  string
	refused map[string]string
	passes  []*pass
}

// Tune applies every attribute that t sets to the living process pid, whose
// cgroup directory is cgroupDir (empty: none), and reads each back. It returns
// why for each key that the kernel refused; for a limit or a cgroup value the
// key is its own name (nofile, memory_max; limits.nice, because nice is
// another). The caller holds pid unreaped, so that it cannot be another's.
func Tune(pid int, t spec.Tuning, cgroupDir string) (refused map[string]string) {
	l := &live{pid: pid, want: &t, cgroup: cgroupDir, refused: map[string]string{}}
	for _, r := range sequence {
		if r.tune != nil {
			r.tune(l)
		}
	}
	for _, p := range l.passes { // by now those show that were being made meanwhile
		l.refuse(p.key, l.over(p))
	}
	return l.refused
}

// refuse notes a failure; nil is none. A thread or process that is gone needs
// nothing any more.
func (l *live) refuse(key string, err error) {
	if err == nil || errors.Is(err, unix.ESRCH) {
		return
	}
	l.refused[key] = "needs restart: " + cause(err)
}

// cause is the errno's own words when there is one, without Go's path and verb.
func cause(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}

// differs is the error of a value that the kernel took and did not keep.
func differs(got any) error { return fmt.Errorf("the kernel made it %v", got) }

// pass is what an attribute does to each thread.
type pass struct {
	key  string
	done map[string]bool
	do   func(tid int) error
}

// threads calls do for each thread of the process, also for those that appear
// meanwhile: most attributes belong to a thread. One that is just being made has
// its maker's attributes of before, and shows a moment later: see Tune.
func (l *live) threads(key string, do func(tid int) error) error {
	p := &pass{key, map[string]bool{}, do}
	l.passes = append(l.passes, p)
	return l.over(p)
}

// over goes over the threads that a pass has not come to yet.
func (l *live) over(p *pass) error {
	for range threadPasses {
		list, err := os.ReadDir(procPath(l.pid, "task"))
		if err != nil {
			return gone(err)
		}
		before := len(p.done)
		for _, e := range list {
			if p.done[e.Name()] {
				continue
			}
			p.done[e.Name()] = true
			tid, err := strconv.Atoi(e.Name())
			if err != nil {
				return err
			}
			if err := p.do(tid); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
		if len(p.done) == before {
			return nil
		}
	}
	return nil
}

func procPath(pid int, file string) string { return "/proc/" + strconv.Itoa(pid) + "/" + file }

// writeProc writes a file of the process in one write(2).
func writeProc(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}
