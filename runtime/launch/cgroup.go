package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// cgroupFile is one value of a cgroup: its file, whose controller is the part
// before the dot, and how the spec's value and the file's text become each
// other.
type cgroupFile struct {
	key, file string
	// text is what to write; empty is not set.
	text func(c *spec.Cgroup) string
	// keep puts a file's text into c.
	keep func(c *spec.Cgroup, text string)
}

var cgroupFiles = []cgroupFile{
	{"memory_max", "memory.max", func(c *spec.Cgroup) string { return sizeText(c.MemoryMax) }, func(c *spec.Cgroup, t string) { c.MemoryMax = textSize(t) }},
	{"memory_high", "memory.high", func(c *spec.Cgroup) string { return sizeText(c.MemoryHigh) }, func(c *spec.Cgroup, t string) { c.MemoryHigh = textSize(t) }},
	{"cpu_max", "cpu.max", func(c *spec.Cgroup) string { return cpuMaxText(c.CPUMax) }, func(c *spec.Cgroup, t string) { c.CPUMax = textCPUMax(t) }},
	{"cpu_weight", "cpu.weight", func(c *spec.Cgroup) string { return intText(c.CPUWeight) }, func(c *spec.Cgroup, t string) { c.CPUWeight = textInt(t) }},
	{"pids_max", "pids.max", func(c *spec.Cgroup) string { return sizeText(c.PidsMax) }, func(c *spec.Cgroup, t string) { c.PidsMax = textSize(t) }},
	{"io_weight", "io.weight", func(c *spec.Cgroup) string { return intText(c.IOWeight) }, func(c *spec.Cgroup, t string) { c.IOWeight = textInt(strings.TrimPrefix(t, "default ")) }},
}

// newCgroup is what the kernel gives a new cgroup.
const newCgroup = `{"memory_max":"max","memory_high":"max","cpu_max":"max","cpu_weight":100,"pids_max":"max","io_weight":100}`

// initial is the text of the value that a new cgroup has.
func (f cgroupFile) initial() string {
	var c spec.Cgroup
	if json.Unmarshal([]byte(newCgroup), &c) != nil {
		return ""
	}
	return f.text(&c)
}

func (f cgroupFile) controller() string {
	name, _, _ := strings.Cut(f.file, ".")
	return name
}

// SetCgroup writes the limits that c sets into the cgroup directory dir, before
// a process is started in it. A controller that dir lacks is enabled if its
// parent can. The error is a *StepError.
func SetCgroup(dir string, c *spec.Cgroup) error {
	if c == nil {
		return nil
	}
	for _, f := range cgroupFiles {
		text := f.text(c)
		if text == "" {
			continue
		}
		if err := f.write(dir, text); err != nil {
			return &StepError{Step: f.describe(dir, text, err), Errno: asErrno(err)}
		}
	}
	return nil
}

func (f cgroupFile) write(dir, text string) error {
	path := filepath.Join(dir, f.file)
	err := writeProc(path, text)
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	if enable(dir, f.controller(), enableLevels) != nil {
		return err
	}
	return writeProc(path, text)
}

// enableLevels is how many cgroups above a process's own are asked to hand a
// controller down: ours, and the one that was delegated to us.
const enableLevels = 2

// enable lets the parents of the cgroup dir hand a controller down to it.
func enable(dir, controller string, levels int) error {
	parent := filepath.Dir(dir)
	file := filepath.Join(parent, "cgroup.subtree_control")
	err := writeProc(file, "+"+controller)
	if err == nil || levels <= 1 || enable(parent, controller, levels-1) != nil {
		return err
	}
	return writeProc(file, "+"+controller)
}

// describe is the step of an error: a file that is missing lacks its controller.
func (f cgroupFile) describe(dir, text string, err error) string {
	step := fmt.Sprintf("setting cgroup %s to %s", f.key, text)
	if errors.Is(err, unix.ENOENT) {
		return fmt.Sprintf("%s: the %s controller is not there for %s", step, f.controller(), filepath.Join(dir, f.file))
	}
	return step
}

func tuneCgroup(l *live) {
	c := l.want.Cgroup
	if c == nil {
		return
	}
	for _, f := range cgroupFiles {
		text := f.text(c)
		if text == "" {
			continue
		}
		err := f.tune(l.cgroup, text)
		if _, none := errors.AsType[noLimit](err); none && text == f.initial() {
			continue // nothing limits it, and that is what goes back when it is no longer set
		}
		l.refuse(f.key, err)
	}
}

// noLimit is why there is nothing that could limit a process.
type noLimit string

func (e noLimit) Error() string { return string(e) }

// tune writes text and reads it back.
func (f cgroupFile) tune(dir, text string) error {
	if dir == "" {
		return noLimit("it has no cgroup of its own")
	}
	if err := f.write(dir, text); errors.Is(err, unix.ENOENT) {
		return noLimit("the " + f.controller() + " controller is not there")
	} else if err != nil {
		return err
	}
	got, err := readLine(filepath.Join(dir, f.file))
	if err == nil && !f.same(got, text) {
		err = differs(got)
	}
	return err
}

// same compares what a file says with what was written: memory is rounded down
// to whole pages, weights have a heading.
func (f cgroupFile) same(got, want string) bool {
	got = strings.TrimPrefix(got, "default ")
	if got == want {
		return true
	}
	n, err := strconv.ParseUint(want, 10, 64)
	page := uint64(os.Getpagesize())
	return err == nil && f.controller() == "memory" && got == strconv.FormatUint(n/page*page, 10)
}

func readCgroup(p *process) (json.RawMessage, error) {
	if p.cgroup == "" {
		return nil, nil
	}
	var c spec.Cgroup
	for _, f := range cgroupFiles {
		if text, err := readLine(filepath.Join(p.cgroup, f.file)); err == nil {
			line, _, _ := strings.Cut(text, "\n")
			f.keep(&c, line)
		}
	}
	if c == (spec.Cgroup{}) {
		return nil, nil
	}
	return marshal(c, nil)
}

func driftCgroup(d *drift, want *spec.Tuning, raw json.RawMessage) {
	var got spec.Cgroup
	if want.Cgroup == nil || json.Unmarshal(raw, &got) != nil {
		return
	}
	for _, f := range cgroupFiles {
		w, g := f.text(want.Cgroup), f.text(&got)
		if w != "" && g != "" && !f.same(g, w) {
			d.note(f.key, g, w)
		}
	}
}

// CgroupDir is the cgroup v2 directory that process pid is in, or empty where
// there is no cgroup v2.
func CgroupDir(pid int) (string, error) {
	raw, err := os.ReadFile(procPath(pid, "cgroup"))
	if err != nil {
		return "", gone(err)
	}
	for line := range strings.Lines(string(raw)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			mount, err := cgroupMount()
			if err != nil || mount == "" {
				return "", err
			}
			return filepath.Join(mount, strings.TrimSuffix(path, "\n")), nil
		}
	}
	return "", nil
}

// cgroupMount is where cgroup v2 is mounted, or empty.
func cgroupMount() (string, error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(raw)) {
		before, after, ok := strings.Cut(line, " - ")
		if fields := strings.Fields(before); ok && strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 {
			return fields[4], nil
		}
	}
	return "", nil
}

func sizeText(s *spec.Size) string {
	if s == nil {
		return ""
	}
	if uint64(*s) == spec.Unlimited {
		return "max"
	}
	return strconv.FormatUint(uint64(*s), 10)
}

func textSize(text string) *spec.Size {
	var s spec.Size
	if s.UnmarshalJSON([]byte(text)) != nil {
		return nil
	}
	return &s
}

func intText(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}

func textInt(text string) *int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil
	}
	return &n
}

// cpuPeriod is the kernel's default, in microseconds.
const cpuPeriod = 100000

// cpuMaxText is the kernel's "QUOTA PERIOD" for "150%", "max", or itself.
func cpuMaxText(v string) string {
	if percent, ok := strings.CutSuffix(v, "%"); ok {
		n, err := strconv.ParseUint(percent, 10, 32)
		if err != nil {
			return v // the kernel will say that it is none
		}
		return strconv.FormatUint(n*cpuPeriod/100, 10) + " " + strconv.Itoa(cpuPeriod)
	}
	if v == "max" {
		return "max " + strconv.Itoa(cpuPeriod)
	}
	return v
}

// textCPUMax is the other way round, as people write it where that is exact.
func textCPUMax(text string) string {
	quota, period, _ := strings.Cut(text, " ")
	q, err := strconv.ParseUint(quota, 10, 63)
	switch {
	case quota == "max":
		return "max"
	case err == nil && period == strconv.Itoa(cpuPeriod) && q%(cpuPeriod/100) == 0:
		return strconv.FormatUint(q/(cpuPeriod/100), 10) + "%"
	}
	return text
}
