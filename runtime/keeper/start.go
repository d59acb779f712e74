package keeper

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/runtime/launch"
)

// orderStart starts one instance, or says which step failed. There is at most
// one copy: an instance of which anybody still lives is refused.
func (k *keeper) orderStart(o *Order) {
	s := o.Start
	if s == nil {
		return
	}
	k.settleFor(s)
	in := k.instance(instanceKey{s.Program, s.Index})
	crashpoint.Here(crashpoint.StartOrdered)
	if r := in.run; r != nil && !r.emptied {
		k.tell(failed(s, &launch.StepError{Step: "starting a second copy", Errno: unix.EBUSY},
			fmt.Sprintf("run %d still lives, pid %d", r.id, r.pid)))
		return
	}
	if r := k.runs[s.Run]; r != nil && !r.emptied {
		k.tell(failed(s, &launch.StepError{Step: "starting", Errno: unix.EEXIST}, "the run's number is taken by "+r.in.String()))
		return
	}
	k.tidyRuns() // the former run's, before this one begins
	former := in.run
	if in.run = nil; former != nil && former.launch != s.LaunchDigest {
		k.closePipes(in) // they may be another user's
	}
	defer k.drop(former) // control knows how it ended: this is its answer to that
	in.output = s.Output
	p, err := k.prepare(in, s)
	if err != nil {
		k.startFailed(in, s, err)
		return
	}
	k.launch(p)
}

// startFailed tells of a start that did not come to be.
func (k *keeper) startFailed(in *instance, s *Start, err error) {
	f := failed(s, err, "")
	k.keepFailure(in, s, f)
	k.tell(f)
}

// keepFailure lists a start that failed as a run that is over: a control that
// died before it heard of it finds it in the list.
func (k *keeper) keepFailure(in *instance, s *Start, f Fact) {
	r := newRun(in, s.Run)
	r.launch, r.tuning, r.generation = s.LaunchDigest, s.TuningDigest, s.Generation
	r.ended, r.emptied, r.exit = true, true, &f
	k.runs[r.id], in.run = r, r
}

func failed(s *Start, err error, reason string) Fact {
	f := Fact{Kind: FactStartFailed, Run: s.Run, Program: s.Program, Index: s.Index, AtNS: BootTime(), Reason: err.Error()}
	if step, ok := errors.AsType[*launch.StepError](err); ok {
		f.Step, f.Errno = step.Step, int(step.Errno)
	}
	if reason != "" {
		f.Reason += ": " + reason
	}
	return f
}

// prepare makes the place and the pipes of a start, and notes it.
func (k *keeper) prepare(in *instance, s *Start) (_ *pending, err error) {
	p := &pending{order: s, run: newRun(in, s.Run), io: launch.NoStdio}
	if p.cgroup, err = k.box.enter(k, in, s.Launch.Tuning.Cgroup); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			closeStdio(p.io)
			k.closePipes(in)
			if p.cgroup >= 0 {
				unix.Close(p.cgroup)
			}
		}
	}()
	crashpoint.Here(crashpoint.StartEntered)
	if p.io, err = k.openPipes(in, &s.Launch, s.Run); err != nil {
		return nil, err
	}
	if s.Input != "" {
		if p.io.In, err = inputFile(s.Input); err != nil {
			return nil, err
		}
	}
	r := p.run
	r.started, r.cookie = BootTime(), cookieOf(s)
	r.launch, r.tuning, r.generation = s.LaunchDigest, s.TuningDigest, s.Generation
	if p.note, err = k.notes.begin(k, r); err != nil {
		return nil, err
	}
	k.deposit(p)
	crashpoint.Here(crashpoint.StartNoted)
	return p, nil
}

// inputFile is a file in memory that holds text, open for reading at its
// beginning: unlike a pipe it never fills, whoever reads or does not.
func inputFile(text string) (int, error) {
	fd, err := unix.MemfdCreate("procnanny-input", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, stepError("making the input", err)
	}
	if n, err := unix.Pwrite(fd, []byte(text), 0); err != nil || n < len(text) {
		unix.Close(fd)
		return -1, stepError("writing the input", cmp.Or(err, error(unix.ENOSPC)))
	}
	return fd, nil
}

// register makes r the run of its instance and watches for its end.
func (k *keeper) register(r *run) {
	k.runs[r.id], r.in.run = r, r
	if r.adopted {
		r.reaper = readStat(r.pid).ppid
		k.box.remember(r)
	} else {
		k.mains[r.pid] = r
	}
	if err := k.poll.add(r.pidfd, unix.EPOLLIN, (*runExit)(r)); err != nil {
		// Its end still comes by SIGCHLD.
		k.log.Error("cannot watch a process", "program", r.in.program, "instance", r.in.index, "pid", r.pid, "error", err)
	}
	for i := range r.in.streams {
		k.listen(&r.in.streams[i])
	}
}

// cookieOf is the variable that marks the run's processes; the environment has
// it, and descendants inherit it.
func cookieOf(s *Start) string {
	for _, v := range s.Launch.Env {
		if strings.HasPrefix(v, cookieName) {
			return strings.Clone(v) // not a part of the whole order
		}
	}
	return cookieName + strconv.FormatUint(s.Run, 10)
}

const cookieName = "PROCNANNY_RUN_ID="

// pidfdInode is a process's identity in this boot, kernel 6.9 or later; 0 before.
func pidfdInode(pidfd int) uint64 {
	var st unix.Stat_t
	if !hasPidfs() || unix.Fstat(pidfd, &st) != nil {
		return 0
	}
	return st.Ino
}

// hasPidfs reports whether pidfds have inodes of their own.
var hasPidfs = sync.OnceValue(func() bool {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	return unix.Fstatfs(fd, &fs) == nil && fs.Type == unix.PID_FS_MAGIC
})
