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
// and ClockSet, for a caller that finds the wall clock set.
//
// A caller that owns a world goes round with DiffProgram for the programs that
// changed, Commit of its plan (which lets the verbs take effect), the plan's
// actions, and FactDeadline for what Due lists when Wake has come.
//
// Two total tables decide: what an instance does next toward its goal
// (State x Goal -> Verb) and what a fact does to it (State x FactKind ->
// State). Both are data, tested to be total, and printed by `procnanny states`.
// What else a fact or a verb does is one small function each, found by its kind.
//
// Promises: Diff and DiffProgram change nothing; the same arguments give the
// same bytes; a world that is as desired gives an empty plan; no start is
// ordered before the containment of the run before is known to be empty; a fact
// that cannot be is told as EventIgnored, never dropped. Apply costs O(log n),
// DiffProgram O(n) in the instances of one program.
//
// # Words
//
// An end is unplanned when nobody ordered it, unless it was a success that
// policy lets rest. Unplanned ends count for backoff, give_up and flapping: a
// process that always ends well and is always restarted loops no less than one
// that crashes. Attempt counts them and begins anew after a run of at least
// max_delay, or a start that a person, an edit or a boot asked for. Jitter comes
// on top of max_delay.
//
// Flapping is told once; stable is told once, when it has been running for
// flap.within, or has been stopped, removed, given a new launch, or is done.
// What gave up keeps its verdict: nothing got better.
//
// # Decisions
//
//   - A World is handed on, not shared: Apply and Execute may reuse the World
//     they are given, and callers go on with the one they get back. Readers get
//     views of it, made by the engine. A copy per fact would make a mass exit
//     of 5000 instances quadratic.
//   - The verbs of a plan take effect in the world through facts too
//     (FactStartOrdered, FactStopOrdered, ...), so that no state moves outside
//     the fact table. Where a fact has two outcomes it has two rows (exited and
//     main exited, adopted and adopted stopping): a condition in a cell could
//     be neither printed nor tested for totality.
//   - Every end shows as exited with its code, and then, if it must wait, as
//     backoff: who watches for ends needs one state. A start out of backoff is
//     a plain start, held back until its time; an extra state for "its delay is
//     over" would tell people nothing.
//   - The keeper is believed about what lives. A run that the world does not
//     know is taken in, another one that it took for alive is over: what is not
//     in the world could not be stopped, and a second copy could start.
//   - A stop that was recorded but perhaps never sent is ordered again. Signals
//     and KILL may be given twice; a lost one would wait for ever.
//   - An end that comes before the first Diff after control's return is judged
//     by that Diff: judging it by default policy would restart a job that is
//     done. And as long as no configuration was accepted, nothing is stopped
//     for not being desired.
//   - A restart asks for a preflight too, of one instance as well: a person who
//     restarts what runs does not want it gone.
//   - A roll counts whatever does not run, but for what is done. What a person
//     forced is not held by failures any more and goes past those that failed;
//     otherwise one crash loop would make force useless. When what gave up uses
//     up max_unavailable the roll says held instead of waiting in silence.
//   - Scaling, stopping and starting are no edits: they do not let a held roll
//     go on.
//   - A process that waits for its turn in a roll keeps its tuning too: it is
//     the old generation until it is replaced.
//   - start.after is about starts alone, and is judged anew whenever something
//     moves: nobody is stopped because what it waited for is gone, and nothing
//     has to be remembered of an order. What waits is exited and says for whom; a
//     state of its own would double the tables for what `Waits` tells. A boot puts
//     off everything that names others, in the first look, so that what was done
//     before the boot counts for nothing. No old process is stopped for a new one
//     that would have to wait. Refused: starting what is waited for (a person
//     who stopped it meant that), and a time after which one starts without it.
//   - What stop.before says is a step of the stop, in the state stopping, with its
//     own deadline; the time of the stop begins with the signal. Its answer never
//     holds a stop up: a balancer that is down must not keep a program running.
//     When control dies meanwhile, nobody has been asked to end yet, and it is
//     done again. Refused: a state of its own, which would double the tables for
//     something that every stop passes.
package reconcile
