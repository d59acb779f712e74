package keeper

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// stat is the part of /proc/PID/stat that says whose a process is; proc(5).
type stat struct {
	state               byte
	ppid, pgrp, session int
	start               uint64 // clock ticks since boot
	exit                int    // wait status of a zombie; 0 where we may not know
	zombie, known       bool
	exiting             bool // on its way out: its environment is gone already
	forked              bool // it has not executed anything yet
	kernel              bool // a thread of the kernel's
	empty               bool // without arguments: it is executing at this moment, or a thread of the kernel's
}

// Flags of the kernel's sched.h: PF_EXITING, PF_FORKNOEXEC, PF_KTHREAD.
const (
	pfExiting    = 0x4
	pfForkNoExec = 0x40
	pfKthread    = 0x200000
)

// unborn reports whether a process may yet become another program: it was cloned
// and has not executed, or is right at it and shows no environment yet.
func (s stat) unborn() bool { return !s.kernel && !s.exiting && (s.forked || s.empty) }

func readStat(pid int) (s stat) {
	var room [1024]byte
	b, err := readSome("/proc/"+strconv.Itoa(pid)+"/stat", room[:])
	if err != nil {
		return s
	}
	i := bytes.LastIndexByte(b, ')') // the name before it may hold anything
	if i < 0 {
		return s
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 50 {
		return s
	}
	s.known = true
	s.state = f[0][0]
	s.zombie = s.state == 'Z' || s.state == 'X'
	s.ppid, _ = strconv.Atoi(f[1])
	s.pgrp, _ = strconv.Atoi(f[2])
	s.session, _ = strconv.Atoi(f[3])
	flags, _ := strconv.ParseUint(f[6], 10, 64)
	s.exiting = flags&pfExiting != 0
	s.forked, s.kernel = flags&pfForkNoExec != 0, flags&pfKthread != 0
	s.empty = f[45] == "0" || f[47] == "0"
	s.start, _ = strconv.ParseUint(f[19], 10, 64)
	s.exit, _ = strconv.Atoi(f[49])
	return s
}

// zombieStatus is how a process ended that its parent did not yet reap. Only
// root may always know; to others the kernel says 0, which is no answer.
func zombieStatus(pid int) (unix.WaitStatus, bool) {
	s := readStat(pid)
	if !s.known || !s.zombie || (s.exit == 0 && os.Geteuid() != 0) {
		return 0, false
	}
	return unix.WaitStatus(s.exit), true
}

// children are the pids whose parent is a thread of pid. The kernel has that as
// a list; where it does not show it, ok is false.
func children(pid int) (list []int, ok bool) {
	dir := "/proc/" + strconv.Itoa(pid) + "/task/"
	tasks, err := os.ReadDir(dir)
	if err != nil {
		return nil, true // it is gone, and has none
	}
	for _, t := range tasks {
		b, err := readWhole(dir + t.Name() + "/children")
		if err != nil {
			if _, gone := os.Stat(dir + t.Name()); gone == nil {
				return nil, false
			}
			continue
		}
		list = append(list, pids(b)...)
	}
	return list, true
}

// pids reads numbers between white space.
func pids(b []byte) (list []int) {
	for f := range bytes.FieldsSeq(b) {
		if pid, err := strconv.Atoi(string(f)); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// allPids are the processes that /proc shows.
func allPids() (list []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// hasVariable reports whether a process was executed with this KEY=value.
func hasVariable(pid int, variable string) bool {
	return slices.ContainsFunc(environ(pid), func(v []byte) bool { return string(v) == variable })
}

// variable is the value of the variable that begins with KEY=, or empty.
func variable(pid int, key string) string {
	for _, v := range environ(pid) {
		if value, ok := bytes.CutPrefix(v, []byte(key)); ok {
			return string(value)
		}
	}
	return ""
}

func environ(pid int) [][]byte {
	b, err := readWhole("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return nil
	}
	return bytes.Split(b, []byte{0})
}

// member is a process held by a descriptor: a signal to it reaches nobody else.
type member struct{ pid, fd int }

func (m member) signal(sig spec.Signal) {
	_ = unix.PidfdSendSignal(m.fd, unix.Signal(sig), nil, 0) // gone, or not ours to signal: nothing follows from either
	if wakes(sig) {
		_ = unix.PidfdSendSignal(m.fd, unix.SIGCONT, nil, 0)
	}
}

func closeMembers(list []member) {
	for _, m := range list {
		unix.Close(m.fd)
	}
}

// signalUntilStable sends sig once to each process that list names, and lists
// again until no new one turns up: a process may fork while we walk.
func signalUntilStable(list func() []member, sig spec.Signal) {
	sent := map[int]bool{}
	for range 16 {
		fresh := false
		all := list()
		for _, m := range all {
			if !sent[m.pid] {
				sent[m.pid], fresh = true, true
				m.signal(sig)
			}
		}
		closeMembers(all)
		if !fresh {
			return
		}
	}
}
