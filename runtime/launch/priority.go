package launch

// #include "child.h"
import "C"

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/oom"
	"github.com/procnanny/procnanny/spec"
)

// ---- nice ----

// addNice raises the priority; lowering it is the last thing but one, because
// we sleep until the child has executed.
func addNice(b *builder) {
	if n := b.r.Tuning.Nice; n != nil && !b.lowersNice() {
		b.nice(*n)
	}
}

func (b *builder) nice(n int) {
	b.call(label{format: "setting nice to %d", a: n}, unix.SYS_SETPRIORITY, num(unix.PRIO_PROCESS), num(0), num(n))
}

func (b *builder) lowersNice() bool {
	own, err := niceOf(0)
	return err == nil && *b.r.Tuning.Nice > own
}

// addLower makes the child wait for others. It needs no privilege.
func addLower(b *builder) {
	if n := b.r.Tuning.Nice; n != nil && b.lowersNice() {
		b.nice(*n)
	}
	if s := b.r.Tuning.Sched; s != nil && lowSched[s.Policy] {
		b.sched(*s)
	}
}

func tuneNice(l *live) {
	n := l.want.Nice
	if n == nil {
		return
	}
	err := l.threads("nice", func(tid int) error {
		if err := unix.Setpriority(unix.PRIO_PROCESS, tid, *n); err != nil {
			return err
		}
		got, err := niceOf(tid)
		if err == nil && got != *n {
			err = differs(got)
		}
		return err
	})
	if err == nil {
		err = setAutogroup(l.pid, *n)
	}
	l.refuse("nice", err)
}

// niceOf turns the system call's 1 to 40 back into 19 to -20.
func niceOf(tid int) (int, error) {
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
	return 20 - raw, err
}

func readNice(p *process) (json.RawMessage, error) { return marshal(niceOf(p.pid)) }

// driftNice judges the autogroup too, where there is one: without it the nice
// value is nice to look at only.
func driftNice(d *drift, want *spec.Tuning, raw json.RawMessage) {
	plainDrift(d, "nice", want.Nice, raw)
	if group, ok := d.got["autogroup"]; ok && want.Nice != nil && d.found["nice"] == "" {
		plainDrift(d, "nice", want.Nice, group)
	}
}

// ---- ionice ----

// ioClasses is indexed by the kernel's number.
var ioClasses = []string{"none", "realtime", "best-effort", "idle"}

const (
	ioprioProcess    = 1
	ioprioClassShift = 13
	ioprioLevels     = 8
)

// ioprio is the kernel's form; -1 for a class that there is not.
func ioprio(n spec.IONice) int {
	class := slices.Index(ioClasses, n.Class)
	if class < 0 {
		return -1
	}
	return class<<ioprioClassShift | n.Level
}

func addIONice(b *builder) {
	if n := b.r.Tuning.IONice; n != nil {
		b.call(label{format: "setting ionice to %s %d", a: n.Class, b: n.Level}, unix.SYS_IOPRIO_SET, num(ioprioProcess), num(0), num(ioprio(*n)))
	}
}

func tuneIONice(l *live) {
	n := l.want.IONice
	if n == nil {
		return
	}
	l.refuse("ionice", l.threads("ionice", func(tid int) error {
		if _, _, e := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioProcess, uintptr(tid), uintptr(ioprio(*n))); e != 0 {
			return e
		}
		got, err := ioniceOf(tid)
		if err == nil && !sameIONice(got, *n) {
			err = differs(got)
		}
		return err
	}))
}

func ioniceOf(tid int) (spec.IONice, error) {
	raw, _, e := unix.Syscall(unix.SYS_IOPRIO_GET, ioprioProcess, uintptr(tid), 0)
	if e != 0 {
		return spec.IONice{}, e
	}
	class := int(raw) >> ioprioClassShift & 7
	if class >= len(ioClasses) {
		return spec.IONice{}, fmt.Errorf("unknown I/O class %d", class)
	}
	return spec.IONice{Class: ioClasses[class], Level: int(raw) % ioprioLevels}, nil
}

// sameIONice: the classes none and idle have no levels.
func sameIONice(a, b spec.IONice) bool {
	return a.Class == b.Class && (a.Level == b.Level || a.Class == "none" || a.Class == "idle")
}

func readIONice(p *process) (json.RawMessage, error) { return marshal(ioniceOf(p.pid)) }

func driftIONice(d *drift, want *spec.Tuning, raw json.RawMessage) {
	var got spec.IONice
	if want.IONice == nil || json.Unmarshal(raw, &got) != nil || sameIONice(got, *want.IONice) {
		return
	}
	d.note("ionice", ioWords(got), ioWords(*want.IONice))
}

func ioWords(n spec.IONice) string { return n.Class + " " + strconv.Itoa(n.Level) }

// ---- sched ----

// schedPolicies is indexed by the kernel's number.
var schedPolicies = []string{0: "other", 1: "fifo", 2: "rr", 3: "batch", 5: "idle", 6: "deadline", 7: "ext"}

func addSched(b *builder) {
	if s := b.r.Tuning.Sched; s != nil && !lowSched[s.Policy] {
		b.sched(*s)
	}
}

// lowSched are the policies that make a process wait for others.
var lowSched = map[string]bool{"batch": true, "idle": true}

func (b *builder) sched(s spec.Sched) {
	param := binary.NativeEndian.AppendUint32(nil, uint32(s.Priority))
	b.call(label{format: "setting sched to %s %d", a: s.Policy, b: s.Priority}, unix.SYS_SCHED_SETSCHEDULER, num(0), num(slices.Index(schedPolicies, s.Policy)), b.data(param))
}

func tuneSched(l *live) {
	s := l.want.Sched
	if s == nil {
		return
	}
	l.refuse("sched", l.threads("sched", func(tid int) error {
		if err := setScheduler(tid, *s); err != nil {
			return err
		}
		got, err := schedOf(tid)
		if err == nil && got != *s {
			err = differs(schedWords(got))
		}
		return err
	}))
}

func schedOf(tid int) (spec.Sched, error) {
	a, err := unix.SchedGetAttr(tid, 0)
	if err != nil {
		return spec.Sched{}, err
	}
	if int(a.Policy) >= len(schedPolicies) {
		return spec.Sched{Policy: strconv.Itoa(int(a.Policy))}, nil
	}
	return spec.Sched{Policy: schedPolicies[a.Policy], Priority: int(a.Priority)}, nil
}

func readSched(p *process) (json.RawMessage, error) { return marshal(schedOf(p.pid)) }

func driftSched(d *drift, want *spec.Tuning, raw json.RawMessage) {
	var got spec.Sched
	if want.Sched == nil || json.Unmarshal(raw, &got) != nil || got == *want.Sched {
		return
	}
	d.note("sched", schedWords(got), schedWords(*want.Sched))
}

func schedWords(s spec.Sched) string {
	if s.Priority == 0 {
		return s.Policy
	}
	return s.Policy + " " + strconv.Itoa(s.Priority)
}

// ---- oom_score_adj ----

const oomFile = "/proc/self/oom_score_adj"

// addOOM also takes our own protection off the child (runtime/oom), which the
// kernel gives it at its birth.
func addOOM(b *builder) {
	score, differs := oom.Inherited()
	if n := b.r.Tuning.OOMScoreAdj; n != nil {
		score, differs = *n, true
	}
	if !differs {
		return
	}
	text := strconv.Itoa(score)
	b.add(label{format: "setting oom_score_adj to %d", a: score}, C.PN_WRITE, 0, b.str(oomFile), b.str(text), num(len(text)), num(0))
}

func tuneOOM(l *live) {
	n := l.want.OOMScoreAdj
	if n == nil {
		return
	}
	err := writeProc(procPath(l.pid, "oom_score_adj"), strconv.Itoa(*n))
	if err == nil {
		var got string
		if got, err = readLine(procPath(l.pid, "oom_score_adj")); err == nil && got != strconv.Itoa(*n) {
			err = differs(got)
		}
	}
	l.refuse("oom_score_adj", gone(err))
}

func readOOM(p *process) (json.RawMessage, error) {
	line, err := readLine(procPath(p.pid, "oom_score_adj"))
	if err != nil {
		return nil, gone(err)
	}
	return marshal(strconv.Atoi(line))
}

func driftOOM(d *drift, want *spec.Tuning, raw json.RawMessage) {
	plainDrift(d, "oom_score_adj", want.OOMScoreAdj, raw)
}

func readLine(path string) (string, error) {
	raw, err := os.ReadFile(path)
	return strings.TrimSpace(string(raw)), err
}

// gone turns the ways in which /proc says that a process is gone into one.
func gone(err error) error {
	if os.IsNotExist(err) {
		return syscall.ESRCH
	}
	return err
}
