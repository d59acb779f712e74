// Package doctor says what this machine's kernel and our privileges permit, and
// what each lack weakens: for `procnanny doctor`, which needs no daemon.
//
// # Promises
//
//   - Each check tries the thing itself where it can be tried without a trace: a
//     process is started in a cgroup, an exit code is asked for. What can only be
//     read (a limit, a capability) is read.
//   - Nothing is left behind, and nothing of anybody else is touched.
//   - A check that finds a lack says what does not work then, or works less well,
//     in the words of the documentation.
//
// # Decisions
//
//   - The rows are one table: a check is added by a row. Refused: a number for the
//     kernel's version to stand for what it can do; distributions take features
//     back and forth, and containers forbid them.
//   - It judges for the user who runs it: for what the daemon of root may do, root
//     must ask.
package doctor
