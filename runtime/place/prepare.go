package place

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// AdminGID is the admin group's gid, or nil when none was given.
func (d Daemon) AdminGID() (*uint32, error) {
	gid, err := groupID("admin-group", d.AdminGroup)
	if err != nil || gid < 0 {
		return nil, err
	}
	id := uint32(gid)
	return &id, nil
}

// LogGID is the log group's gid, or -1 when none was given.
func (d Daemon) LogGID() (int, error) { return groupID("log-group", d.LogGroup) }

// groupID looks a group up by name or number; -1 is none.
func groupID(flag, text string) (int, error) {
	if text == "" {
		return -1, nil
	}
	id := text
	if g, err := user.LookupGroup(text); err == nil {
		id = g.Gid
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil || n == 1<<32-1 {
		return -1, fmt.Errorf("cannot use --%s %q: there is no such group", flag, text)
	}
	return int(n), nil
}

// dirPlan is one directory that Prepare makes.
type dirPlan struct {
	flag, path string
	mode       fs.FileMode
	gid        int // -1: as it comes
}

// Prepare makes the state, run and log directories where they are missing,
// and, for root, checks that nobody else can write them, the configuration, or
// anything on the way to them.
func Prepare(d Daemon) error {
	admin, err := groupID("admin-group", d.AdminGroup)
	if err != nil {
		return err
	}
	log, err := d.LogGID()
	if err != nil {
		return err
	}
	// What cannot be read is no reason not to start, with what was accepted last.
	if err := checkConfig(d.Config, d.TrustConfig, false); err != nil {
		return err
	}
	for _, p := range []dirPlan{
		{"state", d.State, 0o700, -1},
		{"run", d.Run, runMode(d, admin), admin},
		{"log-dir", d.LogDir, 0o750, log},
	} {
		if err := p.make(d.TrustConfig); err != nil {
			return fmt.Errorf("cannot use --%s %s: %w", p.flag, p.path, err)
		}
	}
	return nil
}

// runMode lets a group reach the sockets, but nobody in the directory in /tmp
// that is only ours, unless a group was asked for.
func runMode(d Daemon, admin int) fs.FileMode {
	if admin < 0 && d.Run == fallbackRun(os.Geteuid()) {
		return 0o700
	}
	return 0o750
}

// privileged says whether trust matters: an ordinary user's daemon can be made
// to do only what that user can.
func privileged() bool { return os.Geteuid() == 0 }

func (p dirPlan) make(trusted *uint32) error {
	if privileged() {
		if err := CheckTrust(p.path, trusted); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(p.path), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(p.path, p.mode)
	created := err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if p.flag == "run" {
		if err := checkFallback(p.path, os.Geteuid()); err != nil {
			return err
		}
	}
	if err := p.own(created); err != nil {
		return err
	}
	if privileged() {
		return CheckTrust(p.path, trusted)
	}
	return nil
}

// own gives a directory of ours its mode and group. One that exists is taken
// for ours when it has the owner and mode that we give; others stay as they
// are.
func (p dirPlan) own(created bool) error {
	fd, err := unix.Open(p.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) {
		return errors.New("it is not a directory")
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	ours := int(st.Uid) == os.Geteuid() && fs.FileMode(st.Mode)&0o7777 == p.mode
	if created {
		if err := unix.Fchmod(fd, uint32(p.mode)); err != nil { // whatever the umask was
			return err
		}
	}
	if p.gid < 0 || int(st.Gid) == p.gid || !created && !ours {
		return unix.Access(p.path, unix.W_OK|unix.X_OK)
	}
	if err := unix.Fchown(fd, -1, p.gid); err != nil {
		return fmt.Errorf("cannot give it to group %d: %w", p.gid, err)
	}
	return nil
}

// CheckConfig checks again, whenever the files were read, that nobody else can
// write the configuration. What cannot be checked is not to be believed.
func (d Daemon) CheckConfig() error { return checkConfig(d.Config, d.TrustConfig, true) }

// maxEntries bounds the look into a configuration directory.
const maxEntries = 100_000

// checkConfig checks the configuration and what is in it. All else is looked at
// although one directory cannot be; with all that is an error, too.
func checkConfig(path string, trusted *uint32, all bool) error {
	if !privileged() {
		return nil
	}
	if err := CheckTrust(path, trusted); err != nil {
		return fmt.Errorf("cannot use --config %s: %w", path, err)
	}
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil // missing or unreadable: whoever reads the files says it better
	}
	c := configCheck{root: root, trusted: trusted, all: all, left: maxEntries}
	if err := filepath.WalkDir(root, c.entry); err != nil {
		return fmt.Errorf("cannot use --config %s: %w", path, err)
	}
	return nil
}

// configCheck is one look at all that is in a configuration.
type configCheck struct {
	root    string
	trusted *uint32
	all     bool // what cannot be looked at is an error
	left    int  // so many entries more
}

// entry judges one entry. Git's own directory is not read by us, and links are
// judged by where they lead.
func (c *configCheck) entry(at string, e fs.DirEntry, err error) error {
	c.left--
	switch {
	case c.left < 0:
		return filepath.SkipAll
	case err != nil:
		return c.unseen(c.root, at, err)
	case e.IsDir() && e.Name() == ".git":
		return filepath.SkipDir
	}
	if err := judgeEntry(at, e, c.trusted); err != nil {
		return err
	}
	if e.Type()&fs.ModeSymlink != 0 && filepath.Dir(at) == c.root {
		return c.linked(at)
	}
	return nil
}

// linked judges what is read where a link in the root leads to a directory, which
// need not be ours alone: the CUE files, which others import.
func (c *configCheck) linked(link string) error {
	dir, err := filepath.EvalSymlinks(link)
	if err != nil {
		return nil // it leads nowhere
	}
	return filepath.WalkDir(dir, func(at string, e fs.DirEntry, err error) error {
		c.left--
		switch {
		case c.left < 0:
			return filepath.SkipAll
		case err != nil:
			return c.unseen(dir, at, err)
		case e.IsDir() && at != dir && strings.HasPrefix(e.Name(), "."):
			return filepath.SkipDir
		case !e.IsDir() && filepath.Ext(at) == ".cue":
			return CheckTrust(at, c.trusted)
		}
		return nil
	})
}

// unseen is the error for what cannot be looked at.
func (c *configCheck) unseen(root, at string, err error) error {
	if !c.all || unread(root, at, err) {
		return nil
	}
	return fmt.Errorf("cannot check what is in it: %w", err)
}

// unread reports whether what could not be looked at is nothing that would have
// been read: it is gone by now, or lies below a name with a dot, which no reader
// of a configuration looks into.
func unread(root, at string, err error) bool {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return true
	}
	rel, relErr := filepath.Rel(root, at)
	return relErr == nil && rel != "." && slices.ContainsFunc(strings.Split(rel, "/"), func(name string) bool { return strings.HasPrefix(name, ".") })
}

func judgeEntry(at string, e fs.DirEntry, trusted *uint32) error {
	if e.Type()&fs.ModeSymlink != 0 {
		return CheckTrust(at, trusted)
	}
	info, err := e.Info()
	if err != nil {
		return nil // gone meanwhile
	}
	w := walk{wanted: at, trusted: trusted}
	return w.judgeInfo(at, info, true)
}
