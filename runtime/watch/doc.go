// Package watch turns settled changes of the configuration files into one
// verdict each. It promises:
//
//   - What it reads is one consistent set: no half-written file, no mixture of
//     two revisions, whatever way of saving people and tools use.
//   - One callback for each settled change of content; none for touch or chmod.
//   - Whatever stands in the directory (a FIFO, a device, a terabyte, a loop of
//     links) is refused at once by name, and never blocks.
//   - Evaluation happens in another process, unprivileged and limited; whatever
//     comes of it is a verdict, never a crash or a stall.
//   - With nothing to do it wakes twice a minute.
//
// # Decisions
//
//   - Settled means: 10 ms without an event, the same inode, size, mtime and
//     ctime of every file before and after reading, nobody has a file open for
//     writing (a read lease says so), and no git command holds the index lock.
//     A longer quiet time alone was refused: it still tears slow writers.
//   - When a file has vanished, the set is read again 200 ms later before that
//     is believed: tools that move the old version aside and then write the new
//     one are slow on a busy machine, and a program that seems removed is stopped.
//   - The whole set is read anew after every change: 1,000 files cost a few
//     milliseconds, and no event can be misunderstood. Events only say "look".
//   - Watches sit on directories, never on files; also on the parent and on the
//     directory of every link on the way, because a swapped directory is silent.
//     Events of other names in those are dropped.
//   - Changes during an evaluation wait for its end (5 s at most) instead of
//     cancelling it: a file that is saved all the time is still applied.
//   - An index lock older than ten minutes is what a killed git left behind, and
//     is ignored.
//   - One goroutine takes every event as it comes and remembers only when that
//     was; so the kernel's queue stays short during an evaluation. An overflow is
//     one more reason to look.
//   - Listening begins before reading, on what the look found, and a look after
//     reading must find the same: nothing can change unnoticed in between, not
//     even a directory that appears.
//   - Without inotify (the user's instances or watches are used up) it looks each
//     second and says so in the log, once; it tries again every 30 s.
//   - A Kick is answered also when the files say what they said: users and groups
//     of the host may have changed, and nobody tells us.
//   - A commit is named only if git status finds nothing changed or untracked in
//     the directory, no ignored file was read, and the files are still those that
//     were read. The rest of the work tree does not count: it is not what runs.
//   - Git runs as the owner of the work tree, so that its own ownership check
//     passes without safe.directory; where we cannot become the owner, git
//     refuses and there is no commit to show. Overriding the check would run the
//     filters of somebody else's repository as us.
package watch
