// Package reconcile is the pure core: given what is desired, what the world is
// and what time it is, it says what to do next and what each fact means. It
// does no I/O, reads no clock, starts no goroutine and rolls no dice, so any
// history can be replayed, simulated, fuzzed and explained.
//
// Its API is four functions, values in, values out:
//
//	Apply(World, Fact, now)     what a fact (kernel, probe, deadline) means
//	Execute(World, Command, now) what a person's command means
//	Diff(Spec, World, now)      what must be done next, and why
//	Check(World)                is the world one that can be
//
// Two total tables decide: what an instance does next toward its goal
// (State x Goal -> Verb) and what a fact does to it (State x FactKind ->
// State). Both are data, tested to be total, and printed by `procnanny states`.
//
// # Decisions
//
//   - A World is handed on, not shared: Apply and Execute may reuse the World
//     they are given, and callers go on with the one they get back. Readers get
//     views of it, made by the engine. A copy per fact would make a mass exit
//     of 5000 instances quadratic.
//   - The verbs of a plan take effect in the world through facts too
//     (FactStartOrdered, FactStopOrdered, ...), so that no state moves outside
//     the fact table.
package reconcile
