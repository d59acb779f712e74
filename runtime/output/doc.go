// Package output moves what programs write to stdout and stderr from their
// pipes to files, and reads it back.
//
// # Promises
//
//   - Every byte that a program's write(2) returned success for ends in its
//     file, in order, exactly once, whatever happens to the process that calls
//     [Sink.Drain]: killed at any instruction, it finds from the files alone
//     where the stream goes on; with Policy.Timestamps too. Exceptions:
//     Policy.Drop loses when the file cannot take more, and says in the file
//     how much (but for a killed process's last turn); a file system without splice repeats up to 64 KiB when killed;
//     losing power loses what the kernel had not yet written.
//   - The program's bytes are numbered over the whole life of an instance's
//     stream, across rotation, removal and restarts: an offset always means the
//     same byte. Times that we write before lines have no numbers, dropped bytes
//     do: to a reader they are a gap.
//   - Nothing here follows a symlink, waits on a FIFO, or writes outside of the
//     log directory. What stands where a file should be is moved aside and
//     reported; what stands where a program's directory should be is an error.
//   - An idle sink costs less than 1 KiB, no descriptor, no timer, no goroutine.
//
// # For the one who drains
//
// Several goroutines may drain, a sink by one of them at a time. Per pipe:
//
//   - [Dir.Witness] once, before all else, if there is a tmpfs for it.
//   - Make it with pipe2(O_CLOEXEC|O_NONBLOCK) and ask for no capacity: Drain
//     makes a busy pipe larger by itself, within a bound over all, and Idle
//     gives that back.
//   - Sink.BeginRun before the first Drain of a run.
//   - Watch it with EPOLLIN|EPOLLONESHOT. When it is readable: Drain(pipe, Turn).
//     If more is true, there is more or soon will be: drain again after the others
//     had their turn. Else look
//     at [Sink.Delay]: at 0, arm the pipe again now; else leave it alone that
//     long, then Drain without asking (it costs one ioctl when nothing came).
//     The delay is 0 unless much comes, at most 8 ms while all is well, and up
//     to 1 s after an error. While a pipe is left alone its writer wakes nobody.
//   - An error means that the file cannot take more. Tell people; the pipe fills
//     and the program waits. Nothing else is to be done: a later Drain goes on.
//     SetPolicy with Drop (while stopping) makes it drop instead.
//   - POLLHUP and Drain = 0, false, nil: the pipe is at its end. Close it.
//   - When the main process ended: Drain until more is false, Sink.EndRun.
//   - After some seconds without output: Sink.Idle. It may be called at any time.
//   - Drain, Idle, EndRun and Close may wait for the disk, and while Drain does,
//     whoever locks the pipe waits with it: its writer, and who closes it or asks
//     how much is in it; poll(2) does not. A loop that must not wait leaves all
//     that to other threads, and knows by [Sink.Device] which wait for the same.
//
// # For the one who follows
//
// Read with Offset = the last Chunk.Next; the end of the live file costs no look
// at the directory. [Dir.Watch] tells a reader in any process that there is
// more; the one who drains pays nothing for it and knows of no reader. Whoever
// missed something reads it again from its offset.
//
// # Decisions
//
//   - splice(2), not read and write: only it takes bytes out of the pipe as they
//     reach the file. A prototype killed 1000 times lost lines in 638 with read
//     and write, in none with splice.
//     Eager splicing of small writes is slow (7 s of CPU per GB for 100-byte
//     lines), so a loud pipe is left alone until it is about half full, at most
//     8 ms; one of which less comes, 1 ms. That costs per GB what read and write
//     cost (0.65 s of CPU to 0.70 s, 4000-byte writes, tmpfs), and moves half of
//     it in one call.
//   - A splice to a file holds the lock of the pipe while it copies, so a writer at
//     full speed and we work by turns: 1350 MB/s at best, where read and write get
//     1700. From 100 MB/s on (carry.go, in C) the pages are in a second pipe, too, by
//     tee(2), go from there to the file while the writer goes on, and leave the
//     first pipe by read(2). Its last byte goes into a page that outlives us, the
//     witness: so whoever is killed between file and pipe leaves no doubt what is in
//     both. The kernel takes no signal between the bytes that are there. Without a
//     tmpfs for the witness, or for more than 128 such programs, splice does it.
//     Refused: a second pipe that the bytes move to, because nobody holds it when
//     all of us are killed at once, and the program holds the first; read and write
//     by way of memory that outlives us, where bytes lie that are in no file of a
//     program that has ended; the time of the last read in the pipe's inode, which
//     Linux 6.15 and later no longer keep. A few megabytes are one call into C: Go
//     takes the processor from a thread that is in system calls most of the time,
//     again and again, and wakes others to do it, a third of the speed. Half a
//     megabyte of it goes by one tee and one read, because each read from a full
//     pipe wakes the writer, often on our processor. Refused: a witness in a memfd
//     that control holds too, for run directories elsewhere: it is gone when both
//     die, and the pipe is not; system calls that Go knows nothing of, in which a
//     program that holds its own pipe's lock would hold all of us.
//   - A pipe of 256 KiB for who needs it, 1 MiB for who fills that too, not for
//     everybody: with 64 KiB, 4000-byte writes cost 1.3 to 1.7 times the CPU; but
//     the memory of all of an ordinary user's pipes together is bounded by the
//     kernel at 64 MiB, and a hundred large ones push each other out of the cache.
//   - A put aside file carries the offset of its first byte in its name; the
//     live one keeps the contract's plain name. Index records also say where the
//     live file begins, by inode, so that reading the directory is the exception.
//     Refused: a state file that has to agree with two others after a crash.
//   - We do not compress, but read what gzip(1) made of a put aside file
//     (unpack.go): decompressed into memory, the last four, so that a page costs a
//     page. Refused: to compress here, next to the thread that moves output, when
//     cron can do it for all logs of a machine; formats beyond the standard library.
//   - Lines are cut at the limit by looking with tee(2), which takes nothing.
//   - What we write into a file (a time, a mark about dropped bytes) is told from
//     the program's own by the index: a record says where stamped lines begin and
//     end, and what a mark stands for, before the bytes are written; if that is
//     impossible, nothing is. So reading gives exactly the program's bytes, and
//     nobody can forge a mark. Refused: to recognise ours by their look; a file
//     for each format, which a policy that changes would make small.
//   - Timestamps go over a stage file (stage.go), because a time cannot be put
//     into a splice. Refused: write, then take out of the pipe, which repeats a
//     chunk when killed between the two, and glues it to half a line.
//   - Times are in an index beside the file, ten records a second at most, so
//     that the file holds exactly the program's bytes. Refused: a record a line.
//   - A sink belongs to one goroutine at a time and has no lock; what sinks share
//     has one that nobody holds while he waits. Refused: a goroutine per pipe,
//     which is a stack each and no faster.
//   - The count of dropped bytes that are not yet told is in a file of its own, made
//     while there was room and written over (drop.go). Refused: a record of the
//     index, which a full disk does not take.
package output
