package keeper

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// sweepEvery is how often we look who is left while that matters and nothing
// tells us. The end of an orphan makes us look at once.
const sweepEvery = 50 * time.Millisecond

// sweep contains by what /proc says. While the main process lives, its
// descendants are below it. Those it leaves behind become our children, being
// the subreaper; which run one belongs to is told by its session or process
// group, by what was seen of it before, or by the environment that it was
// executed with. One that has hidden all of these is reaped when it ends and
// otherwise not known. See marked for what a former keeper left behind.
type sweep struct {
	k   *keeper
	why string
	// kids is the list of the first thread's children, 0 before it was opened.
	kids int
}

// family is what was seen of a run while its main process lived.
type family struct {
	starts   map[int]uint64 // start time by pid
	sessions map[int]bool
}

func (s *sweep) describe() (kind, degraded string) { return "sweep", s.why }

func (s *sweep) enter(_ *keeper, in *instance, limits *spec.Cgroup) (int, error) {
	if limits != nil {
		return -1, stepError("setting cgroup limits (there is no cgroup: "+s.why+")", unix.ENOTSUP)
	}
	in.entered = true
	return -1, nil
}

func (s *sweep) place(*instance) string { return "" }

func (s *sweep) forget(*instance) {}

func (s *sweep) close(bool) {
	if s.kids != 0 {
		quickClose(s.kids)
		s.kids = 0
	}
}

// remember takes down who is below the main process, before its end scatters
// them.
func (s *sweep) remember(r *run) {
	s.walk(r.pid, func(pid int, st stat) bool {
		r.saw(pid, st)
		return true
	}, 0)
}

// saw notes that a process is of run r.
func (r *run) saw(pid int, st stat) {
	if r.seen == nil || len(r.seen.starts) >= maxSeen {
		r.seen = &family{starts: map[int]uint64{}, sessions: map[int]bool{}}
	}
	r.seen.starts[pid] = st.start
	r.seen.sessions[st.session] = true
}

// maxSeen bounds what is remembered of a run that forks without end.
const maxSeen = 4096

// maxWalk bounds how deep a family tree is followed.
const maxWalk = 512

// walk visits pid and all below it, until visit says no.
func (s *sweep) walk(pid int, visit func(int, stat) bool, depth int) {
	st := readStat(pid)
	if !st.known || depth > maxWalk || !visit(pid, st) {
		return
	}
	for _, child := range s.childrenOf(pid) {
		s.walk(child, visit, depth+1)
	}
}

func (s *sweep) childrenOf(pid int) []int {
	list, ok := children(pid)
	if ok {
		return list
	}
	for _, other := range allPids() { // this kernel has no lists of children
		if readStat(other).ppid == pid {
			list = append(list, other)
		}
	}
	return list
}

// orphans are the roots to look below for what belongs to r: our children that
// are no main process, and for an adopted run, whose orphans went elsewhere,
// everybody.
func (s *sweep) orphans(r *run) []int {
	if r.adopted {
		return allPids()
	}
	if r.ended && s.k.childless {
		return nil
	}
	var list []int
	kids, sure := s.orphanage()
	for _, pid := range kids {
		if s.k.mains[pid] == nil && pid != s.k.ctl.pid {
			list = append(list, pid)
		}
	}
	s.k.childless = sure && len(list) == 0
	return list
}

// orphanage lists those of our children among which orphans are. The kernel
// gives orphans to a process's first thread, and what we start to the thread
// that starts it. So where the loop is not on the first thread, its list has
// orphans only, and an end does not cost more the more programs there are.
func (s *sweep) orphanage() (list []int, sure bool) {
	self := os.Getpid()
	if unix.Gettid() != self {
		var room [256]byte
		if b, err := s.firstThreads(self, room[:]); err == nil {
			return pids(b), true
		}
	}
	return s.childrenOf(self), false
}

// firstThreads is what the kernel lists as children of our first thread. The list
// stays open: to find it anew takes longer than to read it.
func (s *sweep) firstThreads(self int, room []byte) ([]byte, error) {
	path := func() string { return fmt.Sprintf("/proc/self/task/%d/children", self) }
	if s.kids == 0 {
		fd, err := quickOpen(path())
		if err != nil {
			return nil, err
		}
		s.kids = fd
	}
	n, err := quickReadAgain(s.kids, room)
	if err != nil || n > len(room)/2 { // the kernel gives no half of a number
		return readWhole(path())
	}
	return room[:n], nil
}

// belongs reports whether an orphan is of run r.
func (s *sweep) belongs(r *run, pid int, st stat) bool {
	if r.adopted {
		// Candidates are everybody's processes: nothing but all marks together will do.
		return s.marked(r, pid, st) && hasVariable(pid, r.cookie) && hasVariable(pid, "PROCNANNY_PROGRAM="+r.in.program)
	}
	// The number of a session or group is not given away while it has members. When
	// it had none any more it may be another main process's, or that of somebody
	// whose environment says whose he is.
	if other := s.k.mains[r.pid]; other == nil || other == r {
		if st.session == r.pid || st.pgrp == r.pid {
			id := variable(pid, cookieName)
			return id == "" || cookieName+id == r.cookie
		}
	}
	if r.seen != nil && (r.seen.starts[pid] == st.start || r.seen.sessions[st.session]) {
		return true
	}
	return hasVariable(pid, r.cookie)
}

// marked reports whether a process is where those of an adopted run are: in the
// main process's session or group, below it when we last looked, or an orphan that
// holds the run's pipe. Orphans went where the main process went, when the keeper
// that started them died.
func (s *sweep) marked(r *run, pid int, st stat) bool {
	switch {
	case st.session == r.pid || st.pgrp == r.pid || r.seen != nil && r.seen.starts[pid] == st.start:
		return true
	case r.reaper != 0 && st.ppid != r.reaper:
		return false
	}
	return r.hasPipe(pid, 1) || r.hasPipe(pid, 2)
}

// hasPipe reports whether a process's descriptor is a pipe of the run's.
func (r *run) hasPipe(pid, number int) bool {
	var st unix.Stat_t
	if unix.Stat(fmt.Sprintf("/proc/%d/fd/%d", pid, number), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return false
	}
	return st.Ino == r.in.streams[0].inode || st.Ino == r.in.streams[1].inode
}

// maxLooks bounds how often we look again because somebody ended while we did.
const maxLooks = 64

// pidsOf lists the living processes of a run. certain is true when nobody ended
// while we looked: one that does hands its children to us, behind our back if we
// have been through our own children by then.
func (s *sweep) pidsOf(r *run) (list []int, certain bool) {
	held := map[int]bool{}
	for range maxLooks {
		if list, certain = s.look(r, held); len(list) > 0 || certain {
			return list, certain
		}
	}
	return nil, false
}

// held are zombies seen before that we cannot reap, because they are traced: what
// they left to us is in the list by now.
func (s *sweep) look(r *run, held map[int]bool) (list []int, certain bool) {
	found := map[int]bool{}
	certain = true
	take := func(pid int, st stat) bool {
		if found[pid] || s.foreign(r, pid) {
			return false
		}
		if st.zombie {
			certain = false
		} else {
			found[pid] = true
			r.saw(pid, st)
		}
		return true
	}
	if !r.ended {
		s.walk(r.pid, take, 0)
	}
	for _, pid := range s.orphans(r) {
		st := readStat(pid)
		switch {
		case found[pid] || s.foreign(r, pid):
		case !st.known:
			certain = certain && r.adopted
		case st.zombie:
			certain = s.buried(pid, st, held) && certain
		case s.belongs(r, pid, st):
			s.walk(pid, take, 0)
		case st.exiting:
			certain = r.adopted // whose it is can no longer be told
		}
	}
	for pid := range found {
		list = append(list, pid)
	}
	return list, certain
}

// buried reports whether a zombie was seen before or is nothing to us: what it left
// to us is in the list by now. One that is new is reaped.
func (s *sweep) buried(pid int, st stat, held map[int]bool) bool {
	old := held[pid]
	held[pid] = true
	return old || !s.reap(pid, st)
}

// reap reaps a zombie that is our child, so that it is not looked at again.
func (s *sweep) reap(pid int, st stat) bool {
	if st.ppid != os.Getpid() {
		return false
	}
	_, _, _ = wait(unix.P_PID, pid, 0)
	return true
}

// foreign are processes that no run may claim but their own.
func (s *sweep) foreign(r *run, pid int) bool {
	other := s.k.mains[pid]
	return pid == os.Getpid() || pid == 1 || pid == s.k.ctl.pid || (other != nil && other != r)
}

// members holds the processes of a run.
func (s *sweep) members(r *run) []member {
	return hold(func() []int {
		list, _ := s.pidsOf(r)
		return list
	})
}

func (s *sweep) left(r *run) (n int, empty bool) {
	list, certain := s.pidsOf(r)
	for _, pid := range list {
		if pid != r.pid {
			n++
		}
	}
	return n, n == 0 && certain
}

func (s *sweep) empty(k *keeper, r *run) bool {
	if _, empty := s.left(r); empty {
		return true
	}
	k.dying[r] = struct{}{}
	k.set(alarmSweep, sweepEvery)
	return false
}

func (s *sweep) signal(r *run, sig spec.Signal) {
	signalUntilStable(func() []member { return s.members(r) }, sig)
}

func (s *sweep) kill(r *run) {
	r.killing = true
	s.signal(r, spec.SIGKILL)
}

// sweepDying looks again at the runs that wait to be empty. One that is being
// killed is killed again: what forked meanwhile turns up only now.
func (k *keeper) sweepDying() {
	for r := range k.dying {
		if r.emptied {
			delete(k.dying, r)
			continue
		}
		if r.killing {
			k.box.signal(r, spec.SIGKILL)
		}
		k.lookEmpty(r)
	}
	if len(k.dying) > 0 {
		k.set(alarmSweep, sweepEvery)
	}
}
