package keeper

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/procnanny/procnanny/spec"
)

// containment finds the processes that belong to a run: all of them, whatever
// they did to their session, group and parent.
type containment interface {
	// describe is for Hello: "cgroup" or "sweep", and why not the former.
	describe() (kind, degraded string)
	// enter makes the place of an instance ready for a start and sets its limits;
	// the descriptor is of its cgroup, or -1. Nobody is in it, or it is an error.
	enter(k *keeper, in *instance, limits *spec.Cgroup) (cgroup int, err error)
	// place is the directory of an instance's cgroup, or empty.
	place(in *instance) (dir string)
	// left counts the living processes of a run whose main process is gone. That
	// none is listed does not mean that it is empty: one may be on its way out.
	left(r *run) (n int, empty bool)
	// empty reports whether nobody of a run is left. If somebody is, it sees to
	// it that the keeper looks again when that may have changed.
	empty(k *keeper, r *run) bool
	// candidates are the processes among which one is that a former keeper
	// started as this instance in its last moment.
	candidates(key instanceKey) []int
	// ranOut reports whether the run's main process, which KILL ended, was killed
	// because memory ran out, as far as the kernel tells.
	ranOut(r *run) bool
	// remember learns who belongs to a run while its main process still shows it.
	remember(r *run)
	// signal sends to every process of a run until no new one turns up.
	signal(r *run, sig spec.Signal)
	// kill ends every process of a run.
	kill(r *run)
	// forget removes the place of an instance.
	forget(in *instance)
	// close removes what is empty when the keeper ends.
	close(all bool)
}

func (k *keeper) newContainment() containment {
	why := "it was told to do without cgroups"
	if !k.c.Sweep {
		box, err := newCgroups(k.c.RunDir)
		if err == nil {
			box.family = &sweep{k: k}
			return box
		}
		why = err.Error()
	}
	k.log.Warn("no cgroup contains the programs; their processes are found by parent, session, group and environment", "reason", why)
	return &sweep{k: k, why: why}
}

// baseName is the directory of a daemon's cgroups: the same for each daemon of
// a run directory, so that a new keeper finds what the former left.
func baseName(runDir string) string {
	abs, err := filepath.Abs(runDir)
	if err != nil {
		abs = runDir
	}
	sum := sha256.Sum256([]byte(abs))
	return "procnanny-" + hex.EncodeToString(sum[:4])
}

var leafEscapes = strings.NewReplacer("%", "%25", ".", "%2E")

// maxLeaf is how long a program's part of a directory name may be, in bytes.
const maxLeaf = 200

// LeafName is the name of an instance's cgroup.
func LeafName(program string, index int) string { return leafName(instanceKey{program, index}) }

// leafName is an instance's cgroup below the base. No two instances share one:
// "." and "%" are escaped in the program's name, and a name that is too long
// becomes its hash behind "%h", which no escape begins with.
func leafName(key instanceKey) string {
	name := leafEscapes.Replace(key.program)
	if len(name) > maxLeaf {
		sum := sha256.Sum256([]byte(key.program))
		name = fmt.Sprintf("%%h%x", sum[:16])
	}
	return name + "." + strconv.Itoa(key.index)
}

// wakes reports whether a stopped process must be woken to hear a signal.
func wakes(sig spec.Signal) bool {
	switch sig {
	case spec.SIGKILL, sigCONT, sigSTOP, sigTSTP:
		return false
	default:
		return true
	}
}

const (
	sigCONT spec.Signal = 18
	sigSTOP spec.Signal = 19
	sigTSTP spec.Signal = 20
)
