// Package daemontest gives tests the real commands, and a procnannyd that runs on
// files of its own.
//
// Promises: a command is built once for each test binary, when it is first needed;
// what [Daemon.Start] started has ended well when the test is over; what was made
// is removed. [Poll] waits a minute, since what must happen some time may take
// long on a busy machine.
//
// PROCNANNY_TEST_BIN names a directory that has all four commands already, for a
// machine without a compiler; then none is built.
//
// # Decisions
//
//   - Directories lie directly under /tmp, and t.TempDir was refused: the path of a
//     socket has 107 bytes, and root's daemon wants places that nobody else can
//     write.
//   - Here is what all tests of the commands do alike. Whom they kill, what they
//     wait for and how a daemon that took the place of another is ended stays with
//     them.
package daemontest
