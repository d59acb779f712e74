package keeper

import (
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/launch"
)

const (
	// waitMost is how long an end waits to be told for the sake of output that
	// does not get to its file.
	waitMost = time.Second
	// busyMost is how long a start waits for one that looks at the same pipe.
	busyMost = 50 * time.Millisecond
)

// stream is one output of an instance, as the loop sees it: the pipe's read end
// and the flow that moves what comes.
type stream struct {
	in    *instance
	name  string // of the sink: "", stdout, stderr
	fd    int    // -1: no pipe
	inode uint64
	life  uint64 // counts who listened
	flow  *flow  // nil: no sink
	// How the flow stands, as it said last: blocked and its pipe is not closed,
	// or dropping; dropped is all that it dropped.
	fault    error
	blocked  bool
	dropping bool
	dropped  int64
}

// streamNames are the sinks of an output mode; others have none.
var streamNames = map[string][]string{"merged": {""}, "separate": {"stdout", "stderr"}}

// openPipes makes what the child gets as stdout and stderr. A pipe that still
// holds bytes of the former run (its sink is full) is used again: nothing is
// lost and the order is kept. With an error the caller closes what there is.
func (k *keeper) openPipes(in *instance, r *launch.Request, run uint64) (launch.Stdio, error) {
	io := launch.NoStdio
	names := streamNames[r.Mode.Kind]
	for i := range in.streams {
		s := &in.streams[i]
		if i >= len(names) {
			k.forgetStream(s)
			continue
		}
		k.openSink(s, names[i], run)
		end, err := k.openPipe(s, r)
		if err != nil {
			return io, err
		}
		if i == 0 {
			io.Out, io.Err = end, end
		} else {
			io.Err = end
		}
	}
	return io, nil
}

// openSink gives a stream the sink of that name for a run's output.
func (k *keeper) openSink(s *stream, name string, run uint64) {
	if s.flow != nil && s.name != name { // the mode has changed
		k.forgetStream(s)
	}
	if s.flow == nil {
		s.name = name
		s.flow = k.mover.flow(s)
	}
	s.flow.begin(run, s.in.output)
}

// openPipe returns the child's end, open for reading and writing: while the
// child lives its pipe has a reader, so no death of ours raises SIGPIPE there.
func (k *keeper) openPipe(s *stream, r *launch.Request) (int, error) {
	if s.fd < 0 {
		if err := s.makePipe(); err != nil {
			return -1, stepError("making a pipe", err)
		}
	} else if !s.flow.acquire(busyMost) { // to open a pipe waits for who moves from it
		return -1, stepError("opening the output pipe, from which a slow disk takes the former run's output", unix.EBUSY)
	} else {
		defer s.flow.release()
	}
	if r.Identity.Switch { // so that it can open /dev/stdout
		if err := unix.Fchown(s.fd, int(r.Identity.UID), int(r.Identity.GID)); err != nil {
			return -1, stepError("giving the output pipe to the user", err)
		}
	}
	end, err := reopen(s.fd, 0)
	if err != nil {
		return -1, stepError("opening the output pipe", err)
	}
	return end, nil
}

// makePipe makes a pipe. Our end is open for writing, too: so nobody is woken by
// the end of its last writer, which is when the loop has the processor to itself.
func (s *stream) makePipe() error {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return err
	}
	defer closeSome(p[0], p[1])
	fd, err := reopen(p[0], unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	_ = unix.Fstat(fd, &st)
	s.fd, s.inode = fd, st.Ino
	return nil
}

// reopen opens a pipe for reading and writing.
func reopen(fd, flags int) (int, error) {
	return unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDWR|unix.O_CLOEXEC|flags, 0)
}

func stepError(step string, err error) error {
	errno, _ := err.(unix.Errno) //nolint:errorlint // x/sys/unix returns plain numbers
	return &launch.StepError{Step: step, Errno: errno}
}

func closeStdio(io launch.Stdio) {
	if io.In >= 0 {
		unix.Close(io.In)
	}
	if io.Out >= 0 {
		unix.Close(io.Out)
	}
	if io.Err >= 0 && io.Err != io.Out {
		unix.Close(io.Err)
	}
}

// listen has the output of a pipe moved from now on.
func (k *keeper) listen(s *stream) {
	if s.fd >= 0 {
		s.life++
		s.flow.attach(s.fd, s.life)
	}
}

// reported takes note of how a flow stands, and tells control.
func (k *keeper) reported(s *stream, f *flow, r report) {
	if s.flow != f {
		return // the mode has changed since
	}
	before := s.fault
	s.fault, s.dropping, s.dropped = r.err, r.dropping, r.dropped
	s.blocked = r.err != nil && !r.dropping
	k.tellOutput(s)
	log := k.log.With("program", s.in.program, "instance", s.in.index)
	switch {
	case s.blocked:
		log.Error("cannot write output; it waits in the pipe", "error", r.err)
	case r.dropping && before == nil:
		log.Error("cannot write output; it is dropped and counted", "error", r.err)
	case r.err == nil:
		log.Info("output is written again")
	}
	if !s.blocked && k.idle(s.in) {
		k.emptyPipes(s.in, func() { k.closePipes(s.in) })
	}
}

// idle reports whether nobody writes to an instance's pipes any more.
func (k *keeper) idle(in *instance) bool { return in.run == nil || in.run.emptied }

// tellOutput tells control that output cannot be written, or, without a fault,
// is again.
func (k *keeper) tellOutput(s *stream) {
	f := Fact{
		Kind: FactOutput, Program: s.in.program, Index: s.in.index, AtNS: BootTime(),
		Stream: s.name, Dropping: s.dropping, Dropped: s.dropped,
	}
	if s.in.run != nil {
		f.Run = s.in.run.id
	}
	if s.fault != nil {
		f.Reason = s.fault.Error()
	}
	k.tell(f)
}

// tellFaults is for a control that is new.
func (k *keeper) tellFaults() {
	for _, in := range k.instances {
		for i := range in.streams {
			if s := &in.streams[i]; s.fault != nil && s.flow != nil {
				k.tellOutput(s)
			}
		}
	}
}

// letGo makes blocked output of an instance that is being stopped flow: what
// cannot be written is dropped and counted.
func (k *keeper) letGo(in *instance) {
	for i := range in.streams {
		if s := &in.streams[i]; s.flow != nil {
			s.flow.stop()
		}
	}
}

// emptying is somebody who waits until output was moved.
type emptying struct {
	in    *instance
	left  int // streams
	until int64
	then  func()
}

// emptyPipes moves what is in an instance's pipes, as far as the sinks take it,
// then goes on: at once if there is nothing, and without it if it takes too long.
func (k *keeper) emptyPipes(in *instance, then func()) {
	e := &emptying{in: in, then: then}
	for i := range in.streams {
		s := &in.streams[i]
		if s.fd < 0 || s.flow == nil || s.blocked || s.flow.empty() {
			continue
		}
		e.left++
		s.flow.flush(func(k *keeper) {
			if e.left--; e.left == 0 {
				k.emptied(e)
			}
		})
	}
	if e.left == 0 {
		then()
		return
	}
	e.until = k.now() + int64(waitMost)
	k.emptyings[e] = struct{}{}
	k.set(alarmOutput, waitMost)
}

func (k *keeper) emptied(e *emptying) {
	if _, ok := k.emptyings[e]; ok {
		delete(k.emptyings, e)
		e.then()
	} else { // it came late
		k.unblockSlow(e.in)
	}
}

// waitNoLonger is for ends whose output does not get to its file: they are told
// now. The pipes stay, as those of a full disk do.
func (k *keeper) waitNoLonger() {
	for e := range k.emptyings {
		if e.until > k.now() {
			k.set(alarmOutput, time.Duration(e.until-k.now()))
			continue
		}
		delete(k.emptyings, e)
		for i := range e.in.streams {
			s := &e.in.streams[i]
			if s.fd >= 0 && !s.flow.empty() {
				s.blocked = true
			}
		}
		e.then()
	}
}

// unblockSlow closes the pipes that a slow disk has emptied at last.
func (k *keeper) unblockSlow(in *instance) {
	for i := range in.streams {
		if s := &in.streams[i]; s.fault == nil {
			s.blocked = false
		}
	}
	if k.idle(in) {
		k.emptyPipes(in, func() { k.closePipes(in) })
	}
}

// closePipes closes what is empty; a blocked pipe waits for its sink.
func (k *keeper) closePipes(in *instance) {
	for i := range in.streams {
		if s := &in.streams[i]; !s.blocked && k.idle(in) {
			k.closePipe(s)
		}
	}
}

func (k *keeper) closePipe(s *stream) {
	if s.fd >= 0 {
		s.flow.detach(s.fd)
	}
	s.fd = -1
}

// pipeEnded closes a pipe to which nobody writes any more.
func (k *keeper) pipeEnded(s *stream, f *flow, life uint64) {
	if s.flow == f && s.life == life {
		k.closePipe(s)
	}
}

// forgetStream drops a stream with what waits in its pipe.
func (k *keeper) forgetStream(s *stream) {
	k.closePipe(s)
	if s.flow != nil {
		f := s.flow
		if s.fault != nil {
			s.fault, s.dropping = nil, false
			k.tellOutput(s)
		}
		f.forget()
	}
	s.flow, s.blocked = nil, false
}

// moverNews is the mover as the handler of the descriptor that says there is
// something for the loop.
type moverNews struct{ fd int }

func (n *moverNews) ready(k *keeper, _ uint32) {
	var b [8]byte
	_, _ = unix.Read(n.fd, b[:])
	for _, do := range k.mover.take() {
		do(k)
	}
}

// tell wakes the loop; it may be called on any thread.
func (n *moverNews) tell() { countUp(n.fd) }

// startMover makes the mover and has the loop hear of it.
func (k *keeper) startMover() error {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("cannot make an eventfd: %w", err)
	}
	n := &moverNews{fd}
	if err := k.poll.add(fd, unix.EPOLLIN, n); err != nil {
		unix.Close(fd)
		return err
	}
	if k.mover, err = newMover(k.log, n.tell); err != nil {
		return err
	}
	k.mover.device = k.deps.device
	k.mover.newSink = func(f flowKey, o Output) sink { return k.deps.newSink(f.program, f.index, f.stream, o) }
	return nil
}
