package proc

import (
	"errors"
	"os/user"
	"slices"
	"testing"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/spec"
)

// A name that no longer means what it meant is a start error; nobody asks as
// long as the host's files are as they were.
func TestUsersAreAskedAgainWhenTheyChanged(t *testing.T) {
	p, f := newFake(t)
	passwd := t.TempDir() + "/passwd"
	write(t, passwd, "www:33")
	asked := 0
	uid, err := "33", error(nil)
	p.users.files = []string{passwd}
	p.users.stamp = p.users.now()
	p.users.user = func(string) (string, error) { asked++; return uid, err }
	p.users.group = func(string) (string, error) { return "44", nil }
	g := program(func(g *spec.Program) {
		g.User, g.Group, g.Identity = "www", "web", spec.Identity{UID: 33, GID: 44, Switch: true}
	})
	anonymous := program(func(g *spec.Program) { g.Identity = spec.Identity{UID: 33, GID: 44, Switch: true} })
	run := reconcile.RunID(0)
	try := func(g *spec.Program) (reason string) {
		t.Helper()
		run++
		p.Do([]reconcile.Order{order(reconcile.ActionStart, 0, run, g)})
		return poll(t, func() (string, bool) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if i := slices.IndexFunc(f.facts, func(v reconcile.Fact) bool { return v.Run == run }); i >= 0 {
				return f.facts[i].Reason, true
			}
			return "", slices.ContainsFunc(f.orders, func(o keeper.Order) bool { return o.Run == uint64(run) })
		})
	}
	expect := func(g *spec.Program, want string, times int) {
		t.Helper()
		if got := try(g); got != want || asked != times {
			t.Errorf("says %q after %d questions, should say %q after %d", got, asked, want, times)
		}
	}
	expect(g, "", 0)
	write(t, passwd, "www:33 more")
	expect(g, "", 1)
	expect(g, "", 1) // once for each state of the files
	expect(anonymous, "", 1)
	write(t, passwd, "www:34 and more")
	uid = "34"
	expect(g, "looking up user www: it was 33, and is 34 now", 2)
	expect(anonymous, "", 2)
	err = user.UnknownUserError("www")
	expect(g, "looking up user www: it was 33, and is not there any more", 3)
	err = errors.New("the directory does not answer")
	expect(g, "", 4)
}

func TestUsersOfThisHost(t *testing.T) {
	u := newUsers()
	u.stamp = "another"
	root := program(func(g *spec.Program) { g.User, g.Group = "root", "root" })
	if err := u.check("web", root); err != nil {
		t.Error(err)
	}
	nobody := program(func(g *spec.Program) { g.Group = "no such group here" })
	if err := u.check("web", nobody); err == nil {
		t.Error("an unknown group is right")
	}
	u.forget("web")
	if len(u.asked) != 0 {
		t.Errorf("remembered: %v", u.asked)
	}
}
