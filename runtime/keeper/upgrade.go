package keeper

import (
	"os"
	"time"

	"github.com/procnanny/procnanny/runtime/crashpoint"
)

// upgradePatience is how long an upgrade waits for a disk that does not answer,
// and with it everything else but the programs.
const upgradePatience = 5 * time.Second

// upgrade executes our own binary, which may be another by now, in our place:
// the same process, the same children, the same descriptors. If it cannot be
// executed we go on as we are. No control lives at that moment.
func (k *keeper) upgrade() {
	if k.c.Self.Path == "" || k.done || k.asked != 0 {
		return
	}
	k.tellEnds()
	k.tidyRuns()
	if !k.mover.unstuck(upgradePatience) { // execve waits for a thread that waits for its disk
		k.log.Error("the keeper stays as it is", "error", errSlow)
		return
	}
	k.mover.rest(time.Second)
	crashpoint.Here(crashpoint.UpgradeBegun)
	err := k.will().Execute(k.c.Self)
	k.log.Error("the keeper stays as it is", "error", err)
}

// will is everything that our successor cannot learn from the kernel.
func (k *keeper) will() *Will {
	w := &Will{Version: WillVersion, Boot: k.boot, Origin: OriginUpgrade, Former: os.Getpid(), Locks: k.c.Locks, Asked: int(k.asked)}
	for _, r := range k.runs {
		w.Runs = append(w.Runs, legacy{
			Note: k.noteOf(r), FDs: r.descriptors(), Child: !r.adopted, Ended: r.ended, Emptied: r.emptied, Exit: exitFrame(r.exit),
		})
	}
	for _, in := range k.instances {
		if l := in.waiting(); l.FDs != [3]int{-1, -1, -1} {
			w.Runs = append(w.Runs, l)
		}
	}
	return w
}

// waiting are the pipes of an instance in which nothing runs, that hold output
// which could not be written yet.
func (in *instance) waiting() legacy {
	l := legacy{FDs: [3]int{-1, -1, -1}, Note: note{Program: in.program, Index: in.index, Output: in.output}}
	if in.run != nil && !in.run.emptied {
		return l
	}
	for i := range in.streams {
		if s := &in.streams[i]; s.fd >= 0 {
			l.FDs[i+1], l.Note.Pipes[i] = s.fd, s.inode
		}
	}
	return l
}

// origin is how we came to be.
func (k *keeper) origin() string {
	if k.c.Will == nil {
		return ""
	}
	return k.c.Will.Origin
}

// raised is how many keepers before us died young.
func (k *keeper) raised() int {
	if k.c.Will == nil {
		return 0
	}
	return k.c.Will.Raised
}

// Known is what a binary says it can read: the versions of its formats.
type Known struct {
	Version  string `json:"version"`
	Protocol int    `json:"protocol"`
	Will     int    `json:"will"`
	// Store is the format of the state directory, which control knows.
	Store int `json:"store"`
}

// SelfVariable tells a control what to execute when the keeper dies before they
// have spoken.
const SelfVariable = "PROCNANNY_KEEPER"
