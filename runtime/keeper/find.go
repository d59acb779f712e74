package keeper

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A process that a keeper started in its last moment shows its marks only when
// it executes its program, and on a busy machine that is when its turn comes.
const (
	findPause = 10 * time.Millisecond
	findMost  = 10 * time.Second
	// ticks of /proc/PID/stat in a second.
	ticks = 100
)

// findStarted looks for the process of a note that was begun and not finished,
// and finishes it: the keeper died between the start and the second line. As
// long as there is one that may become it, it waits; one that does not come so
// far is ended, for nobody will know it later.
func (k *keeper) findStarted(v *note) bool {
	for deadline := time.Now().Add(findMost); ; time.Sleep(findPause) {
		late := time.Now().After(deadline)
		unborn := 0
		for _, pid := range k.box.candidates(instanceKey{v.Program, v.Index}) {
			switch st := readStat(pid); {
			case !v.fits(st):
			case st.session == pid && hasVariables(pid, v.marks()) && k.proven(v, pid):
				v.take(pid, st)
				return true
			case st.unborn() && ourBinary(pid) && !ourBinary(st.ppid):
				unborn++
				if late {
					k.endUnborn(v, pid)
				}
			}
		}
		if unborn == 0 || late {
			return false
		}
	}
}

// marks are in the environment that the run's program was executed with.
func (v *note) marks() []string {
	return []string{v.Cookie, "PROCNANNY_PROGRAM=" + v.Program, fmt.Sprintf("PROCNANNY_INSTANCE=%d", v.Index)}
}

// take takes down which process a run got.
func (v *note) take(pid int, st stat) {
	v.PID, v.Start, v.StartedNS = pid, st.start, ticksNS(st.start)
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		v.Inode = pidfdInode(fd)
		unix.Close(fd)
	}
}

// endUnborn kills a process that was started and never came to execute anything.
func (k *keeper) endUnborn(v *note, pid int) {
	k.log.Error("killing a process that does not come to execute its program", "program", v.Program, "instance", v.Index, "pid", pid)
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if st := readStat(pid); v.fits(st) && st.unborn() {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // it may have ended
	}
}

// ourBinary reports whether a process executes what we do, be it another version
// by now: between clone and exec a program still is the keeper that started it.
func ourBinary(pid int) bool {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	ours, own := os.Readlink("/proc/self/exe")
	const gone = " (deleted)"
	return err == nil && own == nil && strings.TrimSuffix(theirs, gone) == strings.TrimSuffix(ours, gone)
}

// proven reports whether a process with the right marks is surely ours. In our
// cgroup it is. Elsewhere another daemon's may carry the same marks: it must hold
// the pipe that the note names, if it names one.
func (k *keeper) proven(v *note, pid int) bool {
	if _, sweeping := k.box.(*sweep); !sweeping || v.Pipes[0] == 0 {
		return true
	}
	var st unix.Stat_t
	return unix.Stat(fmt.Sprintf("/proc/%d/fd/1", pid), &st) == nil && st.Ino == v.Pipes[0]
}

func (c *cgroups) candidates(key instanceKey) []int {
	return procs(filepath.Join(c.dir, leafName(key)), 0)
}

func (s *sweep) candidates(instanceKey) []int { return allPids() }

// fits reports whether a process began when the note was, or later.
func (v *note) fits(s stat) bool {
	return s.known && !s.zombie && ticksNS(s.start)+int64(time.Second/ticks) >= v.StartedNS
}

func ticksNS(n uint64) int64 { return int64(n) * int64(time.Second/ticks) }

func hasVariables(pid int, list []string) bool {
	for _, v := range list {
		if !hasVariable(pid, v) {
			return false
		}
	}
	return true
}
