// Package control is the reconciler's process, assembled: it holds what shall
// be (files, overrides, generations), answers the methods of package rpc,
// writes down and publishes what the engine decides, and brings all of it up
// and down in the right order.
//
// It promises:
//
//   - Whatever is wrong with the files, what ran goes on: a configuration is
//     judged whole, made durable, and only then desired.
//   - What it says it has done is durable; what it publishes has a number, and
//     has been written down before.
//   - After it was killed it finds what lives again, from the keeper and from
//     the run directory, and touches nothing that is as it should be.
//
// # Decisions
//
//   - The parts are put together here and not in cmd: desired state has logic (what
//     an override replaced, when a rollback ends, what a full disk means for an
//     accepted file), and so has the order of start and end. In cmd it could not
//     be tested without a process.
//   - The desk, one goroutine that takes functions from a channel, owns desired
//     state. An evaluation runs on it: two people's overrides are judged one after
//     the other, each against what the other left. Reads (status, events,
//     history) never pass it.
//   - A control that finds living programs desires the last good generation
//     before it has read a file: nothing is stopped or started twice because
//     the files need a moment. A keeper that has nothing yet waits for the files.
//   - Output is published by reading the files that the keeper writes, told by
//     inotify, and only of programs that somebody subscribed to: the keeper
//     stays small, and nobody who does not listen pays. Refused: a second copy
//     of every byte through the protocol.
//   - Hook commands are runs in the keeper under names that no program can have;
//     their facts are sorted out before the core sees them, so that the world
//     holds programs only. Their numbers begin at 1<<62, apart from runs'.
//   - What is desired is in memory once: the desk, the engine and the picture
//     share the programs, what the kernel says of processes that are alike is
//     there once, and the files themselves are kept packed until an override is
//     judged. Refused: to load them from disk then, where an error must not look
//     like an empty configuration. Of 1000 different programs keeper and control
//     hold about 8 KiB each, of 5000 less than 7, once what the start needed was
//     given back; the garbage of each minute's look goes at once.
//   - The transport is an interface: sockets are wired in cmd, and tests need none.
package control
