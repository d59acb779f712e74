package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"
)

// The limits of one evaluation. A thousand programs of plain data need about
// 40 MiB and a fifteenth of a second of CPU, with a policy or definitions beside
// them 70 MiB and a fifth of a second.
const (
	dataMax = 512 << 20
	cpuMax  = 3 // seconds
	// nobody is who an evaluator of root becomes if its parent did not see to it.
	nobody = 65534
	// gcPercent trades memory for speed: collecting less often makes an
	// evaluation about a seventh faster.
	gcPercent = 400
	// gcSoftMax is where the collector works harder instead of growing into the
	// hard limit, which would end the process.
	gcSoftMax = 320 << 20
)

// limit makes this process harmless: whatever it is given to evaluate, it ends
// soon, eats little, gains nothing, and is the first to go when memory is short.
func limit() error {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(gcSoftMax)
	// Without /proc, or where it is refused, an evaluation is no worse a victim
	// than the rest.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	if err := dropRoot(); err != nil {
		return err
	}
	limits := []struct {
		name     string
		resource int
		max      uint64
	}{
		{"data", unix.RLIMIT_DATA, dataMax},
		{"cpu", unix.RLIMIT_CPU, cpuMax},
		{"core", unix.RLIMIT_CORE, 0},
		{"nofile", unix.RLIMIT_NOFILE, 0}, // what is open stays; nothing can be opened
	}
	for _, l := range limits {
		var now unix.Rlimit
		if err := unix.Getrlimit(l.resource, &now); err != nil {
			return fmt.Errorf("cannot read the limit %s: %w", l.name, err)
		}
		r := unix.Rlimit{Cur: min(l.max, now.Max), Max: min(l.max, now.Max)}
		if err := unix.Setrlimit(l.resource, &r); err != nil {
			return fmt.Errorf("cannot set the limit %s: %w", l.name, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot set no_new_privs: %w", err)
	}
	return nil
}

// dropRoot makes nobody of root, for good.
func dropRoot() error {
	if os.Geteuid() != 0 {
		return nil
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("cannot give up the groups of root: %w", err)
	}
	if err := syscall.Setresgid(nobody, nobody, nobody); err != nil {
		return fmt.Errorf("cannot give up the group of root: %w", err)
	}
	if err := syscall.Setresuid(nobody, nobody, nobody); err != nil {
		return fmt.Errorf("cannot give up root: %w", err)
	}
	return nil
}
