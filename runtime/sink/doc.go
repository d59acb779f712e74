// Package sink consumes events: it runs the commands and sends the webhooks that
// the configuration's `on` asks for, and what `stop.before` asks for before a
// stop.
//
// Promises:
//
//   - At least once: what is due is written down before it is begun, and taken
//     back only when it is done. Whoever is told twice can see it by the event's
//     number, which stays the same. A command that outlives us is waited for, not
//     begun again.
//   - In order, for each hook and instance: the next event of an instance waits
//     until the one before it is done, or given up. Between hooks there is no order.
//   - A hook that is slow or fails delays nobody but itself: it has at most 4 tries
//     at work (all commands together 32), 256 events due in memory, and waits for
//     the rest in the history. Publishing never waits for any of it.
//   - What failed retries+1 times is put aside, 100 for each hook, until somebody
//     has it retried.
//   - A command has no more rights than its program (at the top level the daemon)
//     unless the files name a user, which they may as for a program. Nothing of it
//     survives its end or its timeout: the keeper empties its containment as a
//     program's.
//   - Plain http goes to this machine only, unless the files allow it: also where
//     a name resolves to another one. Redirections are not followed, no proxy is
//     used, of an answer at most 64 KiB are read. No message quotes a url.
//
// # Decisions
//
//   - The place in the events is one number for all hooks, and each event that is
//     due a note of its own. Refused: a cursor for each hook, which stands still as
//     long as its oldest event fails, so that our death would repeat all that came
//     after it.
//   - Commands are the keeper's children, not ours: they survive our death, and
//     their containment, output and limits are those of programs. Refused: os/exec
//     here, where a death of control would leave orphans that nobody reaps.
//   - What a hook is known by is its name, or else its event and place in the list:
//     an edit of the command keeps what is due, and a retry uses the new command.
//     Refused: its content's digest, with which a repaired hook would begin anew.
//   - A hook that is new begins with what happens after it was accepted.
//   - No event of ours leads to a hook, so none can call itself.
package sink
