package keeper

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// supervisor is the cgroup that we move into. ourWeight is its cpu.weight: ten
// times that of a program, which is enough for us and starves nobody.
const (
	supervisor = "supervisor"
	ourWeight  = "1000"
)

// delegated is the cgroup to make others in, given our own. A service manager may
// have put us below the one that is ours to divide, because nobody can be put into
// that one any more once limits are set below it: DelegateSubgroup=supervisor of
// systemd, 254 and later.
func delegated(own string) string {
	unit, ok := strings.CutSuffix(own, "/"+supervisor)
	if !ok || unix.Access(unit, unix.W_OK) != nil || unix.Access(filepath.Join(unit, "cgroup.subtree_control"), unix.W_OK) != nil {
		return own
	}
	return unit
}

// moveSelf moves us, and control if it runs, into a cgroup beside the leaves,
// which have a dot in their name.
func (c *cgroups) moveSelf(list ...int) error {
	own := filepath.Join(c.dir, supervisor)
	if err := os.Mkdir(own, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, pid := range list {
		if err := writeFile(filepath.Join(own, "cgroup.procs"), fmt.Sprint(pid)); err != nil {
			return err
		}
	}
	return nil
}

// controllers are those that limits of a program need.
var controllers = []string{"cpu", "memory", "pids", "io"}

// enableControllers passes controllers down to the leaves, once, when a program
// first has limits. A cgroup with controllers below it must hold no process, so
// where we are alone in ours we move into one beside the leaves. What cannot be
// had shows as the step that sets a limit.
func (c *cgroups) enableControllers(k *keeper) {
	if c.enabled {
		return
	}
	c.enabled, c.bare = true, false
	want := controllersIn(filepath.Join(c.parent, "cgroup.controllers"))
	if want == "" {
		return
	}
	err := writeFile(filepath.Join(c.parent, "cgroup.subtree_control"), want)
	if errors.Is(err, unix.EBUSY) && c.alone(k) {
		if err = c.moveSelf(os.Getpid(), k.ctl.pid); err == nil {
			err = writeFile(filepath.Join(c.parent, "cgroup.subtree_control"), want)
		}
	}
	if err == nil {
		err = writeFile(filepath.Join(c.dir, "cgroup.subtree_control"), want)
	}
	// Beside the programs, each with a share of its own, ours would be one of many:
	// on a busy machine nobody would be stopped or started again.
	if own, err := ownCgroup(); err == nil && own != c.parent {
		_ = writeFile(filepath.Join(own, "cpu.weight"), ourWeight) // not there without the controller
	}
	if err != nil {
		k.log.Warn("cannot pass cgroup controllers on to the programs", "error", err)
	}
}

func controllersIn(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	var want []string
	for name := range strings.FieldsSeq(string(b)) {
		if slices.Contains(controllers, name) {
			want = append(want, "+"+name)
		}
	}
	return strings.Join(want, " ")
}

// alone reports whether the cgroup we are in holds only us and our control.
func (c *cgroups) alone(k *keeper) bool {
	b, err := os.ReadFile(filepath.Join(c.parent, "cgroup.procs"))
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(pids(b), func(pid int) bool { return pid != os.Getpid() && pid != k.ctl.pid })
}
