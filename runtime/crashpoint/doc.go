// Package crashpoint names the steps of every change that our long-lived
// processes make, and can end one of them at each, as kill -9 or the OOM killer
// would.
//
// # Promises
//
//   - Without PROCNANNY_CRASH_DIR in the environment, when the process starts, a
//     point costs a comparison of a variable with zero.
//   - With it, a point that is passed looks for a file of its name in that
//     directory. Whoever removes the file dies there and then, by KILL: each
//     file is one death, whichever of our processes comes first.
//   - Every point of the table stands in the code exactly once; a test looks.
//
// Programs never get the variable: their environment is their own.
//
// # Decisions
//
//   - A file arms a point, not the value of the variable: the next process of
//     ours inherits the environment and would die at the same point for ever; and
//     one running daemon can be taken through the whole table.
//   - KILL to ourselves, not os.Exit or panic: nothing of ours is run any more, no
//     deferred function, no flush, just as in a real death.
//   - Names, not numbers or lines, in one table with what has happened before and
//     has not yet happened at that moment: it is the list of what must be survived.
//     Refused: killing at random, which TestDeaths does as well, but which finds a
//     window of microseconds only by luck.
package crashpoint
