package output

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	fileMode = 0o640
	dirMode  = 0o750
	// resolve keeps every open below the log directory, whatever stands there.
	resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
	// asideMax bounds the search for a free name.
	asideMax = 100
)

// openAt opens path below dir. It never follows a symlink and never waits for
// the other side of a FIFO.
func openAt(dir int, path string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK,
		Mode:    uint64(mode),
		Resolve: resolve,
	}
	for range 100 {
		fd, err := unix.Openat2(dir, path, &how)
		// EAGAIN: a rename went on somewhere while the path was walked.
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// statAt looks at name itself, not at what a symlink points to.
func statAt(dir int, name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

func regular(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFREG }

// openRegular opens a file that must be one; anything else is errForeign.
func openRegular(dir int, path string, flags int) (int, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := openAt(dir, path, flags, 0)
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENXIO):
		return -1, st, errForeign
	case err != nil:
		return -1, st, err
	}
	if err = unix.Fstat(fd, &st); err == nil && !regular(&st) {
		err = errForeign
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

// errForeign is something that is no regular file where ours should be.
var errForeign = errors.New("is not a regular file")

// createAt makes a new file with the mode and group that all of ours have.
func (d *Dir) createAt(dir int, name string) (int, error) {
	fd, err := openAt(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, fileMode)
	if err != nil {
		return -1, err
	}
	if err := d.own(fd, fileMode); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// own sets mode and group by descriptor: the umask has no say.
func (d *Dir) own(fd int, mode uint32) error {
	if err := unix.Fchmod(fd, mode); err != nil {
		return err
	}
	if d.gid < 0 {
		return nil
	}
	return unix.Fchown(fd, -1, d.gid)
}

// moveAside renames what is in our way, without opening it, to a name that is
// never read and never pruned.
func moveAside(dir int, name string) (string, error) {
	for i := 1; i <= asideMax; i++ {
		to := fmt.Sprintf("%s%s%d", name, asideSuffix, i)
		if err := renameNew(dir, name, to); !errors.Is(err, unix.EEXIST) {
			return to, err
		}
	}
	return "", unix.EEXIST
}

// renameNew renames but never replaces.
func renameNew(dir int, from, to string) error {
	err := unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// A file system without NOREPLACE. Nobody but us names files here.
	if _, err := statAt(dir, to); err == nil {
		return unix.EEXIST
	}
	return unix.Renameat(dir, from, dir, to)
}

// openProgram opens the directory of a program and makes it if need be. What
// is no directory there is refused: whoever put it there meant something by it.
func (d *Dir) openProgram(program string, make bool) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	fd, err := openAt(d.root, program, flags, 0)
	if !make || !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	err = unix.Mkdirat(d.root, program, dirMode)
	if errors.Is(err, unix.ENOENT) { // the log directory itself was removed
		if err = d.reopen(); err == nil {
			err = unix.Mkdirat(d.root, program, dirMode)
		}
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	if fd, err = openAt(d.root, program, flags, 0); err != nil {
		return -1, err
	}
	if err = d.own(fd, dirMode); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
