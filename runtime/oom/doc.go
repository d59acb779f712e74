// Package oom keeps the kernel's OOM killer off this process, where that is
// allowed, and off nobody else: who is started by a protected process is not.
//
// # Promises
//
//   - A process that was started by AsBorn, or with the score that Inherited says,
//     has the score with which the daemon was started. So has a program that takes
//     our place by execve, within AsBorn: it learns from itself what it was born
//     with, and no version of it has to be told.
//   - Without the privilege nothing changes, and Protect says why.
//
// # Decisions
//
//   - -900, as dbus has: we are chosen after everybody who is not protected, unless
//     we ourselves have nine tenths of the memory. Refused: -1000, as sshd has and
//     systemd-udevd: a leak of ours would end all programs and never us, and a
//     cgroup with nobody else in it would stand still; and nothing, as supervisord,
//     runit and s6 have it, where the killer takes the one that must not die.
//   - Whoever is protected goes back to what it was born with while it makes a
//     child that executes, for a millisecond. Refused: setting the child's from outside
//     afterwards, when it may have children already; and a helper between, which
//     costs ten times as much. The programs do without (runtime/launch): their
//     own first steps set it, and no start has to be at a time of its own.
//   - That we may is found out by doing it: a capability within a user namespace
//     does not count, and the kernel alone knows which it means.
//   - The file stays open: no lack of descriptors, and no loss of the right to
//     open it (PR_SET_DUMPABLE), comes between us and the way back.
package oom
