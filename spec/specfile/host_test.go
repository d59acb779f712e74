package specfile_test

import "github.com/procnanny/procnanny/spec"

// users is the passwd of all tests.
var users = map[string]spec.Identity{
	"root":   {UID: 0, GID: 0, Name: "root", Home: "/root", Shell: "/bin/sh"},
	"games":  {UID: 5, GID: 60, Groups: []uint32{60}, Name: "games", Home: "/usr/games", Shell: "/bin/false"},
	"nobody": {UID: 65534, GID: 65534, Groups: []uint32{65534}, Name: "nobody", Home: "/", Shell: "/bin/false"},
}

var groups = map[string]uint32{"root": 0, "adm": 4, "games": 60, "nogroup": 65534}

// testHost answers as a host with those users, whose daemon is root.
func testHost(names spec.EvalNames) spec.Resolved {
	r := spec.Resolved{
		Users: map[string]spec.Identity{}, ByUID: map[uint32]spec.Identity{}, Group: map[string]uint32{},
		Self: spec.Identity{UID: 0, GID: 0, Groups: []uint32{0}}, NrOpen: 1 << 20,
	}
	for _, u := range names.Users {
		for name, id := range users {
			switch {
			case u.Name == name:
				r.Users[name] = id
			case u.Name == "" && u.UID == id.UID:
				r.ByUID[id.UID] = id
			}
		}
	}
	for _, g := range names.Groups {
		if gid, ok := groups[g]; ok {
			r.Group[g] = gid
		}
	}
	return r
}

// hosts are what a golden file can be judged on instead.
var hosts = map[string]func(spec.EvalNames) spec.Resolved{"host: user": userHost, "host: lenient": lenientHost}

// lenientHost takes every name on trust, as vet without --host does.
func lenientHost(names spec.EvalNames) spec.Resolved {
	r := testHost(names)
	r.Lenient = true
	return r
}

// userHost is the same host with a daemon of uid 1000.
func userHost(names spec.EvalNames) spec.Resolved {
	r := testHost(names)
	r.Self = spec.Identity{UID: 1000, GID: 1000, Groups: []uint32{100, 1000}}
	return r
}
