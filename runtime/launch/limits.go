package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// limits are the kernel's 16, indexed by resource number: our key, and the name
// in /proc/PID/limits.
var limits = []struct{ key, proc string }{
	unix.RLIMIT_CPU:        {"cpu", "Max cpu time"},
	unix.RLIMIT_FSIZE:      {"fsize", "Max file size"},
	unix.RLIMIT_DATA:       {"data", "Max data size"},
	unix.RLIMIT_STACK:      {"stack", "Max stack size"},
	unix.RLIMIT_CORE:       {"core", "Max core file size"},
	unix.RLIMIT_RSS:        {"rss", "Max resident set"},
	unix.RLIMIT_NPROC:      {"nproc", "Max processes"},
	unix.RLIMIT_NOFILE:     {"nofile", "Max open files"},
	unix.RLIMIT_MEMLOCK:    {"memlock", "Max locked memory"},
	unix.RLIMIT_AS:         {"as", "Max address space"},
	unix.RLIMIT_LOCKS:      {"locks", "Max file locks"},
	unix.RLIMIT_SIGPENDING: {"sigpending", "Max pending signals"},
	unix.RLIMIT_MSGQUEUE:   {"msgqueue", "Max msgqueue size"},
	unix.RLIMIT_NICE:       {"nice", "Max nice priority"},
	unix.RLIMIT_RTPRIO:     {"rtprio", "Max realtime priority"},
	unix.RLIMIT_RTTIME:     {"rttime", "Max realtime timeout"},
}

// limitKey is how a limit is named among other keys.
func limitKey(resource int) string {
	if resource == unix.RLIMIT_NICE {
		return "limits.nice" // nice is a key of its own
	}
	return limits[resource].key
}

func (b *builder) limit(resource int, v spec.Limit) {
	l := label{format: "setting %s limit to %s", a: limits[resource].key, b: limitText(v)}
	b.call(l, unix.SYS_PRLIMIT64, num(0), num(resource), b.words64(uint64(v.Soft), uint64(v.Hard)), num(0))
}

// limitText is a limit that is put into words only when somebody asks.
type limitText spec.Limit

func (v limitText) String() string { return limitWords(spec.Limit(v)) }

func limitWords(v spec.Limit) string {
	if v.Soft == v.Hard {
		return sizeWords(v.Soft)
	}
	return sizeWords(v.Soft) + ":" + sizeWords(v.Hard)
}

func sizeWords(s spec.Size) string {
	if uint64(s) == spec.Unlimited {
		return "unlimited"
	}
	return strconv.FormatUint(uint64(s), 10)
}

// addLimits sets all but open files, whose own turn comes later; only raising
// their hard limit needs privilege and so is done here.
func addLimits(b *builder) {
	want := b.r.Tuning.Limits
	for name := range want {
		if !knownLimit(name) {
			b.fail(syscall.EINVAL, "setting %s limit", name)
			return
		}
	}
	if len(want) == 0 {
		return
	}
	for resource, l := range limits {
		v, ok := want[l.key]
		if !ok {
			continue
		}
		if resource != unix.RLIMIT_NOFILE {
			b.limit(resource, v)
		} else if uint64(v.Hard) > ourNoFile().Max {
			b.limit(resource, spec.Limit{Soft: v.Hard, Hard: v.Hard})
			b.labels[len(b.labels)-1].b = limitText(v)
		}
	}
}

func knownLimit(name string) bool {
	return slices.ContainsFunc(limits, func(l struct{ key, proc string }) bool { return l.key == name })
}

// addNoFile sets the limit of open files to what was asked for, or back to
// what we were started with.
func addNoFile(b *builder) {
	if v, ok := b.r.Tuning.Limits["nofile"]; ok {
		b.limit(unix.RLIMIT_NOFILE, v)
		return
	}
	given, now := givenNoFile(), ourNoFile()
	given.Max = min(given.Max, now.Max) // somebody lowered ours since
	given.Cur = min(given.Cur, given.Max)
	if given != now && given.Cur > 0 {
		b.limit(unix.RLIMIT_NOFILE, spec.Limit{Soft: spec.Size(given.Cur), Hard: spec.Size(given.Max)})
	}
}

func ourNoFile() syscall.Rlimit {
	var r unix.Rlimit
	if unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &r) != nil {
		return syscall.Rlimit{}
	}
	return syscall.Rlimit{Cur: r.Cur, Max: r.Max}
}

func tuneLimits(l *live) {
	if len(l.want.Limits) == 0 {
		return
	}
	for resource, name := range limits {
		if v, ok := l.want.Limits[name.key]; ok {
			l.refuse(limitKey(resource), setLimit(l.pid, resource, v))
		}
	}
	got, err := limitsOf(l.pid)
	for resource, name := range limits {
		v, ok := l.want.Limits[name.key]
		if ok && err == nil && got[name.key] != v && l.refused[limitKey(resource)] == "" {
			l.refuse(limitKey(resource), differs(limitWords(got[name.key])))
		}
	}
}

// setLimit sets a limit of another process. Without CAP_SYS_RESOURCE we may not
// touch one of another user, but that user may: a short-lived child becomes it.
func setLimit(pid, resource int, v spec.Limit) error {
	r := unix.Rlimit{Cur: uint64(v.Soft), Max: uint64(v.Hard)}
	err := unix.Prlimit(pid, resource, &r, nil)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	var st unix.Stat_t
	if e := unix.Stat(procPath(pid, "task"), &st); e != nil || st.Uid == ourCredentials().uid {
		return err
	}
	b := newBuilder(&Request{}, NoStdio)
	defer b.release()
	b.job.reap = 1
	addSignals(b)
	gid, uid := num(st.Gid), num(st.Uid)
	b.call(label{format: "setting gid"}, unix.SYS_SETRESGID, gid, gid, gid)
	b.call(label{format: "setting uid"}, unix.SYS_SETRESUID, uid, uid, uid)
	b.call(label{format: "setting the limit"}, unix.SYS_PRLIMIT64, num(pid), num(resource), b.words64(r.Cur, r.Max), num(0))
	if e := b.run(); e != nil {
		return e.Errno
	}
	return nil
}

// limitsOf parses /proc/PID/limits, which everybody may read; prlimit(2) of
// another user's process needs privilege.
func limitsOf(pid int) (map[string]spec.Limit, error) {
	raw, err := os.ReadFile(procPath(pid, "limits"))
	if err != nil {
		return nil, gone(err)
	}
	return parseLimits(string(raw))
}

func parseLimits(text string) (map[string]spec.Limit, error) {
	out := make(map[string]spec.Limit, len(limits))
	for line := range strings.Lines(text) {
		for _, l := range limits {
			rest, ok := strings.CutPrefix(line, l.proc+" ")
			fields := strings.Fields(rest)
			if !ok || len(fields) < 2 {
				continue
			}
			var v spec.Limit
			if err := errors.Join(parseSize(fields[0], &v.Soft), parseSize(fields[1], &v.Hard)); err != nil {
				return nil, fmt.Errorf("cannot parse limit %s: %w", l.key, err)
			}
			out[l.key] = v
		}
	}
	return out, nil
}

func parseSize(text string, s *spec.Size) error {
	if text == "unlimited" {
		*s = spec.Unlimited
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	*s = spec.Size(n)
	return err
}

func readLimits(p *process) (json.RawMessage, error) { return marshal(limitsOf(p.pid)) }

func driftLimits(d *drift, want *spec.Tuning, raw json.RawMessage) {
	var got map[string]spec.Limit
	if len(want.Limits) == 0 || json.Unmarshal(raw, &got) != nil {
		return
	}
	for resource, l := range limits {
		w, set := want.Limits[l.key]
		g, known := got[l.key]
		if set && known && g.Hard != w.Hard {
			d.note(limitKey(resource), limitWords(g), limitWords(w))
		}
	}
}

// setScheduler is sched_setscheduler(2), which x/sys lacks.
func setScheduler(tid int, s spec.Sched) error {
	param := int32(s.Priority)
	policy := slices.Index(schedPolicies, s.Policy)
	if _, _, e := unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(tid), uintptr(policy), uintptr(unsafe.Pointer(&param))); e != 0 {
		return e
	}
	return nil
}
