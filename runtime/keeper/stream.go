package keeper

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/launch"
	"github.com/procnanny/procnanny/runtime/output"
)

const (
	// drainTurn bounds what one pipe may move in a turn, so that a loud process
	// does not keep others waiting; bytes.
	drainTurn = output.Turn
	// drainEnd bounds what is moved at a main process's end: more than any pipe
	// holds, so that all it wrote is in the file before its end is told, while
	// a grandchild that goes on writing cannot hold us; bytes.
	drainEnd = 2 << 20

	maxOpen   = 512 // sinks with open files
	idleAfter = 2 * time.Second

	// retryFirst is the least time between tries of a sink that can take no more.
	retryFirst = 20 * time.Millisecond

	// droppedEvery is how often control hears how much was dropped.
	droppedEvery = 5 * time.Second
)

// stream is one output of an instance: the pipe's read end and where it goes.
type stream struct {
	in      *instance
	name    string // of the sink: "", stdout, stderr
	fd      int    // -1: no pipe
	polled  bool
	hungUp  bool // nobody has the other end
	blocked bool // the sink could take no more
	touched bool // written since the last look for idle ones
	// dropping is true while the sink drops what it cannot write.
	dropping bool
	fault    error // why it blocks or drops, as it was told
	told     int64 // CLOCK_MONOTONIC ns: when that was
	resume   int64 // CLOCK_MONOTONIC ns: when a paused pipe is drained again
	inode    uint64
	sink     sink
}

func (s *stream) ready(k *keeper, events uint32) {
	s.hungUp = s.hungUp || events&(unix.EPOLLHUP|unix.EPOLLERR) != 0
	k.drain(s, drainTurn)
}

// streamNames are the sinks of an output mode; others have none.
var streamNames = map[string][]string{"merged": {""}, "separate": {"stdout", "stderr"}}

// openPipes makes what the child gets as stdout and stderr. A pipe that still
// holds bytes of the former run (its sink is full) is used again: nothing is
// lost and the order is kept.
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
			closeStdio(io)
			k.closePipes(in)
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
	if s.sink != nil && s.name != name { // the mode has changed
		k.forgetStream(s)
	}
	if s.sink == nil {
		s.name, s.sink = name, k.deps.newSink(s.in.program, s.in.index, name, s.in.output)
	} else {
		s.sink.SetPolicy(s.in.output)
	}
	s.sink.BeginRun(run)
}

// openPipe returns the child's end, open for reading and writing: while the
// child lives its pipe has a reader, so no death of ours raises SIGPIPE there.
func (k *keeper) openPipe(s *stream, r *launch.Request) (int, error) {
	if s.fd < 0 {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			return -1, stepError("making a pipe", err)
		}
		unix.Close(p[1])
		var st unix.Stat_t
		_ = unix.Fstat(p[0], &st)
		s.fd, s.inode = p[0], st.Ino
	}
	s.hungUp = false       // a pipe that the former run left full has a writer again
	if r.Identity.Switch { // so that it can open /dev/stdout
		if err := unix.Fchown(s.fd, int(r.Identity.UID), int(r.Identity.GID)); err != nil {
			return -1, stepError("giving the output pipe to the user", err)
		}
	}
	end, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", s.fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, stepError("opening the output pipe", err)
	}
	return end, nil
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

// listen watches a pipe for output.
func (k *keeper) listen(s *stream) {
	if s.fd < 0 || s.polled || s.blocked {
		return
	}
	if err := k.poll.add(s.fd, unix.EPOLLIN, s); err != nil {
		k.log.Error("cannot watch output", "program", s.in.program, "instance", s.in.index, "error", err)
		return
	}
	s.polled = true
}

func (k *keeper) deafen(s *stream) {
	if s.polled {
		k.poll.remove(s.fd)
		s.polled = false
	}
}

// drain moves what is there, at most limit bytes, and says whether to go on.
// When the sink can take no more, the pipe is left alone until a later try, and
// its writer blocks.
func (k *keeper) drain(s *stream, limit int) (more bool) {
	more, dropped, err := k.move(s, limit)
	if err != nil && !dropped {
		k.block(s, err)
		return false
	}
	k.unblock(s, err)
	if s.hungUp && !more {
		k.closePipe(s)
		return false
	}
	busy := more || s.hungUp || err != nil
	if d := s.sink.Delay(); d > 0 && !busy {
		k.pause(s, d)
	} else if s.in.run != nil && !s.in.run.emptied {
		k.listen(s)
	}
	return more
}

// move is the sink's Drain. An instance that is being stopped drops what its
// sink cannot take, so that it can end.
func (k *keeper) move(s *stream, limit int) (more, dropped bool, err error) {
	n, more, err := s.sink.Drain(s.fd, limit)
	dropped = s.in.output.Drop
	if err != nil && !dropped && s.in.run != nil && s.in.run.stopping {
		s.sink.SetPolicy(s.in.output.dropping())
		n, more, err = s.sink.Drain(s.fd, limit)
		dropped = true
	}
	if n > 0 {
		k.touch(s)
	}
	if err != nil && dropped {
		more = n > 0 // there may be more, unless nothing came
	}
	return more, dropped, err
}

func (o Output) dropping() Output {
	o.Drop = true
	return o
}

func (k *keeper) block(s *stream, err error) {
	if !s.blocked {
		s.blocked = true
		k.tellOutput(s, err)
		k.log.Error("cannot write output; it waits in the pipe", "program", s.in.program, "instance", s.in.index, "error", err)
	}
	k.pause(s, max(s.sink.Delay(), retryFirst))
}

// unblock says once that output flows, or that it is dropped and why.
func (k *keeper) unblock(s *stream, err error) {
	switch {
	case err != nil && !s.dropping:
		s.dropping = true
		k.tellOutput(s, err)
		k.log.Error("cannot write output; it is dropped and counted", "program", s.in.program, "instance", s.in.index, "error", err)
	case err != nil && k.now()-s.told > int64(droppedEvery):
		k.tellOutput(s, err)
	case err == nil && (s.blocked || s.dropping):
		k.tellOutput(s, nil)
		k.log.Info("output is written again", "program", s.in.program, "instance", s.in.index)
	}
	s.blocked, s.dropping = false, err != nil
}

// tellOutput tells control that output cannot be written, or, without an error,
// is again.
func (k *keeper) tellOutput(s *stream, err error) {
	s.fault, s.told = err, k.now()
	f := Fact{
		Kind: FactOutput, Program: s.in.program, Index: s.in.index, AtNS: boottime(),
		Stream: s.name, Dropping: s.dropping && err != nil, Dropped: s.sink.Dropped(),
	}
	if s.in.run != nil {
		f.Run = s.in.run.id
	}
	if err != nil {
		f.Reason = err.Error()
	}
	k.tell(f)
}

// tellFaults is for a control that is new.
func (k *keeper) tellFaults() {
	for _, in := range k.instances {
		for i := range in.streams {
			if s := &in.streams[i]; s.fault != nil && s.sink != nil {
				k.tellOutput(s, s.fault)
			}
		}
	}
}

// pause leaves a pipe alone for a while; a hung-up one would wake us for ever.
func (k *keeper) pause(s *stream, d time.Duration) {
	k.deafen(s)
	s.resume = k.now() + int64(d)
	k.paused[s] = struct{}{}
	k.set(alarmOutput, d)
}

// resume drains the pipes whose pause is over.
func (k *keeper) resume() {
	now := k.now()
	for s := range k.paused {
		if s.resume > now {
			k.set(alarmOutput, time.Duration(s.resume-now))
			continue
		}
		delete(k.paused, s)
		k.drain(s, drainTurn)
		k.settleStream(s)
	}
}

// letGo makes blocked output of an instance that is being stopped flow: what
// cannot be written is dropped and counted.
func (k *keeper) letGo(in *instance) {
	for i := range in.streams {
		if s := &in.streams[i]; s.blocked {
			k.drain(s, drainTurn)
		}
	}
}

// drainAll empties an instance's pipes: before the end of its main process is
// told, and before they are closed.
func (k *keeper) drainAll(in *instance) {
	for i := range in.streams {
		s := &in.streams[i]
		for moved := 0; s.fd >= 0 && !s.blocked && moved < drainEnd; moved += drainTurn {
			if !k.drain(s, drainTurn) {
				break
			}
		}
	}
}

// closePipes closes what is empty; a blocked pipe waits for its sink.
func (k *keeper) closePipes(in *instance) {
	for i := range in.streams {
		k.settleStream(&in.streams[i])
	}
}

func (k *keeper) settleStream(s *stream) {
	if !s.blocked && (s.in.run == nil || s.in.run.emptied) {
		k.closePipe(s)
	}
}

func (k *keeper) closePipe(s *stream) {
	k.deafen(s)
	delete(k.paused, s)
	if s.fd >= 0 {
		unix.Close(s.fd)
	}
	s.fd, s.hungUp = -1, false
}

// forgetStream drops a stream with what waits in its pipe.
func (k *keeper) forgetStream(s *stream) {
	k.closePipe(s)
	delete(k.open, s)
	s.blocked = false
	if s.sink != nil {
		if s.fault != nil {
			k.tellOutput(s, nil)
		}
		s.sink.Close()
		s.sink = nil
	}
}

// touch notes that a sink has its files open. They are closed when nothing
// came for a while, or when too many are.
func (k *keeper) touch(s *stream) {
	s.touched = true
	if _, ok := k.open[s]; ok {
		return
	}
	if len(k.open) >= maxOpen {
		for other := range k.open { // any: maps iterate in no order
			other.sink.Idle()
			delete(k.open, other)
			break
		}
	}
	k.open[s] = struct{}{}
	k.set(alarmIdle, idleAfter)
}

func (k *keeper) closeIdle() {
	for s := range k.open {
		if s.dropping && s.fd >= 0 { // a quiet program's mark is written, too
			k.drain(s, drainTurn)
			s.touched = true
		}
		if !s.touched {
			s.sink.Idle()
			delete(k.open, s)
		}
		s.touched = false
	}
	if len(k.open) > 0 {
		k.set(alarmIdle, idleAfter)
	}
}
