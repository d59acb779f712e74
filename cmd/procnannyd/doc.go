// Command procnannyd is what people start: the keeper, parent of every program.
// It runs procnanny-control, which reads the configuration, decides and answers
// clients, and starts it again when it dies. Killing control, or replacing it,
// touches no program.
//
//	procnannyd --config PATH --state DIR --run DIR --log-dir DIR ...
//
// --help lists all flags; each has a variable PROCNANNY_<FLAG>. It stays in the
// foreground and logs to stderr. TERM, INT and QUIT stop everything in order and
// exit 0, or, with --on-exit leave, leave the programs running for the next
// daemon, which finds them by the notes in the run directory. HUP reads the
// configuration again. Other signals do nothing.
//
// When it is killed, control executes it again in its own place, with all that it
// held; or, where somebody else starts it again (--supervised), hands that to the
// one that comes. The lock in the run directory names the pid that counts.
//
// As PID 1 it reaps what others leave behind, and takes at most 8 s to stop.
//
// It exits with 0 when it was told to stop and has; with the code of the program
// that exit_when names, when that one has ended; with 1 when it cannot
// start, when control refuses to work while nothing runs (no good
// configuration and no last good one), or when a program could not be stopped;
// with 2 when a flag is wrong.
//
// # Decisions
//
//   - The locks of the run and the state directory are the keeper's, not
//     control's: they mean "these programs have a parent", which control's death
//     does not change.
//   - Control holds the locks as well, so that nobody starts a second daemon
//     between a death and the next keeper. One that tries waits as long as the
//     holder is dead, and then either inherits or names who did.
//   - Our path is the one we were started by, not where its links led: an upgrade
//     follows a link that leads to a new version.
//   - GOMAXPROCS is two for the loop and the runtime, and one for each thread that
//     moves output: who comes back from a disk never waits for one that does not.
//     It is the same on any machine, because each costs memory; for the same
//     reason the collector runs early.
package main
