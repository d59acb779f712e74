package keeper

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// The kernel's files are read and written by plain system calls: os.ReadFile
// asks Go's poller about each of them first, which triples the cost.

// maxRead bounds what is read of one of the kernel's files: a process can make
// its environment, or a cgroup's list, as long as it likes.
const maxRead = 8 << 20

// readSome reads a file that the kernel gives in one piece and without waiting
// for its process, like /proc/PID/stat or a cgroup's events; at most len(b) bytes.
func readSome(path string, b []byte) ([]byte, error) {
	fd, err := quickOpen(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer quickClose(fd)
	n, err := quickRead(fd, b)
	return b[:max(n, 0)], err
}

// readWhole reads a file to its end.
func readWhole(path string) ([]byte, error) {
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 4096)
	for len(b) < maxRead {
		if cap(b)-len(b) < 2048 {
			b = append(make([]byte, 0, 4*cap(b)), b...)
		}
		n, err := read(fd, b[len(b):cap(b)])
		if err != nil {
			return b, err
		}
		if n <= 0 {
			break
		}
		b = b[:len(b)+n]
	}
	return b, nil
}

// writeText writes to a file in one system call; flags besides O_WRONLY.
func writeText(path, text string, flags int) error {
	fd, err := open(path, unix.O_WRONLY|flags)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		_, err = unix.Write(fd, []byte(text))
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

func open(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: path, Err: err}
		}
		return fd, nil
	}
}

func read(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		if err != unix.EINTR {
			return n, err
		}
	}
}
