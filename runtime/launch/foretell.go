package launch

import (
	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// Foretell says, in Tune's words, what the kernel will refuse of want for the
// living process pid, as far as that can be known before it is tried: a hard
// limit above the one that the process has, and a nice value below its own,
// where we lack the capability. What cannot be known is left out.
func Foretell(pid int, want spec.Tuning) (refused map[string]string) {
	l := &live{pid: pid, want: &want, refused: map[string]string{}}
	got, err := limitsOf(pid)
	if err != nil {
		return l.refused
	}
	for resource, name := range limits {
		v, ok := want.Limits[name.key]
		if ok && v.Hard > got[name.key].Hard && !May(unix.CAP_SYS_RESOURCE) {
			l.refuse(limitKey(resource), unix.EPERM)
		}
	}
	if want.Nice == nil {
		return l.refused
	}
	now, err := niceOf(pid)
	allowed := 20-*want.Nice <= int(min(got["nice"].Soft, 40)) // setrlimit(2): RLIMIT_NICE
	if err == nil && *want.Nice < now && !allowed && !May(unix.CAP_SYS_NICE) {
		l.refuse("nice", unix.EACCES)
	}
	return l.refused
}

// May reports whether this process has a capability.
func May(capability int) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}
