package keeper

import (
	"fmt"

	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/spec"
)

type instanceKey struct {
	program string
	index   int
}

func (i instanceKey) String() string { return fmt.Sprintf("%s/%d", i.program, i.index) }

// instance is what stays between the runs of one copy of a program.
type instance struct {
	instanceKey
	// run is the current one, or the last one until it is acknowledged.
	run *run
	// leaf is the name of its cgroup, once somebody asked for it.
	leaf string
	// entered is true once its cgroup was made or found empty by us.
	entered bool
	// killed is true once its cgroup was killed, or may have been: it is made
	// anew before the next start (see errKilledAtBirth).
	killed bool
	// events is its cgroup.events, while that is kept open; else 0.
	events int
	// oomKills is what the kernel counted in its cgroup before the last start.
	oomKills int64
	oomKnown bool
	streams  [2]stream
	output   Output
}

// run is one process life.
type run struct {
	in      *instance
	id      uint64
	pid     int
	pidfd   int    // -1 once the end of the main process was seen
	inode   uint64 // of the pidfd: the process's identity in this boot
	started int64  // CLOCK_BOOTTIME, ns

	launch, tuning spec.Digest
	generation     uint64
	cookie         string // PROCNANNY_RUN_ID=..., to find its processes by

	stopping bool
	adopted  bool // not our child
	reaper   int  // adopted: whose child it is instead, 0 is not known
	strayed  bool // adopted, and its main process has left its cgroup
	ended    bool
	emptied  bool
	exit     *Fact // once ended
	telling  bool  // ended, and what it wrote is moved before that is told
	leaving  bool  // nobody is left, and what they wrote is moved first

	eventsFD int // cgroup.events while we wait for it to be empty; -1
	seen     *family
	asks     int    // how often the end of an adopted process was asked for
	killing  bool   // KILL goes to whoever turns up, until nobody is left
	noted    bool   // its note is written
	note     []byte // what was noted, until control holds it too
}

func newRun(in *instance, id uint64) *run { return &run{in: in, id: id, pidfd: -1, eventsFD: -1} }

// runExit is a run as the handler of its pidfd.
type runExit run

func (r *runExit) ready(k *keeper, _ uint32) { k.mainGone((*run)(r)) }

// runEvents is a run as the handler of its cgroup.events.
type runEvents run

func (r *runEvents) ready(k *keeper, _ uint32) { k.lookEmpty((*run)(r)) }

// instance finds or makes what is kept of an instance.
func (k *keeper) instance(key instanceKey) *instance {
	in := k.instances[key]
	if in == nil {
		in = &instance{instanceKey: key}
		for i := range in.streams {
			in.streams[i] = stream{in: in, fd: -1}
		}
		k.instances[key] = in
	}
	return in
}

// fact is a fact about a run.
func (r *run) fact(kind FactKind) Fact {
	return Fact{Kind: kind, Run: r.id, Program: r.in.program, Index: r.in.index, PID: r.pid, AtNS: BootTime()}
}

// list is the run as control sees it.
func (r *run) list() Run {
	var exit Fact
	if r.exit != nil && !r.telling {
		exit = *r.exit
	}
	return Run{
		Run: r.id, Program: r.in.program, Index: r.in.index, PID: r.pid, StartedNS: r.started,
		LaunchDigest: r.launch, TuningDigest: r.tuning, Generation: r.generation,
		Stopping: r.stopping, Ended: r.ended && !r.telling, Emptied: r.emptied, Exit: exit,
	}
}

// take fills in what a note says.
func (r *run) take(v *note) {
	r.pid, r.inode, r.started, r.generation, r.cookie = v.PID, v.Inode, v.StartedNS, v.Generation, v.Cookie
	r.launch, r.tuning, r.stopping = v.LaunchDigest, v.TuningDigest, v.Stopping
	if r.in.oomKnown = v.OOMKills != nil; r.in.oomKnown {
		r.in.oomKills = *v.OOMKills
	}
}

// drop forgets a run that is over, and whose end control has written down.
func (k *keeper) drop(r *run) {
	if r == nil || !r.emptied {
		return
	}
	k.notes.remove(k, r)
	crashpoint.Here(crashpoint.ExitForgotten)
	delete(k.runs, r.id)
	if r.in.run == r {
		r.in.run = nil
		if !k.stopping() { // else retire closes them, for less
			k.closePipes(r.in) // the next run did not come yet: it would have them, too
		}
	}
}
