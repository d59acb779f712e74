package zmq

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	zmq4 "github.com/pebbe/zmq4"
	"golang.org/x/sys/unix"
)

// Modes of what ipc endpoints need. Whoever may reach the socket may read.
const (
	dirMode    = 0o750
	socketMode = 0o660
	backlog    = 128
	// maxPath is the longest name that fits sockaddr_un, unix(7).
	maxPath = 107
)

// kind is how the peers of an endpoint are known. One socket has endpoints of
// one kind only.
type kind int

const (
	kindIPC   kind = iota // by the kernel's word
	kindPlain             // not at all: --insecure-loopback
	kindCurve             // by their key
)

// endpoint is one place where clients reach us.
type endpoint struct {
	kind kind
	text string // as people know it
	// bound is what libzmq calls it.
	bound string
	path  string // of an ipc socket; empty for tcp
	// listener is an ipc socket that listens, until bind gives it to libzmq.
	listener int
	inode    uint64 // of the ipc socket's name
	socket   *zmq4.Socket
	// mendAt is when a tcp endpoint that was cut is bound again; zero is bound.
	mendAt time.Time
}

// parseEndpoint says what an endpoint is, or why we do not listen there.
func parseEndpoint(text string, insecure bool) (*endpoint, error) {
	if path, ok := strings.CutPrefix(text, "ipc://"); ok {
		return parseIPC(text, path)
	}
	if address, ok := strings.CutPrefix(text, "tcp://"); ok {
		return parseTCP(text, address, insecure)
	}
	return nil, fmt.Errorf("cannot listen on %s: an endpoint is ipc://PATH or tcp://ADDRESS:PORT", text)
}

func parseIPC(text, path string) (*endpoint, error) {
	switch {
	case path == "" || path == "*" || path[0] == '@':
		return nil, fmt.Errorf("cannot listen on %s: it must be a path, so that a directory protects it", text)
	case len(path) > maxPath:
		return nil, fmt.Errorf("cannot listen on %s: the path has %d bytes, a socket's has at most %d", text, len(path), maxPath)
	}
	return &endpoint{kind: kindIPC, text: text, path: path, listener: -1}, nil
}

// parseTCP takes any address of this machine. Loopback ones go without keys
// where insecure says so.
func parseTCP(text, address string, insecure bool) (*endpoint, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", text, err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil && port != "*" {
		return nil, fmt.Errorf("cannot listen on %s: %s is no port", text, port)
	}
	if host == "*" {
		return &endpoint{kind: kindCurve, text: text}, nil
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: expected an address of this machine, or *", text)
	}
	e := &endpoint{kind: kindCurve, text: "tcp://" + net.JoinHostPort(ip.String(), port)}
	if insecure && ip.IsLoopback() {
		e.kind = kindPlain
	}
	return e, nil
}

// temporary counts names in this process.
var temporary atomic.Uint64

// listen makes the socket of an ipc endpoint: nobody can connect before its
// mode is right, and nothing but a dead socket is ever replaced.
func (e *endpoint) listen(gid *uint32) (err error) {
	dir, name := filepath.Split(e.path)
	dirfd, err := openDir(filepath.Clean(dir+"."), gid)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w", e.text, err)
	}
	defer unix.Close(dirfd)
	if err := checkFree(dirfd, name, e.path); err != nil {
		return fmt.Errorf("cannot listen on %s: %w", e.text, err)
	}
	tmp := fmt.Sprintf(".%d.%d.sock", os.Getpid(), temporary.Add(1))
	if e.listener, err = bindHidden(dirfd, tmp, gid); err != nil {
		return fmt.Errorf("cannot listen on %s: %w", e.text, err)
	}
	var st unix.Stat_t
	if err = unix.Fstatat(dirfd, tmp, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		e.inode = st.Ino
		err = unix.Renameat(dirfd, tmp, dirfd, name)
	}
	if err != nil {
		_ = unix.Unlinkat(dirfd, tmp, 0)
		_ = unix.Close(e.listener)
		return fmt.Errorf("cannot listen on %s: %w", e.text, err)
	}
	return nil
}

// openDir opens the directory of a socket, and makes it when it is missing.
func openDir(dir string, gid *uint32) (int, error) {
	err := os.Mkdir(dir, dirMode)
	if made := err == nil; made {
		if err := os.Chmod(dir, dirMode); err != nil { // whatever the umask is
			return -1, err
		}
		if gid != nil {
			if err := os.Chown(dir, -1, int(*gid)); err != nil {
				return -1, err
			}
		}
	} else if !errors.Is(err, os.ErrExist) {
		return -1, err
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot open %s: %w", dir, err)
	}
	return fd, nil
}

// checkFree refuses a name that something else than a dead socket has.
func checkFree(dirfd int, name, path string) error {
	var st unix.Stat_t
	err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return errors.New("a file that is no socket is in its way")
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err == nil || errors.Is(err, unix.EAGAIN) {
		return errors.New("another process listens there")
	}
	return nil
}

// bindHidden makes a socket that listens, with its mode, under a name that
// nobody knows. The name goes through the directory's descriptor, so that its
// length does not count.
func bindHidden(dirfd int, name string, gid *uint32) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
			_ = unix.Unlinkat(dirfd, name, 0)
		}
	}()
	_ = unix.Unlinkat(dirfd, name, 0) // left by a process that had our pid
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dirfd, name)}); err != nil {
		return -1, err
	}
	if gid != nil {
		if err = unix.Fchownat(dirfd, name, -1, int(*gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return -1, err
		}
	}
	if err = unix.Fchmodat(dirfd, name, socketMode, 0); err != nil {
		return -1, err
	}
	return fd, unix.Listen(fd, backlog)
}
