// Package launch holds the ordered table of everything that happens between
// clone and exec, starts one process by it, or says exactly which step failed
// with which errno. The same table tunes living processes, reads them back,
// and says what drifted.
//
// Promises: a process that was started has every attribute that was asked for,
// none is clamped or skipped; it has the descriptors 0, 1, 2 and no other, no
// blocked or ignored signal, no capability, group or variable but those asked
// for; a start that failed leaves no process behind. Starting costs the same
// however large our own memory is. Start, Preflight, Tune and Read may be
// called from several goroutines.
//
// # Decisions
//
//   - The child is made by clone3(CLONE_VM|CLONE_VFORK|CLONE_PIDFD|
//     CLONE_INTO_CGROUP) from C: 0.09 ms with every attribute, against 2-6 ms
//     of executing ourselves as a launcher, and 0.09 ms of syscall.ForkExec,
//     which has no limits, nice, umask, and no name for the step that failed.
//     Setting attributes from outside after the start was refused: it is too
//     late for the program, and not allowed once the user has changed.
//   - The C side is an interpreter of eleven kinds of steps, most of them one
//     system call; what to do is compiled in Go, one row an attribute. So C
//     knows no attribute, and no attribute needs C.
//   - What must not die with us the child sends away itself, as its first act (Escrow):
//     no other moment lies before the program runs and after there is a pidfd.
//   - Where containers hide clone3 (ENOSYS), clone is taken: handlers are reset
//     by a step, the cgroup is joined by a step.
//   - No shell for a file without a #! line, as execvp(3) would: that hides
//     what is wrong with the file.
//   - The limit of open files is set last: opening the output file must not
//     fail because the program wants few.
//   - SIGCHLD may be had without os/signal (TellChildren), by the other piece of
//     C: it is ours alone that many come of.
//   - Autogroup: nice alone says nothing between two sessions, so the session's
//     autogroup follows it, set from outside once the program is executed. The
//     kernel takes ten such changes a second from an ordinary user; what it does
//     not take is tried again in the background.
//   - A lower priority is the last step before exec, and the autogroup's comes
//     after it: we sleep until the child has executed, and on a busy machine a
//     child of nice 19 would make us wait a fifth of a second.
//   - Without CAP_SYS_RESOURCE a limit of another user's process is set by a
//     short-lived child that becomes that user, who may.
//   - A key that is taken out of the file goes back, on a living process, to
//     what a child inherits (Retune): else the same file would mean one thing
//     for old processes and another for new ones.
//   - Preflight goes through all steps, not only user, directory and
//     executable: a limit that cannot be had is then known before an old
//     process was stopped for it.
package launch
