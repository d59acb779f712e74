package keeper

import "golang.org/x/sys/unix"

// needSink makes the sink: the programs that never say anything do without.
func (f *flow) needSink() {
	if f.sink == nil {
		f.sink = f.m.newSink(f.key, f.output)
		f.sink.BeginRun(f.run)
	}
}

// staging reports whether a former keeper may have left output between pipe and
// file, as it does with times in front of lines: the program may never say
// anything again.
func (f *flow) staging() bool { return f.output.Timestamps && !f.looked }

func (f *flow) closeSink() {
	if f.sink != nil {
		f.sink.Close()
	}
	f.sink, f.used = nil, false
}

// quiet reports whether a pipe is empty and somebody has its other end.
func quiet(pipe int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pipe), Events: unix.POLLIN}}, 0)
	return err == nil && n == 0
}

// hungUp reports whether a pipe is empty and nobody has its other end.
func hungUp(pipe int) bool {
	fds := []unix.PollFd{{Fd: int32(pipe), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&unix.POLLIN == 0
}
