package watch

import (
	"bufio"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/procnanny/procnanny/spec"
)

// Resolve says what this host knows of the users and groups that a
// configuration names. Unknown ones are left out.
func Resolve(names spec.EvalNames) spec.Resolved {
	r := spec.Resolved{
		Users: map[string]spec.Identity{}, ByUID: map[uint32]spec.Identity{}, Group: map[string]uint32{},
		Self: self(), NrOpen: nrOpen(),
	}
	for _, ref := range names.Users {
		if ref.Name == "" {
			if u, err := user.LookupId(strconv.FormatUint(uint64(ref.UID), 10)); err == nil {
				if id, ok := identity(u); ok {
					r.ByUID[ref.UID] = id
				}
			}
			continue
		}
		if u, err := user.Lookup(ref.Name); err == nil {
			if id, ok := identity(u); ok {
				r.Users[ref.Name] = id
			}
		}
	}
	for _, name := range names.Groups {
		if g, err := user.LookupGroup(name); err == nil {
			if gid, ok := number(g.Gid); ok {
				r.Group[name] = gid
			}
		}
	}
	return r
}

// identity is what a process of u has: its groups as initgroups(3) would set
// them, the primary one among them.
func identity(u *user.User) (spec.Identity, bool) {
	uid, okU := number(u.Uid)
	gid, okG := number(u.Gid)
	if !okU || !okG {
		return spec.Identity{}, false
	}
	id := spec.Identity{UID: uid, GID: gid, Switch: true, Name: u.Username, Home: u.HomeDir, Shell: shell(u.Username)}
	groups, err := u.GroupIds()
	if err != nil {
		groups = nil
	}
	for _, g := range groups {
		if n, ok := number(g); ok {
			id.Groups = append(id.Groups, n)
		}
	}
	if !slices.Contains(id.Groups, gid) {
		id.Groups = append(id.Groups, gid)
	}
	slices.Sort(id.Groups)
	id.Groups = slices.Compact(id.Groups)
	return id, true
}

// self is the daemon's own identity.
func self() spec.Identity {
	id := spec.Identity{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	if groups, err := os.Getgroups(); err == nil {
		for _, g := range groups {
			id.Groups = append(id.Groups, uint32(g))
		}
		slices.Sort(id.Groups)
	}
	if u, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil {
		id.Name, id.Home, id.Shell = u.Username, u.HomeDir, shell(u.Username)
	}
	return id
}

// nrOpen is the kernel's own limit of descriptors, 0 where it cannot be read.
func nrOpen() uint64 {
	raw, err := os.ReadFile("/proc/sys/fs/nr_open")
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func number(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// shell is the login shell by /etc/passwd, which os/user does not tell, or
// /bin/sh for users that come from elsewhere.
func shell(name string) string {
	f, err := os.Open("/etc/passwd")
	if err != nil {
		return "/bin/sh"
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			fields := strings.Split(rest, ":")
			if len(fields) == 6 && fields[5] != "" {
				return fields[5]
			}
			return "/bin/sh"
		}
	}
	return "/bin/sh"
}

// ownOnly is what a daemon that is not root adds to the verdict: it can be
// nobody but itself. root may be anybody.
func ownOnly(s spec.Spec, me spec.Identity) spec.Problems {
	if me.UID == 0 {
		return nil
	}
	mine := append([]uint32{me.GID}, me.Groups...)
	var out spec.Problems
	add := func(program, key, what string, id uint32) {
		out = append(out, spec.Problem{
			Path:    "programs." + program + "." + key,
			Message: "the daemon runs as uid " + strconv.Itoa(int(me.UID)) + " and cannot use " + what + " " + strconv.Itoa(int(id)),
		})
	}
	for name, p := range s.Programs {
		if !p.Identity.Switch {
			continue
		}
		if p.Identity.UID != me.UID {
			add(name, "user", "uid", p.Identity.UID)
			continue
		}
		for _, gid := range append([]uint32{p.Identity.GID}, p.Identity.Groups...) {
			if !slices.Contains(mine, gid) {
				add(name, "group", "gid", gid)
				break
			}
		}
	}
	out.Sort()
	return out
}
