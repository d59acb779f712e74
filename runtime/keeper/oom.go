package keeper

import (
	"bytes"
	"strconv"
)

// oomKills is how often the kernel killed somebody in an instance's cgroup for
// want of memory since the cgroup was made. It is not known where the memory
// controller is not passed on to the leaves.
func (c *cgroups) oomKills(in *instance) (n int64, known bool) {
	var room [512]byte
	b, err := readSome(c.leaf(in)+"/memory.events", room[:])
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			n, err = strconv.ParseInt(string(bytes.TrimSpace(rest)), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// countOOM remembers how many there were before a start: none in a new leaf.
func (c *cgroups) countOOM(in *instance, made bool) {
	if in.oomKills, in.oomKnown = 0, true; !made {
		in.oomKills, in.oomKnown = c.oomKills(in)
	}
}

// ranOut reports whether a run that KILL ended did so because memory ran out:
// the kernel does not say whom it killed, only that it killed since the start.
// Of an adopted run nobody knows the count at its start.
func (c *cgroups) ranOut(r *run) bool {
	n, known := c.oomKills(r.in)
	return known && r.in.oomKnown && n > r.in.oomKills
}

func (s *sweep) ranOut(*run) bool { return false }
