package launch

// #include "child.h"
import "C"

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// credentials are our own.
type credentials struct{ uid, gid uint32 }

func ourCredentials() credentials {
	return credentials{uint32(unix.Geteuid()), uint32(unix.Getegid())}
}

// unchanged reports whether the identity is the one we have, which an ordinary
// user may ask for although it may not set it.
func (b *builder) unchanged() bool {
	id := b.r.Identity
	if !id.Switch {
		return true
	}
	if b.self.uid == 0 || id.UID != b.self.uid || id.GID != b.self.gid {
		return false
	}
	ours, err := unix.Getgroups()
	return err == nil && sameGroups(ours, id.Groups, int(id.GID))
}

// sameGroups compares as sets; the primary group may or may not be listed.
func sameGroups(ours []int, want []uint32, primary int) bool {
	a, b := append([]int{primary}, ours...), []int{primary}
	for _, g := range want {
		b = append(b, int(g))
	}
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

func addGroups(b *builder) {
	if b.unchanged() {
		return
	}
	list := make([]byte, 0, 4*len(b.r.Identity.Groups)+4)
	for _, g := range b.r.Identity.Groups {
		list = binary.NativeEndian.AppendUint32(list, g)
	}
	b.call(label{format: "setting groups to %v", a: b.r.Identity.Groups}, unix.SYS_SETGROUPS, num(len(b.r.Identity.Groups)), b.data(list))
}

func addGID(b *builder) {
	if gid := num(b.r.Identity.GID); !b.unchanged() {
		b.call(label{format: "setting gid to %d", a: b.r.Identity.GID}, unix.SYS_SETRESGID, gid, gid, gid)
	}
}

func addUID(b *builder) {
	if b.unchanged() {
		return
	}
	if b.ambient() != 0 {
		b.call(label{format: "keeping capabilities"}, unix.SYS_PRCTL, num(unix.PR_SET_KEEPCAPS), num(1), num(0), num(0), num(0))
	}
	uid := num(b.r.Identity.UID)
	b.call(label{format: "setting uid to %d", a: b.r.Identity.UID}, unix.SYS_SETRESUID, uid, uid, uid)
}

func addBounding(b *builder) {
	c := b.r.Capabilities
	if c == nil || c.Bounding == nil {
		return
	}
	l := label{format: "setting the capability bounding set to %v", a: c.Bounding}
	b.add(l, C.PN_BOUND, 0, num(b.capabilities(c.Bounding)))
}

// ambient is the set of ambient capabilities that the request has.
func (b *builder) ambient() uint64 {
	if b.r.Capabilities == nil {
		return 0
	}
	return b.capabilities(b.r.Capabilities.Ambient)
}

// addAmbient leaves the child the ambient capabilities that were asked for and
// no others, whatever we were given ourselves. Root keeps what root has.
func addAmbient(b *builder) {
	set := b.ambient()
	uid := b.self.uid
	if b.r.Identity.Switch {
		uid = b.r.Identity.UID
	}
	root := 0
	if uid == 0 {
		root = 1
	}
	b.add(label{format: "setting capabilities"}, C.PN_CAPS, 0, num(set), num(root))
	for n, name := range capabilityNames {
		if set>>n&1 != 0 {
			b.call(label{format: "raising capability %s", a: name}, unix.SYS_PRCTL, num(unix.PR_CAP_AMBIENT), num(unix.PR_CAP_AMBIENT_RAISE), num(n), num(0), num(0))
		}
	}
}

func addNoNewPrivs(b *builder) {
	if b.r.NoNewPrivs {
		b.call(label{format: "setting no_new_privs"}, unix.SYS_PRCTL, num(unix.PR_SET_NO_NEW_PRIVS), num(1), num(0), num(0), num(0))
	}
}

// capabilities is a set as a mask.
func (b *builder) capabilities(names []string) uint64 {
	var set uint64
	for _, name := range names {
		n := slices.Index(capabilityNames, strings.TrimPrefix(strings.ToLower(name), "cap_"))
		if n < 0 {
			b.fail(syscall.EINVAL, "looking up capability %s", name)
			continue
		}
		set |= 1 << n
	}
	return set
}

// capabilityNames is indexed by number, capabilities(7).
var capabilityNames = []string{
	"chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "linux_immutable",
	"net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot",
	"sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease",
	"audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read",
	"perfmon", "bpf", "checkpoint_restore",
}

func readUID(p *process) (json.RawMessage, error) { return p.statusID("Uid:") }
func readGID(p *process) (json.RawMessage, error) { return p.statusID("Gid:") }

// statusID is the effective id in a line of real, effective, saved and file
// system ids.
func (p *process) statusID(field string) (json.RawMessage, error) {
	ids := strings.Fields(p.statusField(field))
	if len(ids) < 2 {
		return nil, fmt.Errorf("cannot find %s in /proc/%d/status", field, p.pid)
	}
	return json.RawMessage(ids[1]), nil
}
