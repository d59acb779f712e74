package specfile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/procnanny/procnanny/spec"
)

// checks are the rules that relate values, or that a schema cannot say. Each
// sees a program whose single values are all in range.
var checks = []func(p spec.Program) []finding{
	checkPaths, checkNUL, checkEnv, checkLimits, checkRestart, checkSched, checkIONice, checkCPUs, checkMode, checkProgramHooks,
}

// check is every finding about p.
func check(p spec.Program) []finding {
	var out []finding
	for _, c := range checks {
		out = append(out, c(p)...)
	}
	return append(out, checkReferences(p)...)
}

// absolute reports whether path is absolute, or begins with a reference that
// may be.
func absolute(path string) bool { return strings.HasPrefix(path, "/") || strings.HasPrefix(path, "$(") }

func checkPaths(p spec.Program) []finding {
	var out []finding
	try := func(path string, key ...string) {
		if path != "" && !absolute(path) {
			out = append(out, found(fmt.Sprintf("invalid value %q: expected an absolute path", path), key...))
		}
	}
	try(p.Dir, "dir")
	if p.Stdin != "null" {
		try(p.Stdin, "stdin")
	}
	if p.Mode.Kind == "file" {
		try(p.Mode.File, "output", "mode", "file")
	}
	for i, f := range p.EnvFiles {
		try(f, "env_files", index(i))
	}
	return out
}

func index(i int) string { return "[" + strconv.Itoa(i) + "]" }

// checkNUL refuses what execve(2) cannot pass.
func checkNUL(p spec.Program) []finding {
	var out []finding
	try := func(text string, key ...string) {
		if strings.IndexByte(text, 0) >= 0 {
			out = append(out, found("a NUL byte cannot be passed to a program", key...))
		}
	}
	try(p.Command, "command")
	try(p.Dir, "dir")
	try(p.Stdin, "stdin")
	try(p.Mode.File, "output", "mode", "file")
	for i, a := range p.Args {
		try(a, "args", index(i))
	}
	for i, f := range p.EnvFiles {
		try(f, "env_files", index(i))
	}
	for _, name := range sortedKeys(p.Env) {
		try(p.Env[name], "env", name)
	}
	return out
}

func checkEnv(p spec.Program) []finding {
	var out []finding
	for _, name := range sortedKeys(p.Env) {
		switch {
		case name == "":
			out = append(out, found("a variable's name cannot be empty", "env", name))
		case strings.ContainsAny(name, "=\x00"):
			out = append(out, found("a variable's name cannot contain = or a NUL byte", "env", name))
		}
	}
	return out
}

func checkLimits(p spec.Program) []finding {
	var out []finding
	for _, name := range sortedKeys(p.Limits) {
		if l := p.Limits[name]; l.Soft > l.Hard {
			out = append(out, found(fmt.Sprintf("the soft limit %s is above the hard limit %s", amount(l.Soft), amount(l.Hard)), "limits", name))
		}
	}
	return out
}

// checkHost refuses what the kernel of this host gives nobody, root included.
func checkHost(p spec.Program, host spec.Resolved) []finding {
	l, ok := p.Limits["nofile"]
	if !ok || host.NrOpen == 0 || host.Lenient || uint64(l.Hard) <= host.NrOpen {
		return nil
	}
	return []finding{found(fmt.Sprintf("the limit %s can never be had: the kernel allows at most %d (fs.nr_open)", amount(l.Hard), host.NrOpen), "limits", "nofile")}
}

func amount(s spec.Size) string {
	b, err := s.MarshalJSON()
	if err != nil {
		return strconv.FormatUint(uint64(s), 10)
	}
	return strings.Trim(string(b), `"`)
}

func checkRestart(p spec.Program) []finding {
	r := p.Restart
	if r.MaxDelay >= r.Delay {
		return nil
	}
	return []finding{found(fmt.Sprintf("delay %s is longer than max_delay %s: give a max_delay that is not shorter", r.Delay, r.MaxDelay), "restart", "max_delay")}
}

func checkSched(p spec.Program) []finding {
	if p.Sched == nil {
		return nil
	}
	realtime := p.Sched.Policy == "fifo" || p.Sched.Policy == "rr"
	switch {
	case realtime && p.Sched.Priority == 0:
		return []finding{found(fmt.Sprintf("policy %q needs a priority from 1 to 99", p.Sched.Policy), "sched")}
	case !realtime && p.Sched.Priority != 0:
		return []finding{found(fmt.Sprintf("policy %q has no priority: expected 0, found %d", p.Sched.Policy, p.Sched.Priority), "sched", "priority")}
	}
	return nil
}

func checkIONice(p spec.Program) []finding {
	if p.IONice == nil || p.IONice.Class != "none" || p.IONice.Level == 0 {
		return nil
	}
	return []finding{found(fmt.Sprintf("class %q has no level: expected 0, found %d", p.IONice.Class, p.IONice.Level), "ionice", "level")}
}

func checkCPUs(p spec.Program) []finding {
	if p.CPUs == "" {
		return nil
	}
	for part := range strings.SplitSeq(p.CPUs, ",") {
		from, to, isRange := strings.Cut(part, "-")
		a, errA := strconv.Atoi(from)
		b, errB := strconv.Atoi(to)
		if isRange && errA == nil && errB == nil && a > b {
			return []finding{found(fmt.Sprintf("invalid value %q: the range %s runs backwards", p.CPUs, part), "cpus")}
		}
	}
	return nil
}

// checkMode refuses a directory where a file is meant.
func checkMode(p spec.Program) []finding {
	if p.Mode.Kind == "file" && strings.HasSuffix(p.Mode.File, "/") {
		return []finding{found(fmt.Sprintf("invalid value %q: expected the path of a file", p.Mode.File), "output", "mode", "file")}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
