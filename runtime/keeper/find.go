package keeper

import (
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A process that a keeper started in its last moment shows its marks only when
// it executes its program.
const (
	findTries = 30
	findPause = 10 * time.Millisecond
	// ticks of /proc/PID/stat in a second.
	ticks = 100
)

// findStarted looks for the process of a note that was begun and not finished,
// and finishes it: the keeper died between the start and the second line.
func (k *keeper) findStarted(v *note) bool {
	marks := []string{v.Cookie, "PROCNANNY_PROGRAM=" + v.Program, fmt.Sprintf("PROCNANNY_INSTANCE=%d", v.Index)}
	for range findTries {
		list := k.box.candidates(instanceKey{v.Program, v.Index})
		for _, pid := range list {
			if st := readStat(pid); st.session == pid && v.fits(st) && hasVariables(pid, marks) && k.proven(v, pid) {
				v.PID, v.Start, v.StartedNS = pid, st.start, ticksNS(st.start)
				if fd, err := unix.PidfdOpen(pid, 0); err == nil {
					v.Inode = pidfdInode(fd)
					unix.Close(fd)
				}
				return true
			}
		}
		if len(list) == 0 {
			return false
		}
		time.Sleep(findPause)
	}
	return false
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
