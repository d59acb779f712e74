// Command procnanny is the client of procnannyd: it shows what runs, plans and
// applies changes, and checks configuration files without a daemon. It
// promises:
//
//   - Exit codes: 0 done, 1 refused or failed (the reason is on stderr), 2 plan
//     and diff found changes, 3 the daemon cannot be reached (stderr says which
//     endpoint was tried and how to start one), 4 status --check found what does
//     not run.
//   - -o json and -o yaml print what the daemon answered: keys as on the wire,
//     integer keys as strings, times as epoch seconds, durations as seconds,
//     bytes as base64. Text is for people and may change.
//   - Text never drives a terminal: control characters, text direction
//     characters and invalid UTF-8 are printed as escapes, on a terminal and
//     in a pipe. `logs --raw` is the one exception and says so. A document that
//     is there to be stored (export, schema, states) is exact in a pipe.
//   - What could not be printed (a full disk) is a failure, not a success.
//   - Values of env, and what is secret in hooks, are printed by export alone.
//
// # Decisions
//
//   - Every reply becomes one generic tree, and JSON, YAML and text are all made
//     from that tree. So text cannot know what JSON does not say, and a test can
//     feed a view from a file. Typed replies for text beside raw ones for
//     scripts were refused: they drift apart.
//   - A command is a constructor in one table (root.go); help, completion and
//     the manual page are printed from the resulting tree.
//   - Before zmq is asked, an ipc endpoint is tried with a plain connect: zmq
//     would wait for a daemon that is not there, and could not say why.
//   - Waiting (--wait) happens in the daemon where the method offers it: polling
//     from here would miss what comes and goes between two looks.
//   - Following (logs -f, events -f, status --watch) asks the daemon again and
//     again, and takes what is published only as a sign to do so now. So nothing
//     is printed twice or missed, also while the daemon's control process is
//     replaced. Printing what is published was refused: it has gaps.
//   - A change needs a target or --all; nothing is changed by leaving a word out.
//   - vet resolves users leniently unless --host is given: files are checked on
//     a laptop that does not have the server's users.
package main
