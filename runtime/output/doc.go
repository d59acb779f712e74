// Package output moves what programs write to stdout and stderr from their
// pipes to files, and reads it back.
//
// # Promises
//
//   - Every byte that a program's write(2) returned success for ends in its
//     file, in order, exactly once, whatever happens to the process that calls
//     [Sink.Drain]: killed at any instruction, it is found again from the files
//     alone where the stream goes on. Exceptions, all by the user's wish:
//     Policy.Drop loses when the file cannot take more, and says in the file
//     how much; Policy.Timestamps may repeat the last 64 KiB when killed.
//   - Bytes are numbered over the whole life of an instance's stream, across
//     rotation, removal and restarts: an offset always means the same byte. The
//     numbers count what is in the files, marks and timestamps included.
//   - Nothing here follows a symlink, waits on a FIFO, or writes outside of the
//     log directory. What stands where a file should be is moved aside and
//     reported; what stands where a program's directory should be is an error.
//   - An idle sink costs less than 1 KiB, no descriptor, no timer, no goroutine.
//
// # For the one who drains
//
// One goroutine calls everything but the reading methods. Per pipe:
//
//   - Make it with pipe2(O_CLOEXEC|O_NONBLOCK) and ask for no capacity: Drain
//     makes a busy pipe larger by itself, within a bound over all, and Idle
//     gives that back.
//   - Sink.BeginRun before the first Drain of a run.
//   - Watch it with EPOLLIN|EPOLLONESHOT. When it is readable: Drain(pipe, Turn).
//     If more is true, drain again after the others had their turn. Else look
//     at [Sink.Delay]: at 0, arm the pipe again now; else leave it alone that
//     long, then Drain without asking (it costs one ioctl when nothing came).
//     The delay is 0 unless much comes, at most 1 ms while all is well, and up
//     to 1 s after an error. While a pipe is left alone its writer wakes nobody.
//   - An error means that the file cannot take more. Tell people; the pipe fills
//     and the program waits. Nothing else is to be done: a later Drain goes on.
//     SetPolicy with Drop (while stopping) makes it drop instead.
//   - POLLHUP and Drain = 0, false, nil: the pipe is at its end. Close it.
//   - When the main process ended: Drain until more is false, Sink.EndRun.
//   - After some seconds without output: Sink.Idle. It may be called at any time.
//   - Drain may sleep while the kernel throttles writers to a slow disk. A loop
//     that must not wait drains on a thread of its own.
//
// # For the one who follows
//
// Read with Offset = the last Chunk.Next. A reader in another process learns
// that there is more from inotify on the program's directory (IN_MODIFY comes
// once per Drain, not per write), which costs the drainer nothing.
//
// # Decisions
//
//   - splice(2), not read and write: only it takes bytes out of the pipe as they
//     reach the file. Killed 1000 times, read and write lost lines in 638.
//   - A put aside file carries the offset of its first byte in its name; the
//     live one keeps the contract's plain name. Index records also say where the
//     live file begins, by inode, so that reading the directory is the exception.
//     Refused: a state file that has to agree with two others after a crash.
package output
