package zmq

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	zmq4 "github.com/pebbe/zmq4"
	"golang.org/x/sys/unix"
)

// bind lets a socket of libzmq accept here.
func (e *endpoint) bind(s *zmq4.Socket) error {
	e.socket = s
	fd := -1
	if e.path != "" {
		fd, e.listener = e.listener, -1
	}
	err := s.SetUseFd(fd)
	if err == nil {
		err = s.Bind(e.text)
	}
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return fmt.Errorf("cannot listen on %s: %w", e.text, err)
	}
	if e.path == "" {
		e.bound, err = s.GetLastEndpoint()
		if strings.HasSuffix(e.text, ":*") { // a port is chosen now
			e.text = strings.TrimSuffix(e.text, "*") + e.bound[strings.LastIndexByte(e.bound, ':')+1:]
		}
	}
	return err
}

// mendEvery is how often an endpoint that was cut is tried: libzmq gives its
// port back a moment later.
const mendEvery = 10 * time.Millisecond

// cut ends every connection of a tcp endpoint, and takes none before mend.
// Clients connect again by themselves.
func (e *endpoint) cut(mend time.Time) error {
	if e.kind == kindIPC || !e.mendAt.IsZero() {
		return nil
	}
	e.mendAt = mend
	return e.socket.Unbind(e.bound)
}

// mend takes connections again, when it is time.
func (e *endpoint) mend(now time.Time) error {
	if e.mendAt.IsZero() || now.Before(e.mendAt) {
		return nil
	}
	err := e.socket.Bind(e.bound)
	if err == nil {
		e.mendAt = time.Time{}
		return nil
	}
	e.mendAt = now.Add(mendEvery)
	if errors.Is(err, zmq4.Errno(unix.EADDRINUSE)) {
		return nil
	}
	return fmt.Errorf("cannot listen on %s again: %w", e.text, err)
}

// admit looks who may connect, answers who asks, and opens what was cut.
func (l *loop) admit(now time.Time) {
	if l.keys != nil {
		l.expel(now)
		l.zap.answer()
	}
	if l.gate.shut {
		return
	}
	for _, e := range l.doors {
		if err := e.mend(now); err != nil {
			l.server.log.Error("cannot accept connections", "error", err)
		}
	}
}

// expel looks whether a key is gone, before anything is sent to who has it.
func (l *loop) expel(now time.Time) {
	if l.keys != nil && l.keys.look(now) {
		l.cut(func(e *endpoint) bool { return e.kind == kindCurve && l.published(e) }, now, "a key is not allowed any more")
		l.server.waker.wake() // to mend it
	}
}

// published reports whether an endpoint has events. Requests are judged one by
// one; a subscriber that shall not listen any more has to be cut off, and libzmq
// can cut off one only with all.
func (l *loop) published(e *endpoint) bool {
	for _, p := range l.publishers {
		if p.socket == e.socket {
			return true
		}
	}
	return false
}

// cut ends the connections of some tcp endpoints.
func (l *loop) cut(which func(*endpoint) bool, mend time.Time, why string) {
	for _, e := range l.doors {
		if e.kind == kindIPC || !e.mendAt.IsZero() || !which(e) {
			continue
		}
		l.server.log.Warn("all connections are ended, and may come again", "endpoint", e.text, "why", why)
		if err := e.cut(mend); err != nil {
			l.server.log.Error("cannot end connections", "endpoint", e.text, "error", err)
		}
		l.gate.forget(e.socket)
	}
}

// doorPatience is how long the loop may wait for what was cut.
func (l *loop) doorPatience() time.Duration {
	for _, e := range l.doors {
		if !e.mendAt.IsZero() && !l.gate.shut {
			return max(time.Until(e.mendAt), 0)
		}
	}
	return -1
}

// hiddenSuffix is added to a name that is closed for a while. No client finds
// the socket there; those already connected or in the backlog stay.
const hiddenSuffix = ".shut"

// hide takes the name of an ipc socket away from new clients, show gives it
// back. (libzmq's own way, unbind, would end all connections.)
func (e *endpoint) hide() error { return e.move(e.path, e.path+hiddenSuffix) }
func (e *endpoint) show() error { return e.move(e.path+hiddenSuffix, e.path) }

func (e *endpoint) move(from, to string) error {
	if !e.ours(from) {
		return nil // tcp, or somebody removed it
	}
	return os.Rename(from, to)
}

// ours reports whether path is the socket that we made.
func (e *endpoint) ours(path string) bool {
	var st unix.Stat_t
	return e.inode != 0 && unix.Lstat(path, &st) == nil && st.Ino == e.inode && st.Mode&unix.S_IFMT == unix.S_IFSOCK
}

// close gives the name back, if it is still ours.
func (e *endpoint) close() {
	for _, path := range []string{e.path, e.path + hiddenSuffix} {
		if e.ours(path) {
			_ = os.Remove(path)
		}
	}
}
