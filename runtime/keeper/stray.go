package keeper

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// A program that runs with our rights can leave its cgroup. Its main process is
// still known by its pidfd; the others are then looked for as where there are no
// cgroups: among the orphans that became our children, by session, group and
// environment. As long as there are no orphans, that costs an end one read.

// insideFor is how long an orphan that was seen in a cgroup of ours is believed to
// be there: each end looks at all of them.
const insideFor = time.Second

// strays are the processes of a run that have left the cgroup, without a main
// process that lives: what that one has below it becomes ours when it ends. It is
// not certain that these are all while one ends of which nobody can say whose it is.
func (c *cgroups) strays(r *run) (list []int, certain bool) {
	if c.family == nil || r.adopted && !r.strayed {
		return nil, true // of an adopted run, which would mean a look at everybody
	}
	seen := map[int]bool{}
	certain = true
	// Who ends while we look hands its children to us: until nobody is new.
	for range maxLooks {
		fresh := false
		for _, pid := range c.family.orphans(r) {
			if seen[pid] {
				continue
			}
			seen[pid], fresh = true, true
			more, sure := c.below(r, pid)
			list, certain = append(list, more...), certain && sure
		}
		if !fresh {
			break
		}
	}
	slices.Sort(list)
	return slices.Compact(list), certain
}

// below are the strays of a run that an orphan and its descendants are; sure is false
// when nobody can say whose that one is.
func (c *cgroups) below(r *run, pid int) (list []int, sure bool) {
	if c.family.foreign(r, pid) || c.inside(pid) {
		return nil, true
	}
	st := readStat(pid)
	if !st.known || st.zombie {
		return nil, true
	}
	if !c.family.belongs(r, pid, st) {
		return nil, r.adopted || !st.exiting
	}
	c.family.walk(pid, func(pid int, st stat) bool {
		if st.zombie || c.family.foreign(r, pid) {
			return false
		}
		if !c.contains(pid) {
			list = append(list, pid)
			r.saw(pid, st)
		}
		return true
	}, 0)
	return list, true
}

// inside is contains, believed for a while.
func (c *cgroups) inside(pid int) bool {
	now := c.family.k.now()
	if until, ok := c.insiders[pid]; ok && now < until {
		return true
	}
	delete(c.insiders, pid)
	if !c.contains(pid) {
		return false
	}
	if len(c.insiders) >= maxSeen || c.insiders == nil {
		c.insiders = map[int]int64{}
	}
	c.insiders[pid] = now + int64(insideFor)
	return true
}

// strayMembers holds the strays of a run; each still belonged after it was opened.
func (c *cgroups) strayMembers(r *run) []member {
	return hold(func() []int {
		list, _ := c.strays(r)
		return list
	})
}

// contains reports whether a process is in one of our cgroups, or gone.
func (c *cgroups) contains(pid int) bool {
	var room [4096]byte
	b, err := readSome(fmt.Sprintf("/proc/%d/cgroup", pid), room[:])
	return err != nil || bytes.Contains(b, []byte("/"+filepath.Base(c.dir)+"/"))
}

// remember notes that the main process of a run that we adopted is elsewhere: when
// it ends it is late to ask.
func (c *cgroups) remember(r *run) {
	if r.adopted && !r.ended && !r.strayed && !c.contains(r.pid) {
		r.strayed = true
	}
}

func (c *cgroups) signal(r *run, sig spec.Signal) {
	if !r.ended && !c.contains(r.pid) {
		c.family.k.signalMain(r, sig, 0)
	}
	signalUntilStable(func() []member { return append(c.members(r), c.strayMembers(r)...) }, sig)
}

// kill has the kernel end whoever is in the cgroup, and ends the others one by one.
func (c *cgroups) kill(r *run) {
	r.in.killed, r.killing = true, true
	if writeFile(filepath.Join(c.leaf(r.in), "cgroup.kill"), "1") != nil { // before 5.14
		c.signal(r, spec.SIGKILL)
		return
	}
	if !r.ended { // perhaps it has left
		c.family.k.signalMain(r, spec.SIGKILL, 0)
	}
	signalUntilStable(func() []member { return c.strayMembers(r) }, spec.SIGKILL)
}

func (c *cgroups) empty(k *keeper, r *run) bool {
	if !c.emptied(k, r) {
		return false
	}
	if list, certain := c.strays(r); len(list) == 0 && certain {
		return true
	}
	k.dying[r] = struct{}{}
	k.set(alarmSweep, sweepEvery)
	return false
}

// hold opens the processes that list lists; one is kept only if it is listed again
// after its descriptor was opened: then the descriptor is of that process.
func hold(list func() []int) []member {
	var held []member
	for _, pid := range list() {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			held = append(held, member{pid, fd})
		}
	}
	if len(held) == 0 {
		return nil
	}
	still := map[int]bool{}
	for _, pid := range list() {
		still[pid] = true
	}
	return slices.DeleteFunc(held, func(m member) bool {
		if !still[m.pid] {
			unix.Close(m.fd)
		}
		return !still[m.pid]
	})
}
