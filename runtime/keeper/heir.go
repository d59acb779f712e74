package keeper

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// heirSocket, in the run directory, is where an orphaned control waits for the
// daemon that a service manager starts.
const heirSocket = "heir.sock"

// heirEarly is what it is called before it listens. The path of a socket is short, and
// so no name of ours is longer than those in every run directory.
const heirEarly = "heir.new"

// handTime bounds each step of handing over.
const handTime = 10 * time.Second

// Offer waits for a daemon of our own uid that claims the will, and hands it
// over. The claimer goes on only when this process is gone.
func (w *Will) Offer(runDir string, within time.Duration) error {
	path := filepath.Join(runDir, heirSocket)
	_ = os.Remove(path) // of somebody dead: we hold the run directory's lock
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot offer a will: %w", err)
	}
	defer unix.Close(fd)
	// Under its name only once it listens: who came before would be refused, and
	// take it for one of somebody dead.
	early := filepath.Join(runDir, heirEarly)
	_ = os.Remove(early)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: early}); err != nil {
		return fmt.Errorf("cannot offer a will at %s: %w", path, err)
	}
	if err := errors.Join(os.Chmod(early, 0o600), unix.Listen(fd, 4), os.Rename(early, path)); err != nil {
		_ = os.Remove(early)
		return fmt.Errorf("cannot offer a will at %s: %w", path, err)
	}
	defer os.Remove(path)
	for deadline := time.Now().Add(within); pollIn(fd, time.Until(deadline)); {
		c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err != nil {
			continue
		}
		if err = w.hand(peer(c)); err == nil {
			return nil // c stays open: its end tells the heir that we are gone
		}
		unix.Close(c)
	}
	return errors.New("cannot hand a will over: nobody came")
}

// peer is a socket that waits, but not for ever.
type peer int

func (p peer) prepare() error {
	limit := unix.NsecToTimeval(int64(handTime))
	err := unix.SetsockoptTimeval(int(p), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	if err == nil {
		err = unix.SetsockoptTimeval(int(p), unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit)
	}
	if err != nil {
		return err
	}
	who, err := unix.GetsockoptUcred(int(p), unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err == nil && int(who.Uid) != os.Geteuid() {
		err = fmt.Errorf("the other side is of uid %d", who.Uid)
	}
	return err
}

func (p peer) Read(b []byte) (int, error) {
	n, err := read(int(p), b)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

func (p peer) Write(b []byte) (done int, err error) {
	for done < len(b) && err == nil {
		var n int
		if n, err = p.send(b[done:], nil); err == nil {
			done += n
		}
	}
	return done, err
}

func (p peer) send(b []byte, fds []int) (n int, err error) {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for {
		if n, err = unix.SendmsgN(int(p), b, rights, nil, unix.MSG_NOSIGNAL); err != unix.EINTR {
			return n, err
		}
	}
}

// hand sends the will: its length, itself, then the descriptors with a byte for
// each message; the heir answers with a byte.
func (w *Will) hand(p peer) error {
	if err := p.prepare(); err != nil {
		return err
	}
	b, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if _, err := p.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(b))), b...)); err != nil {
		return err
	}
	var fds []int
	w.descriptors(func(fd *int) { fds = append(fds, *fd) })
	for len(fds) > 0 {
		n := min(len(fds), maxRights)
		if w.Escrow > 0 && n == len(fds) && n > 1 {
			n-- // by itself: an older heir does not want it
		}
		if _, err := p.send([]byte{1}, fds[:n]); err != nil {
			return err
		}
		fds = fds[n:]
	}
	_, err = io.ReadFull(p, make([]byte, 1))
	return err
}

// Claim takes over the will that an orphaned control offers. It returns when
// that control is gone.
func Claim(runDir string) (*Will, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot claim a will: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: filepath.Join(runDir, heirSocket)}); err != nil {
		return nil, fmt.Errorf("cannot claim a will: %w", err)
	}
	w, err := claim(peer(fd))
	if err != nil {
		return nil, fmt.Errorf("cannot claim a will: %w", err)
	}
	return w, nil
}

func claim(p peer) (*Will, error) {
	if err := p.prepare(); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(p, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(head[:])
	if n > maxWill {
		return nil, fmt.Errorf("it has %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(p, b); err != nil {
		return nil, err
	}
	w, err := decodeWill(b)
	if err != nil {
		return nil, err
	}
	want := 0
	w.descriptors(func(*int) { want++ })
	fds, err := p.receive(want)
	if err == nil {
		if _, err = p.Write([]byte{1}); err == nil {
			_, _ = p.Read(make([]byte, 1)) // ends when the other process has
		}
	}
	if err != nil {
		closeAll(fds)
		return nil, err
	}
	w.descriptors(func(fd *int) { *fd, fds = fds[0], fds[1:] })
	return w, nil
}

// receive takes as many descriptors as are wanted.
func (p peer) receive(want int) (fds []int, err error) {
	room := make([]byte, unix.CmsgSpace(maxRights*4))
	for len(fds) < want {
		_, n, _, _, err := unix.Recvmsg(int(p), make([]byte, 1), room, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fds, err
		}
		more := rightsIn(room[:n])
		if len(more) == 0 {
			return fds, errors.New("the kernel does not give us all descriptors")
		}
		fds = append(fds, more...)
	}
	if len(fds) != want {
		return fds, errors.New("it names other descriptors than came")
	}
	return fds, nil
}

// rightsIn are the descriptors that came with a message.
func rightsIn(control []byte) (fds []int) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for i := range messages {
		if more, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, more...)
		}
	}
	return fds
}
