// Package keeper is the parent of every program: it starts and stops what
// control orders, moves output, reaps, sees to it that nobody is left behind,
// and tells control what happened. Both ends of their protocol are here.
//
// # Promises
//
//   - At most one copy of an instance, also across a death of the keeper: a start
//     is refused while anybody of the instance's last run lives.
//   - Every end is seen once, with code, signal and core flag, and told after all
//     that the process wrote has reached its file.
//   - What happens while no control lives is in the next one's Hello.
//   - A death of the keeper loses no process, no byte of output and no end: what
//     is lost with a process (pidfds, pipes, locks, ends that are not written down)
//     control holds too, as Will, and executes or hands to the next keeper. What
//     dies with both is recorded as unknown.
//   - One keeper at a time: its locks go from hand to hand and are never free
//     while anybody of a daemon lives.
//   - No signal reaches a process that only got the number of one of ours: all
//     are sent by pidfd, to a process that was seen to belong after it was opened.
//   - Threads and goroutines do not depend on the number of instances. An idle
//     instance costs 2 descriptors (3 with separate output), and an idle keeper
//     is never woken.
//   - The loop never waits for a disk that programs' output goes to, and a disk
//     that does not answer holds up nobody who writes to another. The end of a
//     process is told after its output was moved, or a second late.
//   - It decides nothing and parses nothing from outside: orders come from
//     control alone, whose death it takes as an everyday thing.
//
// Keep owns its process: it reaps every child and takes the signals.
//
// # Decisions
//
//   - Output is moved by four threads that share the pipes: one epoll set,
//     one-shot, a pipe with one thread at a time (mover.go, flow.go). The loop
//     hands over work and hears of what came of it; it touches no file and nothing
//     that locks a pipe, because the kernel holds that lock while it writes. One
//     device occupies at most three, of those that write much at most two. Refused:
//     the loop as the one who moves, which one slow disk stops; one thread apart,
//     which lets programs stop each other; a thread per device, which is not
//     bounded.
//   - One loop owns all else; there is no mutex. Go's runtime keeps the signals
//     (a signalfd would race with its handlers): one goroutine carries them into
//     the loop by an eventfd. CHLD goes there from a handler in C
//     (launch.TellChildren): the runtime would wake two threads for each end, which
//     wait for a processor before the restart does. The kernel gives it to the
//     thread that made the child, which is the loop's, awake already.
//   - The loop waits in Go's own poller, for one descriptor that its epoll set is
//     (poll.go), and what an end needs of the kernel goes there past Go's scheduler
//     (quick.go). Refused: to wait in a system call, after which the runtime wakes
//     a thread of its own to watch us, a third of the time of an end and a start.
//   - Control gets timers that are 0.2 ms exact instead of 0.05 (slack.go), so that
//     this thread of its runtime looks more seldom. Programs do not.
//   - Starts that come together are made by a second thread (launcher.go), while the
//     loop prepares the next: whoever makes a process sleeps until it executes. A
//     thousand instances are up a quarter sooner. Refused: doing without that sleep
//     (no CLONE_VFORK), because the kernel then gives the child's oom_score_adj to
//     us, too; and channels between the two, which cost what was won.
//   - The wire is our own: fields by number, only what is not zero, unknown ones
//     skipped. Reflection makes a table of a struct's fields when the program starts,
//     so that a new field needs no code; with it a message is written and read where
//     it lies (form.go, wire.go). Refused: reflection over each message, which takes
//     two to three times as long, on the way of every restart; JSON, which replaces
//     bytes that are not UTF-8 (an inherited variable may hold any) and takes longer
//     still; gob, which sends types and whose decoder is large.
//   - A process is reaped as soon as its end is seen. Holding it unreaped would
//     keep its number for signals to its group, but those who are left are found
//     by cgroup or sweep, one by one, and signalled by pidfd.
//   - The child's end of its pipe is opened anew, for reading and writing: a pipe
//     that its writer can also read never breaks, so no death of ours raises
//     SIGPIPE. Refused: a named FIFO for each instance, which has to be named,
//     guarded and removed.
//   - Our own end is open for writing, too: so the end of a pipe's last writer wakes
//     no mover, who would take the processor from the loop just when that has a
//     restart to make. And the pipe stays for the next run, unless control
//     acknowledges the end before it orders one, or the launch has changed.
//   - Without cgroups, leftovers are looked for among our own children (we are
//     subreaper), not in all of /proc: as long as there are none, an end costs
//     nothing. A process that changed its session, its group and its environment,
//     and whose parents ended before anybody looked, is not known to be the run's.
//   - Who leaves its cgroup, which needs our rights, is looked for in the same way
//     (stray.go): main is signalled by its pidfd besides, and an end looks at our
//     orphans when nobody is left in the leaf. Of a run that a keeper found, whose
//     orphans are not ours, only main is surely known then.
//   - A program that has ended and is traced is told as ended though it cannot be
//     reaped yet: a debugger that does not look must not hold up a restart.
//   - A leaf stays between runs: mkdir and rmdir would double the cost of a
//     restart, and a leaf that exists and is empty is proof, not a guess. Only
//     after cgroup.kill it is made anew, because Linux 6.14 and later kill what
//     is then started in it (see errKilledAtBirth).
//   - What tells whether a leaf is empty is kept open for some hundred instances: to
//     open it is a twenty-fifth of the way from an exit to its event. Refused: for
//     all, because thousands would have to share the descriptors there are.
//   - While everything is being stopped, an end removes its leaf, which proves that
//     it is empty at the price of the removal that is due anyway, and on a
//     processor that control would leave idle in the end. Refused: all removals
//     after control has gone, a sixth of the stop of a thousand.
//   - When everything has ended, what is left of ours is given back while control
//     ends, and signals stay caught: a twelfth of the stop of a thousand.
//   - At the beginning of a stop CHLD goes unheard for a second, or until the end of
//     an orphan matters: for each of a thousand ends it would interrupt the thread
//     that started them. Their pidfds tell of them, many at a time.
//   - The ends of a turn are reaped first and told then: whether we have orphans at
//     all is read once for all of them.
//   - Who told an end gives the processor away before it tidies up: the kernel wakes
//     control where we run, and it would wait for us. It is a twenty-fifth of the
//     way from an exit to its event. In a stop of many nobody waits for one.
//   - A stop always sends CONT behind its signal, as systemd does. To look
//     whether main is held is not enough: a shell between vfork and exec of a
//     held child is not, and waits for ever.
//   - Restarting control is not delayed at its first death, and once we are
//     asked to stop not at all: after three tries the keeper stops everything
//     itself. A daemon that cannot end is worse than one without an order.
//   - A note stays until control acknowledges the end, and gets the end itself
//     after a while. Refused: removing it with the news of the end, which a control
//     that is stopped or dead never reads: a run was then said never to have been.
//   - Where a note is gone or makes no sense, the marks in the environment of the
//     oldest process in the leaf say which run it is. Outside our cgroups nothing
//     proves that such marks are ours.
//   - A note has two lines, one written before the start and one after it: a kill
//     in between leaves a note of a process that its environment names. Refused:
//     one note after the start, which left a moment in which a second copy could
//     be started; and writing by rename, which costs three times as much.
//   - Control becomes the keeper by execve, as the keeper does in an upgrade: one
//     hand-over for both, no third process, and the descriptors never pass through
//     a moment in which nobody has them. Refused: control as the parent of a new
//     keeper, which would have to be told of the other's every start from then on;
//     and FDSTORE of systemd, which most machines and all containers lack.
//   - Where a service manager starts the daemon again (Config.Supervised), control
//     waits for that one and hands it the same Will over a socket; the heir goes on
//     when that control is gone, as the end of the socket says.
//   - A new control gets all descriptors before the list: who knows the list
//     answers, and whoever answers must be able to take over.
//   - Descriptors go to control right after a start, not at the end of the turn: a
//     turn may start dozens of programs, and be killed in it.
//   - Between a start and that message the keeper alone would have a program's end
//     and output. So the child itself, before it executes, leaves its pidfd and its
//     pipes on a socket whose other end control holds (escrow.go): 3 µs a start.
//     Refused: giving the pipes before the start, which saves output and not the end;
//     and looking for the process after the death, when it may have ended.
//   - A Will is JSON with a version, for a reader that is older or newer; ends in it
//     are frames of the wire, which has rules for that already.
//   - The sink of a stream is made when there is something to write: a program that
//     says nothing costs 0.8 KiB less, of 2.2.
//   - Signals that would end us are blocked over execve, not ignored: none is lost.
//     Go passes such a mask on to every child, so control executes itself once
//     more when it finds one (CleanSignals).
package keeper
