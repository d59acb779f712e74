package place

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lock takes dir for this process until the file is closed or the process
// ends. When another process has it, the error names that one's pid.
func Lock(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", dir, err)
	}
	err = flock(f)
	if err == nil {
		err = writePID(f)
	}
	if err == nil {
		return f, nil
	}
	defer f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, &HeldError{dir, holder(f)}
	}
	return nil, fmt.Errorf("cannot lock %s: %w", dir, err)
}

// HeldError is that another process has locked a directory.
type HeldError struct{ dir, holder string }

func (e *HeldError) Error() string { return fmt.Sprintf("cannot lock %s: %s has it", e.dir, e.holder) }

// Dir is the directory.
func (e *HeldError) Dir() string { return e.dir }

// TakeOver takes the lock that fd, a descriptor of a former process of ours,
// holds, and puts our name to it.
func TakeOver(fd int) (*os.File, error) {
	f := os.NewFile(uintptr(fd), "lock")
	if f == nil {
		return nil, fmt.Errorf("cannot take a lock over: %d is no descriptor", fd)
	}
	err := flock(f)
	if err == nil {
		err = writePID(f)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot take a lock over: %w", err)
	}
	return f, nil
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder names who has the lock. Between taking it and writing the pid there
// is a moment, so an empty file is read again for a while.
func holder(f *os.File) string {
	for deadline := time.Now().Add(200 * time.Millisecond); ; time.Sleep(5 * time.Millisecond) {
		raw, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
		if pid, perr := strconv.Atoi(strings.TrimSpace(string(raw))); err == nil && perr == nil && pid > 0 {
			if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
				return fmt.Sprintf("what is left of another procnannyd (pid %d, which died)", pid)
			}
			return fmt.Sprintf("another procnannyd, pid %d,", pid)
		}
		if time.Now().After(deadline) {
			return "another procnannyd"
		}
	}
}

// Holder is the pid of the living process that locked dir, or 0. known is
// false when the lock may not be read. It does not touch the lock itself, so
// that asking never keeps a daemon from starting.
func Holder(dir string) (pid int, known bool) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, errors.Is(err, os.ErrNotExist)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0, false
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid <= 0 || errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return 0, true
	}
	return pid, true
}
