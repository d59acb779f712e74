package keeper

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/crashpoint"
)

// adopt takes over what a former keeper left: descriptors by its will, and the
// rest by its notes, which say which processes to look for; whether they are
// still the same says the kernel.
func (k *keeper) adopt() error {
	notes, err := k.notes.read(k)
	if err != nil {
		return err
	}
	overtaken(notes)
	noted := map[uint64]bool{}
	for i := range notes {
		noted[notes[i].Run] = true
	}
	found := deposits{runs: map[uint64]*saved{}}
	if w := k.c.Will; w != nil {
		crashpoint.Here(crashpoint.HeirInherits)
		found.escrow = w.Escrow
		k.inherit(w, noted)
	}
	defer found.close()
	for i := range notes {
		v := &notes[i]
		switch {
		case k.runs[v.Run] != nil || !v.Ended && k.claim(&found, v):
		case v.Ended || v.PID != 0 || k.findStarted(v):
			k.adoptNoted(v)
		default:
			k.adoptUnseen(v)
		}
	}
	k.adoptUnnoted()
	if k.c.Will != nil {
		crashpoint.Here(crashpoint.HeirAdopted)
	}
	return nil
}

// overtaken marks the notes, which are in the order of their runs, that another one
// of the same instance follows. A run is noted before the note of the one before it
// is removed, and only when nobody is left of that: who is there is of the later one.
func overtaken(notes []note) {
	later := map[instanceKey]bool{}
	for i := range slices.Backward(notes) {
		v := &notes[i]
		key := instanceKey{v.Program, v.Index}
		if later[key] {
			v.Ended, v.Emptied = true, true
		}
		later[key] = true
	}
}

// adoptUnseen lists a run of which no process is found, and whose start a former
// keeper began: it did not come to it, or the program ran and nobody saw it.
func (k *keeper) adoptUnseen(v *note) {
	in := k.instance(instanceKey{v.Program, v.Index})
	r := newRun(in, v.Run)
	r.take(v)
	r.noted, r.ended, r.emptied = true, true, true
	f := r.fact(FactStartFailed)
	f.Step, f.Errno = "starting it", int(unix.EOWNERDEAD)
	f.Reason = "procnanny died while it started this; whether it ran, and how it ended, nobody knows"
	r.exit = &f
	k.runs[r.id], in.run = r, r
}

// inherit takes over what a will says. Where we were executed in the place of
// the former keeper, its children are ours.
func (k *keeper) inherit(w *Will, noted map[uint64]bool) {
	// An end that control has not written down yet may stand beside the
	// instance's next run: the later one is the instance's. Pipes without a run
	// come last.
	slices.SortFunc(w.Runs, func(a, b legacy) int { return cmp.Compare(a.Note.Run-1, b.Note.Run-1) })
	last := map[instanceKey]uint64{}
	for i := range w.Runs {
		v := &w.Runs[i].Note
		if f := exitOf(w.Runs[i].Exit); f != nil && f.Kind == FactStartFailed {
			continue // perhaps because the one before it lives
		}
		last[instanceKey{v.Program, v.Index}] = max(last[instanceKey{v.Program, v.Index}], v.Run)
	}
	for i := range w.Runs {
		l := &w.Runs[i]
		if l.Note.Run != 0 && l.Note.Run < last[instanceKey{l.Note.Program, l.Note.Index}] {
			l.Ended, l.Emptied = true, true // else the later one would not have been started
		}
		in := k.instance(instanceKey{l.Note.Program, l.Note.Index})
		in.output = l.Note.Output
		if l.Note.Run == 0 {
			k.inheritPipes(in, l, 0)
			continue
		}
		r := newRun(in, l.Note.Run)
		r.take(&l.Note)
		r.adopted, r.noted = w.Former != os.Getpid() || !l.Child, noted[r.id]
		in.reenter(!l.Emptied)
		k.inheritPipes(in, l, r.id)
		switch {
		case !l.Ended && l.FDs[0] >= 0:
			r.pidfd = l.FDs[0]
			k.register(r)
		case l.Ended:
			k.inheritEnded(r, l)
		default:
			k.adoptNoted(&l.Note)
		}
	}
	k.log.Info("took over from a former keeper", "how", w.Origin, "former", w.Former, "runs", len(w.Runs))
	k.reap()          // what ended in between
	if w.Asked != 0 { // who would have left them has left them
		k.orderStop(nil)
	}
}

// inheritEnded lists a run whose end is known already; others of it may live.
func (k *keeper) inheritEnded(r *run, l *legacy) {
	k.runs[r.id] = r
	if r.in.run == nil || r.in.run.emptied {
		r.in.run = r
	}
	k.unheard = append(k.unheard, r)
	k.set(alarmNotes, endWait)
	r.ended, r.emptied, r.exit = true, l.Emptied, exitOf(l.Exit)
	if r.exit == nil {
		f := r.fact(FactExited)
		f.Code, f.Unknown = -1, true
		r.exit = &f
	}
	if !r.emptied {
		for i := range r.in.streams {
			k.listen(&r.in.streams[i])
		}
		k.lookEmpty(r)
	}
}

// inheritPipes takes over the pipes of an instance. Those without a run hold
// what could not be written.
func (k *keeper) inheritPipes(in *instance, l *legacy, run uint64) {
	names := l.Note.streamNames()
	for i := range in.streams {
		s := &in.streams[i]
		if l.FDs[i+1] < 0 || s.fd >= 0 || i >= len(names) {
			continue
		}
		s.fd, s.inode = l.FDs[i+1], l.Note.Pipes[i]
		k.openSink(s, names[i], run)
		if run == 0 {
			k.listen(s)
		}
	}
	if run == 0 {
		k.emptyPipes(in, func() { k.closePipes(in) })
	}
}

// reenter takes note of a place that a former keeper made. Nobody knows whether
// it was killed, so it is made anew before the next start; that of a run that is
// over is gone already.
func (in *instance) reenter(lives bool) { in.entered, in.killed = lives, lives }

// streamNames are the sinks of the run's output.
func (v *note) streamNames() []string {
	if v.Pipes[1] != 0 {
		return streamNames["separate"]
	}
	return streamNames["merged"]
}

// adoptNoted takes over a run of which only a note is left.
func (k *keeper) adoptNoted(v *note) {
	in := k.instance(instanceKey{v.Program, v.Index})
	r := newRun(in, v.Run)
	r.take(v)
	r.adopted, r.noted = true, true
	in.output = v.Output
	in.reenter(true)
	if v.Ended {
		k.adoptDead(r, v)
		return
	}
	if fd, ok := v.open(); ok {
		r.pidfd = fd
		k.adoptPipes(r, v.Pipes)
		k.register(r)
		k.log.Info("found a program that runs", "program", v.Program, "instance", v.Index, "pid", v.PID)
		return
	}
	k.adoptDead(r, v)
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

// adoptDead lists a run whose main process ended while no keeper lived, or while
// no control heard of it; others of it may live on.
func (k *keeper) adoptDead(r *run, v *note) {
	k.runs[r.id], r.in.run = r, r
	r.ended, r.emptied, r.exit = true, v.Ended && v.Emptied, exitOf(v.Exit)
	if r.exit == nil {
		f := r.fact(FactExited)
		f.Code, f.Unknown = -1, true
		if !r.emptied {
			f.Left, _ = k.box.left(r)
		}
		r.exit = &f
	}
	k.lookEmpty(r)
}

// adoptPipes opens the pipes again that the process writes to, if it still has
// them: their other end went with the former keeper, and what was written
// since waits in them.
func (k *keeper) adoptPipes(r *run, inodes [2]uint64) {
	names := (&note{Pipes: inodes}).streamNames()
	for i, inode := range inodes {
		if inode == 0 {
			continue
		}
		fd, err := openPipeOf(r.pid, i+1, inode)
		if err != nil {
			k.sayNoPipe(r, err)
			continue
		}
		s := &r.in.streams[i]
		s.fd, s.inode = fd, inode
		k.openSink(s, names[i], r.id)
	}
}

// sayNoPipe says why output cannot be taken over. Who has ended has closed its
// pipe: what nobody had read of it went with it.
func (k *keeper) sayNoPipe(r *run, err error) {
	if st := readStat(r.pid); !st.known || st.zombie || st.exiting {
		err = errors.New("it ended while nobody held its pipe; what it wrote last is lost")
	}
	k.log.Warn("cannot take over the output of a program", "program", r.in.program, "instance", r.in.index, "pid", r.pid, "error", err)
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
