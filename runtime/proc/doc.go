// Package proc is control's view of living processes: it carries out the
// core's actions through the keeper, turns what the keeper says into facts,
// and looks at processes through /proc.
//
// Promises: Do does not wait, neither for the keeper nor for a file; orders of
// one instance arrive in the order in which they were given, and those of one
// Do in one message; a start that cannot be ordered is a fact, with step and
// errno. Observe never reports a process that has a pid by accident. Values of
// env and of env_files are in the request for the keeper and nowhere else.
//
// # Decisions
//
//   - The environment is built from nothing, in layers: PATH, what is
//     inherited, the user's variables, env_files, env, and at last the
//     PROCNANNY_ variables, which nobody can set. PATH is the same for every
//     user: a program should not find another executable because of its uid.
//   - $(NAME) in an env value means the child's final NAME, but inside NAME's
//     own value the one of the layer below: PATH: "/opt/bin:$(PATH)". In a
//     circle the reference that closes it stays as written. Values of
//     env_files are taken as they are: secrets have dollars in them.
//   - What is the same for all instances of a program is prepared once for each
//     *spec.Program, because a thousand starts in one turn of the engine must
//     cost milliseconds. Starts with env_files are made by a few short-lived
//     goroutines: files may be on a disk that hangs.
//   - Names of users and groups are asked about again only after /etc/passwd or
//     /etc/group changed, on the slow way. Asking at every start would put a
//     directory server into the path from a crash to its restart.
//   - A correction of drift is not told to the core: it changes nothing that
//     was desired. It goes by the same order as a change, so the tunes of a run
//     are counted to tell their answers apart.
//   - A run that the keeper holds and nobody recorded is adopted like one that
//     was: what the core does not know it cannot stop, and a second copy could
//     start beside it. Killing it was refused: a lost record is our fault, not
//     the program's.
package proc
