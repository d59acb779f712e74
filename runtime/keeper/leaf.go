package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// makeLeaf makes a leaf, and the base too when somebody removed it: it is empty
// whenever nothing runs.
func (c *cgroups) makeLeaf(leaf string) error {
	err := os.Mkdir(leaf, 0o755)
	if errors.Is(err, fs.ErrNotExist) && os.Mkdir(c.dir, 0o755) == nil {
		c.enabled, c.bare = false, true
		err = os.Mkdir(leaf, 0o755)
	}
	return err
}

// adoptUnnoted takes over programs that live in our cgroups although no note of
// them is left: it was damaged, or somebody removed it. Each leaf's oldest
// process must carry all marks of the leaf's instance. What was asked of it is
// control's to know. Where there are no cgroups, marks alone prove nothing.
func (k *keeper) adoptUnnoted() {
	box, ok := k.box.(*cgroups)
	if !ok {
		return
	}
	known := map[string]bool{}
	for _, r := range k.runs {
		known[leafName(r.in.instanceKey)] = known[leafName(r.in.instanceKey)] || !r.emptied
	}
	for _, leaf := range subdirectories(box.dir) {
		if known[leaf] {
			continue
		}
		if v := box.mainIn(leaf); v != nil && k.runs[v.Run] == nil {
			v.Boot = k.boot
			k.log.Warn("no note of a program that runs is left; its marks tell what it is", "program", v.Program, "instance", v.Index, "pid", v.PID)
			k.adoptNoted(v)
			if r := k.runs[v.Run]; r != nil && !r.ended {
				k.notes.write(k, r)
			}
		}
	}
}

// mainIn is the note of the main process of a leaf, by its marks.
func (c *cgroups) mainIn(leaf string) *note {
	oldest, first := 0, stat{}
	for _, pid := range procs(filepath.Join(c.dir, leaf), 0) {
		if st := readStat(pid); st.known && (oldest == 0 || st.start < first.start) {
			oldest, first = pid, st
		}
	}
	if oldest == 0 || first.session != oldest || first.zombie {
		return nil
	}
	v := &note{Program: variable(oldest, "PROCNANNY_PROGRAM=")}
	run := variable(oldest, cookieName)
	index, err := strconv.Atoi(variable(oldest, "PROCNANNY_INSTANCE="))
	if v.Run, _ = strconv.ParseUint(run, 10, 64); err != nil || v.Run == 0 || leafName(instanceKey{v.Program, index}) != leaf {
		return nil
	}
	v.Index, v.Cookie = index, cookieName+run
	v.take(oldest, first)
	v.Pipes = [2]uint64{sharedPipe(oldest, 1), sharedPipe(oldest, 2)}
	if v.Pipes[0] == 0 || v.Pipes[0] == v.Pipes[1] {
		v.Pipes[1] = 0
	}
	return v
}

// sharedPipe is the inode of a descriptor that is a pipe as we make them, open
// for reading and writing, which others hardly do; else 0.
func sharedPipe(pid, number int) uint64 {
	var st unix.Stat_t
	if unix.Stat(fmt.Sprintf("/proc/%d/fd/%d", pid, number), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return 0
	}
	b, err := readWhole(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, number))
	if err != nil {
		return 0
	}
	_, flags, _ := bytes.Cut(b, []byte("flags:"))
	flags, _, _ = bytes.Cut(bytes.TrimSpace(flags), []byte("\n"))
	n, err := strconv.ParseUint(string(flags), 8, 64)
	if err != nil || n&unix.O_ACCMODE != unix.O_RDWR {
		return 0
	}
	return st.Ino
}
