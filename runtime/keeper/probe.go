package keeper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Reserved is how many descriptors the keeper needs for itself, of so many that it
// may have.
func Reserved(descriptors uint64) uint64 { return reserved + uint64(mayKeep(descriptors)) }

// Controllers are those that `cgroup` limits of programs need.
func Controllers() []string { return slices.Clone(controllers) }

// CgroupProbe is what containment by cgroup would find.
type CgroupProbe struct {
	// Dir is where the cgroups of programs would be made.
	Dir string
	// Kill is true when a whole cgroup can be killed at once.
	Kill bool
	// Controllers are there for limits.
	Controllers []string
}

// ProbeCgroup tries what the keeper will do: it makes a cgroup and starts a
// process in it. Nothing is left.
func ProbeCgroup() (CgroupProbe, error) {
	parent, err := ownCgroup()
	if err != nil {
		return CgroupProbe{}, err
	}
	parent = delegated(parent)
	c := &cgroups{parent: parent, dir: filepath.Join(parent, fmt.Sprintf("procnanny-probe-%d", os.Getpid()))}
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		return CgroupProbe{}, fmt.Errorf("cannot make a cgroup: %w", err)
	}
	defer os.Remove(c.dir)
	if err := c.tryLeaf(); err != nil && !errors.Is(err, errKilledAtBirth) { // the keeper moves then
		return CgroupProbe{}, err
	}
	p := CgroupProbe{Dir: parent}
	_, err = os.Stat(filepath.Join(c.dir, "cgroup.kill"))
	p.Kill = err == nil
	b, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if err == nil {
		p.Controllers = strings.Fields(string(b))
	}
	return p, nil
}
