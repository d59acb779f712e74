package keeper

import (
	"bytes"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// oomKills is how often the kernel killed somebody in an instance's cgroup for
// want of memory since the cgroup was made, or the memory controller passed on to
// it; known is false where neither is so.
func (c *cgroups) oomKills(in *instance) (n int64, known bool, err error) {
	if c.bare {
		return 0, false, unix.ENOENT
	}
	var room [512]byte
	b, err := readSome(c.leaf(in)+"/memory.events", room[:])
	if err != nil {
		return 0, false, err
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			n, err := strconv.ParseInt(string(bytes.TrimSpace(rest)), 10, 64)
			return n, err == nil, nil
		}
	}
	return 0, false, nil
}

// countOOM remembers how many there were before a start: none in a new leaf, and
// none where the controller is not passed on yet: it will count from nothing when
// somebody limits a program that runs.
func (c *cgroups) countOOM(in *instance, made bool) {
	if in.oomKills, in.oomKnown = 0, true; !made {
		n, known, err := c.oomKills(in)
		in.oomKills, in.oomKnown = n, known || errors.Is(err, unix.ENOENT)
	}
}

// ranOut reports whether a run that KILL ended did so because memory ran out:
// the kernel does not say whom it killed, only that it killed since the start.
// The count at the start of an adopted run is in its note.
func (c *cgroups) ranOut(r *run) bool {
	n, known, _ := c.oomKills(r.in)
	return known && r.in.oomKnown && n > r.in.oomKills
}

func (s *sweep) ranOut(*run) bool { return false }
