package specfile

import (
	"fmt"
	"slices"

	"cuelang.org/go/cue"

	"github.com/procnanny/procnanny/spec"
)

// asked is who a program wants to run as, in the words of its file.
type asked struct {
	user, group string
	uid, gid    *uint32
	groups      []spec.NameOrID
	listed      bool // groups was given, perhaps empty
	broken      bool // one of them is no value at all: there is nobody to resolve
}

func (a asked) any() bool {
	return a.user != "" || a.group != "" || a.uid != nil || a.gid != nil || a.listed
}

// askedBy reads the keys about users of a program. What is no proper value is
// left out: the schema refuses it later.
func askedBy(v cue.Value) asked {
	var a asked
	a.user, _ = lookup(v, "user").String()
	a.group, _ = lookup(v, "group").String()
	a.uid, a.gid = idAt(v, "uid"), idAt(v, "gid")
	for _, key := range []string{"user", "group", "uid", "gid", "groups"} {
		a.broken = a.broken || lookup(v, key).IncompleteKind() == cue.BottomKind && v.LookupPath(cue.MakePath(cue.Str(key))).Exists()
	}
	list := lookup(v, "groups")
	if !list.Exists() {
		return a
	}
	a.listed = true
	for it, err := list.List(); err == nil && it.Next(); {
		if name, err := it.Value().String(); err == nil {
			a.groups = append(a.groups, spec.NameOrID{Name: name})
		} else if id, err := it.Value().Uint64(); err == nil && id < 1<<32 {
			a.groups = append(a.groups, spec.NameOrID{ID: uint32(id)})
		}
	}
	return a
}

func lookup(v cue.Value, key string) cue.Value { return v.LookupPath(cue.MakePath(cue.Str(key))) }

// maxID is the highest uid and gid; the next number means none.
const maxID = 4294967294

func idAt(v cue.Value, key string) *uint32 {
	n, err := lookup(v, key).Uint64()
	if err != nil || n > maxID {
		return nil
	}
	id := uint32(n)
	return &id
}

// names collects the user and group names of all who are asked for.
func names(all []asked) spec.EvalNames {
	var out spec.EvalNames
	users, groups := map[spec.UserRef]bool{}, map[string]bool{}
	for _, a := range all {
		switch {
		case a.user != "":
			users[spec.UserRef{Name: a.user}] = true
		case a.uid != nil:
			users[spec.UserRef{UID: *a.uid}] = true
		}
		if a.group != "" {
			groups[a.group] = true
		}
		for _, g := range a.groups {
			if g.Name != "" {
				groups[g.Name] = true
			}
		}
	}
	for u := range users {
		out.Users = append(out.Users, u)
	}
	for g := range groups {
		out.Groups = append(out.Groups, g)
	}
	slices.SortFunc(out.Users, func(a, b spec.UserRef) int {
		if a.Name != b.Name {
			if a.Name < b.Name {
				return -1
			}
			return 1
		}
		return int(int64(a.UID) - int64(b.UID))
	})
	slices.Sort(out.Groups)
	return out
}

// finding is something wrong (or, as a warning, odd) at a key of a program.
type finding struct {
	key     []string
	message string
	warning bool
}

func found(message string, key ...string) finding { return finding{key: key, message: message} }

// resolver turns what programs ask for into identities.
type resolver struct {
	host spec.Resolved
	out  []finding
}

func (r *resolver) add(unknownName bool, key, format string, args ...any) {
	r.out = append(r.out, finding{key: []string{key}, message: fmt.Sprintf(format, args...), warning: unknownName && r.host.Lenient})
}

// resolve says who a program runs as, and what is wrong with that.
func resolve(a asked, host spec.Resolved) (spec.Identity, []finding) {
	r := &resolver{host: host}
	if !a.any() || a.broken {
		return host.Self, nil
	}
	id := r.user(a)
	id.Switch = true
	id.GID = r.group(a, id.GID)
	if a.listed {
		id.Groups = r.groups(a.groups)
	}
	if len(r.out) == 0 && !host.Lenient && host.Self.UID != 0 {
		r.own(a, id)
	}
	return id, r.out
}

func (r *resolver) user(a asked) spec.Identity {
	switch {
	case a.user != "":
		id, ok := r.host.Users[a.user]
		if !ok {
			r.add(true, "user", "no such user: %s", a.user)
			id = spec.Identity{UID: unknownID, GID: unknownID, Name: a.user}
			if a.uid != nil {
				id.UID = *a.uid
			}
			return id
		}
		if a.uid != nil && *a.uid != id.UID {
			r.add(false, "uid", "user %s is uid %d, not %d", a.user, id.UID, *a.uid)
		}
		return id
	case a.uid != nil:
		id, ok := r.host.ByUID[*a.uid]
		if !ok && a.gid == nil && a.group == "" {
			r.add(true, "uid", "no user has the uid %d, so its group is unknown: give gid as well", *a.uid)
		}
		if !ok {
			return spec.Identity{UID: *a.uid, GID: unknownID}
		}
		return id
	}
	return r.host.Self
}

// unknownID stands for an id that only the host could tell, where its names are
// taken on trust: the traditional nobody.
const unknownID = 65534

func (r *resolver) group(a asked, primary uint32) uint32 {
	if a.group == "" {
		if a.gid != nil {
			return *a.gid
		}
		return primary
	}
	gid, ok := r.host.Group[a.group]
	switch {
	case !ok:
		r.add(true, "group", "no such group: %s", a.group)
		if a.gid != nil {
			return *a.gid
		}
		return unknownID
	case a.gid != nil && *a.gid != gid:
		r.add(false, "gid", "group %s is gid %d, not %d", a.group, gid, *a.gid)
	}
	return gid
}

func (r *resolver) groups(list []spec.NameOrID) []uint32 {
	out := []uint32{}
	for _, g := range list {
		if g.Name == "" {
			out = append(out, g.ID)
			continue
		}
		gid, ok := r.host.Group[g.Name]
		if !ok {
			r.add(true, "groups", "no such group: %s", g.Name)
			continue
		}
		out = append(out, gid)
	}
	return out
}

// first is the first of some keys that was given, or the first at all.
func (a asked) first(keys ...string) string {
	given := map[string]bool{"user": a.user != "", "uid": a.uid != nil, "group": a.group != "", "gid": a.gid != nil, "groups": a.listed}
	for _, k := range keys {
		if given[k] {
			return k
		}
	}
	return keys[0]
}

// own refuses foreign ids to a daemon that is not root.
func (r *resolver) own(a asked, id spec.Identity) {
	self := r.host.Self
	mine := func(gid uint32) bool { return gid == self.GID || slices.Contains(self.Groups, gid) }
	if id.UID != self.UID {
		r.add(false, a.first("user", "uid"), "only root can run programs as another user: the daemon is uid %d, this is uid %d", self.UID, id.UID)
		return
	}
	if !mine(id.GID) {
		r.add(false, a.first("group", "gid", "user", "uid"), "only root can run programs as a foreign group: gid %d is none of the daemon's", id.GID)
	}
	for _, g := range id.Groups {
		if !mine(g) {
			r.add(false, a.first("groups", "user", "uid"), "only root can run programs with a foreign group: gid %d is none of the daemon's", g)
		}
	}
}
