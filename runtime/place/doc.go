// Package place knows where things are and who may touch them: the flags and
// variables of the daemon, its directories, whether they can be trusted, the
// lock that keeps a second daemon out, and the other binaries. It promises:
//
//   - [ParseDaemon] reads flags, then PROCNANNY_<FLAG> variables, then defaults,
//     and names the flag or the variable when a value is wrong.
//   - [Daemon.Args] says everything: what is parsed from it is the same Daemon,
//     whatever the environment of the process that parses it.
//   - [Prepare] makes what is missing, changes nothing that somebody else made,
//     and for root refuses a place that another uid or group can write.
//   - [Daemon.CheckKeys] lets no TCP endpoint begin without keys, or with keys
//     that others can reach.
//   - [Lock] is held as long as the process lives, however it ends.
//
// # Decisions
//
//   - The standard library's flag package, because the keeper links this and
//     shall link little. It only splits the words; values are checked here, so
//     that flags and variables share one check and one kind of error.
//   - An empty variable is an unset one, as shells and unit files make them; an
//     empty flag is an error, except where empty means "none".
//   - A directory that exists keeps its owner and mode: --log-dir /var/log must
//     not make /var/log ours. Only one that looks as we make it gets the group
//     that was asked for.
//   - Trust is checked from / down, link by link, and not on the resolved path
//     only: who can replace a link decides where it leads.
//   - flock on a file that stays, and not a file that is created and removed: it
//     cannot be left behind, and needs no guess about whether a pid is alive.
//   - Keys lie in the state directory, which is its owner's alone, and not beside
//     the configuration, which people share, copy and commit.
//   - A keeper that inherits does not look at keys: what would keep a first start
//     from happening must not end one that runs.
//   - A client of an ordinary user does not fall back to the system's daemon: a
//     stop meant for the own one must not reach the other.
package place
