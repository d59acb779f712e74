package keeper

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// adopt takes over what a former keeper left: its notes say which processes to
// look for, the kernel says whether they are still the same.
func (k *keeper) adopt() {
	for _, v := range k.notes.read(k) {
		in := k.instance(instanceKey{v.Program, v.Index})
		r := newRun(in, v.Run)
		r.pid, r.inode, r.started, r.generation, r.cookie = v.PID, v.Inode, v.StartedNS, v.Generation, v.Cookie
		r.launch, r.tuning, r.stopping = v.LaunchDigest, v.TuningDigest, v.Stopping
		r.adopted, r.noted = true, true
		in.output, in.entered = v.Output, true
		if in.run != nil {
			k.log.Error("two notes for one instance; the later one counts", "program", v.Program, "instance", v.Index)
		}
		if fd, ok := v.open(); ok {
			r.pidfd = fd
			k.adoptPipes(r, v.Pipes)
			k.register(r)
			k.log.Info("found a program that runs", "program", v.Program, "instance", v.Index, "pid", v.PID)
			continue
		}
		k.adoptDead(r)
	}
}

// open holds the process of a note, if it still lives.
func (v *note) open() (pidfd int, ok bool) {
	fd, err := unix.PidfdOpen(v.PID, 0)
	if err != nil {
		return -1, false
	}
	inode := pidfdInode(fd)
	same := inode == v.Inode && inode != 0
	if v.Inode == 0 && inode == 0 {
		same = v.Start != 0 && readStat(v.PID).start == v.Start
	}
	if !same {
		unix.Close(fd)
		return -1, false
	}
	return fd, true
}

// adoptDead lists a run whose main process ended while no keeper lived; others
// of it may live on.
func (k *keeper) adoptDead(r *run) {
	k.runs[r.id], r.in.run = r, r
	r.ended = true
	f := r.fact(FactExited)
	f.Code, f.Unknown = -1, true
	f.Left, _ = k.box.left(r)
	r.exit = &f
	k.lookEmpty(r)
}

// adoptPipes opens the pipes again that the process writes to, if it still has
// them: their other end went with the former keeper, and what was written
// since waits in them.
func (k *keeper) adoptPipes(r *run, inodes [2]uint64) {
	names := streamNames["merged"]
	if inodes[1] != 0 {
		names = streamNames["separate"]
	}
	for i, inode := range inodes {
		if inode == 0 {
			continue
		}
		fd, err := openPipeOf(r.pid, i+1, inode)
		if err != nil {
			k.log.Warn("cannot take over the output of a program", "program", r.in.program, "instance", r.in.index, "error", err)
			continue
		}
		s := &r.in.streams[i]
		s.fd, s.inode = fd, inode
		k.openSink(s, names[i], r.id)
	}
}

func openPipeOf(pid, number int, inode uint64) (int, error) {
	path := fmt.Sprintf("/proc/%d/fd/%d", pid, number)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO || st.Ino != inode {
		return -1, fmt.Errorf("%s is no longer our pipe", path) // opening something else might have effects
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot open %s: %w", path, err)
	}
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO || st.Ino != inode {
		unix.Close(fd)
		return -1, fmt.Errorf("%s is no longer our pipe", path)
	}
	return fd, nil
}
