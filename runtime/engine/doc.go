// Package engine is the single writer: one loop owns the world and what is
// desired, takes messages from one bounded inbox, and lets the pure core decide.
// Everybody else reads an immutable picture that it swaps each turn.
//
// A turn: take a message and what else is waiting, let Apply and Execute say
// what it means, let Diff say what follows for the programs that were touched,
// record, act, tell, swap the picture, set the one timer.
//
// Promises: persist, then act, then tell; a turn costs what changed, not what
// exists; the loop never waits for anybody (executors, recorders and
// publishers must not block). Deadlines are values in the world, so a stale
// timer cannot exist.
//
// # Decisions
//
//   - Readers take no lock: the picture is an atomic pointer, and waiting for a
//     picture is a channel that each swap closes.
//   - Who brings a few facts makes the turn itself while the loop's goroutine
//     sleeps: a subscriber hears of an end a thirtieth sooner. The lock of the turn
//     keeps the writer single, and nothing in the inbox is overtaken.
//   - Messages are small structs with a method each, not closures from outside:
//     what can happen to the loop is a list in one file.
//   - Nothing is stopped or started before the first desired state arrived,
//     whatever facts come first: a control that restarts must not stop what it
//     adopted because the files are still being read.
//   - Beside instances, the record has what a program's roll knows, and the
//     instances that a hold's end frees: no event or change names those.
//   - The picture is a list of pointers that each turn copies: some ten
//     microseconds for 1000 programs. A tree of lists was refused: every reader
//     would pay for it.
//   - The wall clock may be set between any two looks at it. So facts say by
//     which clock they are dated, and are moved to the one that the world is
//     dated by when they are applied; and what time it is counts only if nobody
//     set the clock meanwhile. Else an end that was on its way to us would be ten
//     years old, or its next start due in ten years.
//   - Desired state arrives whole, already settled with its overrides: what
//     files and people want is judged and made durable before it gets here.
package engine
