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

	"github.com/procnanny/procnanny/runtime/launch"
	"github.com/procnanny/procnanny/spec"
)

// cgroups contains each instance in a leaf of cgroup v2 that stays between its
// runs: <mount>/<our own>/procnanny-<run dir>/<program>.<index>.
type cgroups struct {
	dir     string // the base
	base    int    // the same, open; -1 where it could not be, 0 not yet
	parent  string // the cgroup we are in
	enabled bool   // controllers were looked after
	bare    bool   // no controller is passed on, so nothing counts what ran out
	family  *sweep // finds those who have left
	kept    int    // instances whose cgroup.events is kept open
	mayKeep int    // and how many may be
	// insiders are orphans in our cgroups, until when that is believed.
	insiders map[int]int64
}

func newCgroups(runDir string) (*cgroups, error) {
	parent, err := ownCgroup()
	if err != nil {
		return nil, err
	}
	// A keeper that moved itself, or control, may have become us.
	parent = delegated(strings.TrimSuffix(parent, filepath.Join("/", baseName(runDir), supervisor)))
	c := &cgroups{parent: parent, dir: filepath.Join(parent, baseName(runDir)), mayKeep: mayKeep(noFile())}
	if err := os.Mkdir(c.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("cannot make a cgroup: %w", err)
	}
	passed, err := readWhole(filepath.Join(c.dir, "cgroup.subtree_control"))
	c.bare = err == nil && len(passed) == 0
	// What is empty is of a former keeper; a leaf with processes stays.
	for _, leaf := range subdirectories(c.dir) {
		_ = os.Remove(filepath.Join(c.dir, leaf))
	}
	if err := c.probe(); err != nil {
		_ = os.Remove(c.dir)
		return nil, err
	}
	if c.base, err = unix.Open(c.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		c.base = -1
	}
	return c, nil
}

// Linux 6.14 and later kill a process that is born into a cgroup (clone3's
// CLONE_INTO_CGROUP) when that one and its parent's differ in how often they
// were killed by cgroup.kill: the kernel compares the wrong two. So a leaf that
// was killed is made anew before the next start, and where our own cgroup was
// once, we move into a new one.
var errKilledAtBirth = errors.New("this kernel kills what is started in a new cgroup")

// probe starts a process in a new leaf: a mount may be read-only, or not
// delegated.
func (c *cgroups) probe() error {
	err := c.tryLeaf()
	if errors.Is(err, errKilledAtBirth) {
		if err := c.moveSelf(os.Getpid()); err != nil {
			return fmt.Errorf("cannot move into a cgroup of our own: %w", err)
		}
		err = c.tryLeaf()
	}
	return err
}

func (c *cgroups) tryLeaf() error {
	leaf := filepath.Join(c.dir, "probe")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot make a cgroup: %w", err)
	}
	defer os.Remove(leaf)
	fd, err := unix.Open(leaf, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open a cgroup: %w", err)
	}
	defer unix.Close(fd)
	p, err := launch.Start(&launch.Request{
		Candidates: []string{"/bin/true"}, Argv: []string{"true"}, Dir: "/", Stdin: "null", Mode: spec.OutputMode{Kind: "null"},
	}, launch.NoStdio, fd)
	switch {
	case errors.Is(err, unix.EINTR):
		return errKilledAtBirth
	case errors.Is(err, unix.ENOENT):
		return nil // it came as far as to look for the file
	case err != nil:
		return fmt.Errorf("cannot start a process in a cgroup: %w", err)
	}
	defer unix.Close(p.PidFD)
	if e, _, _ := waitFor(p.PidFD); e.signal == spec.SIGKILL {
		return errKilledAtBirth
	}
	return nil
}

// ownCgroup is the directory of the cgroup v2 that we are in.
func ownCgroup() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("cannot find the cgroup mount: %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("cannot find our cgroup: %w", err)
	}
	return cgroupPath(string(mounts), string(own))
}

// cgroupPath puts together where cgroup2 is mounted, which part of the tree
// that mount shows, and where in the tree we are.
func cgroupPath(mountinfo, cgroup string) (string, error) {
	path := ""
	for line := range strings.Lines(cgroup) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			path = p
		}
	}
	if path == "" {
		return "", errors.New("this machine has no cgroup v2")
	}
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		sep := slices.Index(f, "-")
		if sep < 5 || len(f) <= sep+1 || f[sep+1] != "cgroup2" {
			continue
		}
		root, mount := unescape(f[3]), unescape(f[4])
		rel, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/"))
		if !ok || strings.HasPrefix(path, "/..") {
			continue // that mount does not show the place we are in
		}
		return filepath.Join(mount, rel), nil
	}
	return "", errors.New("no cgroup v2 that we are in is mounted")
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

func subdirectories(dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

func (c *cgroups) describe() (kind, degraded string) { return "cgroup", "" }

func (c *cgroups) leaf(in *instance) string {
	if in.leaf == "" {
		in.leaf = leafName(in.instanceKey)
	}
	return c.dir + "/" + in.leaf
}

func (c *cgroups) enter(k *keeper, in *instance, limits *spec.Cgroup) (int, error) {
	leaf := c.leaf(in)
	if in.killed {
		c.release(in)
		removeCgroup(leaf, 0)
		in.entered, in.killed = false, false
	}
	made := false
	if !in.entered {
		err := c.makeLeaf(leaf)
		made = err == nil
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return -1, stepError("making cgroup "+leaf, underlying(err))
		}
		if err != nil && c.populated(in) {
			// A former keeper's, without a note: started in its last moment.
			k.log.Warn("killing processes that no run accounts for", "program", in.program, "instance", in.index)
			_ = writeFile(filepath.Join(leaf, "cgroup.kill"), "1")
			in.killed = true
			return -1, stepError("waiting for processes of an unknown run, which were killed", unix.EBUSY)
		}
	}
	fd, err := unix.Open(leaf, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		c.release(in)
		in.entered = false // somebody removed it: made again at the next try
		return -1, stepError("opening cgroup "+leaf, err)
	}
	in.entered = true
	c.keep(in, fd)
	c.countOOM(in, made)
	if limits == nil {
		return fd, nil
	}
	c.enableControllers(k)
	if err := k.deps.limit(c.place(in), limits); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func underlying(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

func writeFile(path, text string) error { return writeText(path, text, 0) }

func (c *cgroups) place(in *instance) string { return c.leaf(in) }

func (c *cgroups) left(r *run) (n int, empty bool) {
	if c.last(r.in) || !c.populated(r.in) {
		strays, certain := c.strays(r)
		return len(strays), len(strays) == 0 && certain
	}
	for _, pid := range procs(c.leaf(r.in), 0) {
		if pid != r.pid {
			n++
		}
	}
	return n, false
}

// maxNested bounds how deep cgroups below a leaf are looked into: a program
// that may make some may also make many.
const maxNested = 16

// procs are the processes of a cgroup and those below it.
func procs(dir string, depth int) []int {
	b, err := readWhole(filepath.Join(dir, "cgroup.procs"))
	if err != nil || depth > maxNested {
		return nil
	}
	list := pids(b)
	for _, sub := range subdirectories(dir) {
		list = append(list, procs(filepath.Join(dir, sub), depth+1)...)
	}
	return list
}

// members holds a run's processes. A number that is listed again after its
// process was opened is that process's.
func (c *cgroups) members(r *run) []member {
	leaf := c.leaf(r.in)
	return hold(func() []int { return procs(leaf, 0) })
}

// last removes the leaf of an instance while everything is being stopped: that it
// can be removed says, too, that nobody is in it.
func (c *cgroups) last(in *instance) bool {
	if !c.family.k.stopping() || quickRemove(c.leaf(in)) != nil {
		return false
	}
	c.release(in)
	in.entered = false
	return true
}

func (c *cgroups) forget(in *instance) {
	c.release(in)
	removeCgroup(c.leaf(in), 0)
	in.entered = false
}

// removeCgroup removes a cgroup that nobody is in, with those below it.
func removeCgroup(dir string, depth int) {
	if quickRemove(dir) == nil {
		return // most have none below them
	}
	for _, sub := range subdirectories(dir) {
		if depth < maxNested {
			removeCgroup(filepath.Join(dir, sub), depth+1)
		}
	}
	_ = quickRemove(dir) // what is not empty stays, and is found again
}

func (c *cgroups) close(all bool) {
	for _, leaf := range subdirectories(c.dir) {
		if all || leaf != supervisor {
			removeCgroup(filepath.Join(c.dir, leaf), 0)
		}
	}
	_ = os.Remove(c.dir)
	if c.base > 0 {
		unix.Close(c.base)
		c.base = 0
	}
	if c.family != nil {
		c.family.close(all)
	}
}
