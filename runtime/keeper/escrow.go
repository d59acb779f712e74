package keeper

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/launch"
)

// escrow is a socket pair of which control holds an end and reads nothing. Whoever
// is started leaves there, before it executes, what its end and output are known
// by: its pidfd and the read ends of its pipes. They are safe then, though we die
// before control has them too; once it has, we empty the escrow. So it has something
// in it for some microseconds, and only a keeper after us ever looks.
type escrow struct {
	in, out int
	loaded  bool // somebody may have left something
}

func newEscrow() (b escrow, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil { // who leaves something is named by the kernel, also after its end
		err = unix.SetsockoptInt(pair[1], unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	}
	if err != nil {
		return b, fmt.Errorf("cannot make a socket pair: %w", err)
	}
	return escrow{in: pair[0], out: pair[1]}, nil
}

// deposit has a start leave something in escrow, if control holds that.
func (k *keeper) deposit(p *pending) {
	if !k.ctl.holds {
		return
	}
	b := &launch.Escrow{Socket: k.escrow.in, Deposit: strconv.AppendUint(nil, p.run.id, 10)}
	b.Withdrawal = append(append(b.Withdrawal, '-'), b.Deposit...)
	b.Deposit, b.Withdrawal = append(b.Deposit, '\n'), append(b.Withdrawal, '\n')
	for i := range p.run.in.streams {
		if fd := p.run.in.streams[i].fd; fd >= 0 {
			b.Keep = append(b.Keep, fd)
		}
	}
	p.io.Escrow, k.escrow.loaded = b, true
}

// empty drops what is in escrow: nobody is being started, and control has it.
func (b *escrow) empty() {
	if !b.loaded {
		return
	}
	b.loaded = false
	var room [4096]byte // a message with descriptors is read by itself; without room for them they are closed
	for {
		if n, err := unix.Read(b.out, room[:]); err != unix.EINTR && (err != nil || n <= 0) {
			return
		}
	}
}

// saved is what somebody left in escrow.
type saved struct {
	pid       int
	fds       []int
	withdrawn bool // it did not execute
}

// deposits is what was found in escrow of a former keeper, by run.
type deposits struct {
	escrow int
	runs   map[uint64]*saved
}

// collect takes what is in escrow. Who was cloned in the former keeper's last
// moment may still come to it.
func (s *deposits) collect() {
	if s.escrow <= 0 {
		return
	}
	text, rights := make([]byte, 256), make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(3*4))
	for {
		n, oob, _, _, err := unix.Recvmsg(s.escrow, text, rights, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		s.take(text[:n], senderIn(rights[:oob]), rightsIn(rights[:oob]))
	}
}

// take takes down a message; the descriptors are the last line's.
func (s *deposits) take(text []byte, pid int, fds []int) {
	for line := range bytes.Lines(text) {
		number, withdrawn := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\n")), []byte("-"))
		run, err := strconv.ParseUint(string(number), 10, 64)
		switch l := s.runs[run]; {
		case err != nil:
		case withdrawn && l != nil:
			l.withdrawn = true
		case !withdrawn && l == nil:
			s.runs[run] = &saved{pid: pid, fds: fds}
			fds = nil
		}
	}
	closeAll(fds)
}

// close closes what nobody wanted.
func (s *deposits) close() {
	s.collect()
	for _, l := range s.runs {
		closeAll(l.fds)
	}
	if s.escrow > 0 {
		unix.Close(s.escrow)
	}
}

// senderIn is who sent a message, 0 if it does not say.
func senderIn(control []byte) int {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for i := range messages {
		if who, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			return int(who.Pid)
		}
	}
	return 0
}

// split tells the pidfd and the pipes that the note names from each other. What is
// not there is -1.
func (l *saved) split(v *note) (pidfd int, pipes [2]int) {
	pidfd, pipes = -1, [2]int{-1, -1}
	for _, fd := range l.fds {
		var st unix.Stat_t
		switch err := unix.Fstat(fd, &st); {
		case err != nil:
			unix.Close(fd)
		case st.Mode&unix.S_IFMT != unix.S_IFIFO && pidfd < 0:
			pidfd = fd
		case st.Ino == v.Pipes[0] && pipes[0] < 0:
			pipes[0] = fd
		case st.Ino == v.Pipes[1] && pipes[1] < 0:
			pipes[1] = fd
		default:
			unix.Close(fd)
		}
	}
	l.fds = nil
	return pidfd, pipes
}

// claim takes over a run that a former keeper started in its last moment, with
// what its process left in escrow: though it may have ended since.
func (k *keeper) claim(s *deposits, v *note) bool {
	s.collect()
	l := s.runs[v.Run]
	if l == nil || len(l.fds) == 0 {
		return false
	}
	pidfd, pipes := l.split(v)
	ok := pidfd >= 0 && l.pid > 0 && k.executed(v, l.pid, pidfd)
	if s.collect(); !ok || l.withdrawn {
		closeSome(pidfd, pipes[0], pipes[1])
		return false
	}
	in := k.instance(instanceKey{v.Program, v.Index})
	v.PID, v.Inode, v.Start = l.pid, pidfdInode(pidfd), readStat(l.pid).start
	r := newRun(in, v.Run)
	r.take(v)
	r.adopted, r.noted, r.pidfd = true, true, pidfd
	in.output = v.Output
	in.reenter(true)
	for i, name := range v.streamNames() {
		if pipes[i] >= 0 {
			k.takePipe(&in.streams[i], pipes[i], v.Pipes[i])
			k.openSink(&in.streams[i], name, r.id)
		}
	}
	k.register(r)
	k.notes.write(k, r)
	k.log.Info("found a program that was just being started", "program", v.Program, "instance", v.Index, "pid", v.PID)
	return true
}

// executed waits until a process has executed its program, or ended.
func (k *keeper) executed(v *note, pid, pidfd int) bool {
	for deadline := time.Now().Add(findMost); readStat(pid).unborn() && ourBinary(pid) && !pollIn(pidfd, findPause); {
		if time.Now().After(deadline) {
			k.endUnborn(v, pid)
			return false
		}
	}
	return true
}

// takePipe makes a pipe that was held elsewhere the stream's.
func (k *keeper) takePipe(s *stream, fd int, inode uint64) {
	if s.fd >= 0 && s.inode == inode {
		unix.Close(fd)
		return
	}
	k.closePipe(s)
	s.fd, s.inode = fd, inode
}

func closeSome(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
