package launch

// #include "child.h"
import "C"

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// cpuMaskBytes holds the most CPUs that a kernel can be built for today (8192);
// maxCPU is what the schema lets through.
const (
	cpuMaskBytes = 1024
	maxCPU       = 99999
)

// parseCPUs turns "0-3,6" into the kernel's mask, of at least cpuMaskBytes.
func parseCPUs(list string) ([]byte, error) {
	mask := make([]byte, cpuMaskBytes)
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(from)
		b := a
		if err == nil && isRange {
			b, err = strconv.Atoi(to)
		}
		if err != nil || a < 0 || b < a || b > maxCPU {
			return nil, fmt.Errorf("no list of CPUs: %q", list)
		}
		for len(mask) <= b/8 {
			mask = append(mask, make([]byte, cpuMaskBytes)...)
		}
		for n := a; n <= b; n++ {
			mask[n/8] |= 1 << (n % 8)
		}
	}
	return mask, nil
}

// formatCPUs is the shortest list of a mask.
func formatCPUs(mask []byte) string {
	var out []string
	from := -1
	for n := range len(mask)*8 + 1 {
		in := n < len(mask)*8 && mask[n/8]>>(n%8)&1 != 0
		switch {
		case in && from < 0:
			from = n
		case !in && from >= 0 && from == n-1:
			out, from = append(out, strconv.Itoa(from)), -1
		case !in && from >= 0:
			out, from = append(out, strconv.Itoa(from)+"-"+strconv.Itoa(n-1)), -1
		}
	}
	return strings.Join(out, ",")
}

func addCPUs(b *builder) {
	list := b.r.Tuning.CPUs
	if list == "" {
		return
	}
	mask, err := parseCPUs(list)
	if err != nil {
		b.fail(syscall.EINVAL, "setting cpus to %s", list)
		return
	}
	b.add(label{format: "setting cpus to %s", a: list}, C.PN_CPUS, 0, b.data(mask), num(len(mask)), b.data(make([]byte, len(mask))))
}

func tuneCPUs(l *live) {
	if l.want.CPUs == "" {
		return
	}
	mask, err := parseCPUs(l.want.CPUs)
	if err != nil {
		l.refuse("cpus", err)
		return
	}
	l.refuse("cpus", l.threads("cpus", func(tid int) error {
		if _, _, e := unix.Syscall(unix.SYS_SCHED_SETAFFINITY, uintptr(tid), uintptr(len(mask)), uintptr(unsafe.Pointer(&mask[0]))); e != 0 {
			return e
		}
		got, err := cpusOf(tid)
		if err == nil && got != formatCPUs(mask) {
			err = differs(got)
		}
		return err
	}))
}

func cpusOf(tid int) (string, error) {
	mask := make([]byte, cpuMaskBytes)
	n, _, e := unix.Syscall(unix.SYS_SCHED_GETAFFINITY, uintptr(tid), uintptr(len(mask)), uintptr(unsafe.Pointer(&mask[0])))
	if e != 0 {
		return "", e
	}
	return formatCPUs(mask[:n]), nil
}

func readCPUs(p *process) (json.RawMessage, error) { return marshal(cpusOf(p.pid)) }

func driftCPUs(d *drift, want *spec.Tuning, raw json.RawMessage) {
	var got string
	if want.CPUs == "" || json.Unmarshal(raw, &got) != nil {
		return
	}
	if mask, err := parseCPUs(want.CPUs); err == nil && formatCPUs(mask) != got {
		d.note("cpus", got, want.CPUs)
	}
}
