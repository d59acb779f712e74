package proc

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// users sees to it that a name still means the id that it meant when the
// configuration was accepted: a user who was removed must not be started, and
// an id that was given to another even less. Asking may take long (a directory
// on the network), so it is done on the slow way, and only after the host's
// files have changed.
type users struct {
	mu    sync.Mutex
	files []string
	// stamp is the state of files in which every name was right.
	stamp string
	// asked are the programs, by name, whose names were found right in a later
	// state.
	asked map[string]answer
	// user and group look a name's id up.
	user, group func(name string) (string, error)
}

type answer struct {
	program *spec.Program
	stamp   string
}

func newUsers() *users {
	u := &users{
		files: []string{"/etc/passwd", "/etc/group"}, asked: map[string]answer{},
		user: func(name string) (string, error) {
			v, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return v.Uid, nil
		},
		group: func(name string) (string, error) {
			v, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return v.Gid, nil
		},
	}
	u.stamp = u.now()
	return u
}

// now is the state of the files: which they are, when they changed.
func (u *users) now() string {
	var b strings.Builder
	for _, file := range u.files {
		var st unix.Stat_t
		_ = unix.Stat(file, &st) // one that is not there is a state too
		fmt.Fprintf(&b, "%d %d %d %d;", st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
	}
	return b.String()
}

// named reports whether g has a name that could come to mean another id.
func named(g *spec.Program) bool { return g.User != "" || g.Group != "" }

// doubtful reports whether the names of g must be asked about, in state stamp.
func (u *users) doubtful(name string, g *spec.Program, stamp string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return stamp != u.stamp && u.asked[name] != answer{g, stamp}
}

// check asks. A directory that does not answer is no answer: the ids that were
// accepted stand.
func (u *users) check(name string, g *spec.Program) error {
	if !named(g) {
		return nil
	}
	stamp := u.now()
	if !u.doubtful(name, g, stamp) {
		return nil
	}
	err := errors.Join(
		sameID(g.User, g.Identity.UID, "user", u.user),
		sameID(g.Group, g.Identity.GID, "group", u.group),
	)
	if err != nil {
		return err
	}
	u.mu.Lock()
	u.asked[name] = answer{g, stamp}
	u.mu.Unlock()
	return nil
}

func (u *users) forget(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.asked, name)
}

func sameID(name string, id uint32, kind string, lookup func(string) (string, error)) error {
	if name == "" {
		return nil
	}
	found, err := lookup(name)
	var noUser user.UnknownUserError
	var noGroup user.UnknownGroupError
	want := strconv.FormatUint(uint64(id), 10)
	switch {
	case errors.As(err, &noUser), errors.As(err, &noGroup):
		return fmt.Errorf("looking up %s %s: it was %s, and is not there any more", kind, name, want)
	case err == nil && found != want:
		return fmt.Errorf("looking up %s %s: it was %s, and is %s now", kind, name, want, found)
	}
	return nil
}
