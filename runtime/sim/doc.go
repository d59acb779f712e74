// Package sim is a computer with procnanny in it, in virtual time: the clock
// jumps from one event to the next, so a day takes milliseconds. The core, the
// engine and control's view of processes are the real ones; the keeper, the
// kernel and the store are models. It answers two questions: do our promises hold,
// whatever happens (a walk: millions of steps that follow from a seed), and what
// would happen to somebody's programs (a Scenario: `procnanny sim`).
//
// Promises: the same Config and calls make the same history, to the byte; one
// goroutine, no clock, no file, no process. After each turn, whoever runs it:
//
//   - the world is one that can be (reconcile.Check), and a look at everything
//     finds nothing to do that the turn left undone;
//   - no start is ordered while anybody of the instance's last run lives;
//   - a signal for a run reaches that run alone;
//   - each end is written down once, with the code that the process ended with,
//     or as unknown where nobody could see it; from when to when is what the clock
//     says, and lives do not overlap;
//   - counters of starts never go back; a delay before a restart, and a verdict of
//     flapping, are what policy says.
//
// When disturbances stop, the world becomes what is desired.
//
// # Decisions
//
//   - The engine is turned by hand (engine.Hand) instead of in a synctest bubble:
//     the same code then serves a command of ours, and runs ten times as fast.
//   - The model stands where the keeper's protocol is: proc is the real one, since
//     what it makes of a keeper's Hello decides whether a death of ours is noticed.
//   - A walk is a list of steps with numbers, each of which means something
//     whatever came before, and a seed from which the fate of each process follows
//     by a hash. So steps can be left out, and numbers made smaller, and what is
//     left still fails: a story of some lines that is read, kept under testdata and
//     taken again. Refused: rapid, which serves reconcile well, but whose stream
//     of draws would have to hold the fates too, so that leaving a step out gives
//     another fate to all that follows.
//   - Facts of one run arrive in order, those of different runs overtake each other:
//     more than the keeper's one socket can do, and all that it may ever do.
//   - The store is a model; a test takes walks with the real one beside it.
//   - Starting costs a millisecond, everything else nothing unless a Fate says so:
//     a program that is restarted without a delay must not stop the clock.
package sim
