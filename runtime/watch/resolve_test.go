package watch

import (
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/spec"
)

func TestResolve(t *testing.T) {
	me, err := user.Current()
	must(t, err)
	uid, _ := number(me.Uid)
	r := Resolve(spec.EvalNames{
		Users:  []spec.UserRef{{Name: me.Username}, {Name: "no such user"}, {UID: uid}, {UID: 4294967294}},
		Groups: []string{"no such group"},
	})
	id, ok := r.Users[me.Username]
	if !ok || id.UID != uid || !id.Switch || id.Home != me.HomeDir || id.Name != me.Username || !strings.HasPrefix(id.Shell, "/") || !slices.Contains(id.Groups, id.GID) {
		t.Errorf("%s is %+v", me.Username, id)
	}
	if len(r.Users) != 1 || len(r.ByUID) != 1 || len(r.Group) != 0 {
		t.Errorf("unknown names are known: %+v", r)
	}
	if r.Self.UID != uint32(os.Geteuid()) || r.Self.Switch || r.NrOpen == 0 {
		t.Errorf("self is %+v, nr_open %d", r.Self, r.NrOpen)
	}
}

// A daemon that is not root can be nobody but itself.
func TestOwnOnly(t *testing.T) {
	me := spec.Identity{UID: 1000, GID: 1000, Groups: []uint32{100}}
	cases := map[string]struct {
		id   spec.Identity
		says string
	}{
		"as the daemon":       {spec.Identity{UID: 1000, GID: 1000, Groups: []uint32{100}}, ""},
		"myself":              {spec.Identity{UID: 1000, GID: 100, Groups: []uint32{1000}, Switch: true}, ""},
		"another uid":         {spec.Identity{UID: 1001, GID: 1000, Switch: true}, "cannot use uid 1001"},
		"root":                {spec.Identity{UID: 0, GID: 0, Switch: true}, "cannot use uid 0"},
		"a foreign gid":       {spec.Identity{UID: 1000, GID: 4, Switch: true}, "cannot use gid 4"},
		"a foreign group too": {spec.Identity{UID: 1000, GID: 1000, Groups: []uint32{0}, Switch: true}, "cannot use gid 0"},
	}
	for name, c := range cases {
		s := spec.Spec{Programs: map[string]spec.Program{"web": {Launch: spec.Launch{Identity: c.id}}}}
		got := ownOnly(s, me)
		if c.says == "" && len(got) > 0 || c.says != "" && !strings.Contains(got.Error(), c.says) {
			t.Errorf("%s: expected %q, found %v", name, c.says, got)
		}
		if got := ownOnly(s, spec.Identity{}); len(got) > 0 {
			t.Errorf("%s: root's daemon refuses: %v", name, got)
		}
	}
}

func TestShell(t *testing.T) {
	if os.Geteuid() == 0 && !strings.HasPrefix(shell("root"), "/") {
		t.Errorf("root's shell is %q", shell("root"))
	}
	if got := shell("nobody-" + strconv.Itoa(os.Getpid())); got != "/bin/sh" {
		t.Errorf("an unknown user's shell is %q", got)
	}
}
