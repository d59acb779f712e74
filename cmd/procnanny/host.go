package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/launch"
	"github.com/procnanny/procnanny/spec"
)

// hostProblems is what only this host can tell of a good configuration: whether
// executables and directories are there, and limits can be had. A missing
// executable is a start error for the daemon, not a bad file; here it is an
// error, because who asks wants to know. The place is that of the program, which
// is all that a specification keeps.
func hostProblems(s spec.Spec, defined map[string]string, path string) spec.Problems {
	var out spec.Problems
	for _, name := range slices.Sorted(maps.Keys(s.Programs)) {
		p := s.Programs[name]
		file, line := firstPlace(defined[name])
		add := func(key string, err error) {
			if err != nil {
				out = append(out, spec.Problem{File: file, Line: line, Path: "programs." + label(name) + "." + key, Message: err.Error()})
			}
		}
		add("command", checkExecutable(p, path))
		if !strings.Contains(p.Dir, "$(") { // what is only known at a start is left to it
			add("dir", checkDir(p.Dir))
		}
		for _, key := range slices.Sorted(maps.Keys(p.Limits)) {
			add("limits."+key, checkLimit(key, p.Limits[key]))
		}
	}
	return out
}

// firstPlace takes apart the first of the places FILE:LINE, joined by commas.
func firstPlace(places string) (file string, line int) {
	first, _, _ := strings.Cut(places, ", ")
	at := strings.LastIndexByte(first, ':')
	if at < 0 {
		return "", 0
	}
	line, err := strconv.Atoi(first[at+1:])
	if err != nil {
		return "", 0
	}
	return first[:at], line
}

// label is a program's name as CUE writes it.
func label(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return r != '_' && (r < '0' || r > 'z' || r > '9' && r < 'A' || r > 'Z' && r < 'a') }) {
		return strconv.Quote(name)
	}
	return name
}

func checkExecutable(p spec.Program, path string) error {
	if v, ok := p.Env["PATH"]; ok {
		path = v
	}
	if strings.Contains(p.Command, "$(") || strings.Contains(path, "$(") {
		return nil
	}
	if strings.Contains(p.Command, "/") {
		file := p.Command
		if !filepath.IsAbs(file) {
			file = filepath.Join("/", p.Dir, file)
		}
		return executable(file)
	}
	for _, dir := range filepath.SplitList(path) {
		if executable(filepath.Join(dir, p.Command)) == nil {
			return nil
		}
	}
	return fmt.Errorf("there is no executable %s in %s", p.Command, path)
}

func executable(file string) error {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", file)
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("%s is not executable", file)
	}
	return nil
}

func checkDir(dir string) error {
	if dir == "" {
		return nil
	}
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	}
	return nil
}

// resources are the kernel's limits by the name that files use.
var resources = map[string]int{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
	"locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE,
	"nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
	"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
}

// checkLimit says whether we, and so a daemon of ours, could set a limit.
func checkLimit(key string, l spec.Limit) error {
	resource, ok := resources[key]
	if !ok {
		return nil // the schema knows the names
	}
	var now unix.Rlimit
	if err := unix.Getrlimit(resource, &now); err != nil || uint64(l.Hard) <= now.Max || launch.May(unix.CAP_SYS_RESOURCE) {
		return nil
	}
	return fmt.Errorf("%s is above the hard limit here, which is %s, and raising it needs CAP_SYS_RESOURCE", limitText(l.Hard), limitText(spec.Size(now.Max)))
}

func limitText(s spec.Size) string {
	if s == spec.Unlimited {
		return "unlimited"
	}
	return strconv.FormatUint(uint64(s), 10)
}
