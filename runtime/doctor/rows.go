package doctor

import "golang.org/x/sys/unix"

// rows is every check.
var rows = []row{
	{name: "kernel", bad: Missing, probe: kernel, weakens: "procnanny needs Linux 5.6 or later"},
	{
		name: "pidfd", bad: Missing, probe: pidfd,
		weakens: "processes cannot be held by a descriptor: procnanny does not start",
	},
	{
		name: "process identity", bad: Weak, probe: identity,
		weakens: "after a death of procnannyd a program is known again by pid and start time only, not by an inode that is never given twice (Linux 6.9)",
	},
	{
		name: "exit codes of others' children", bad: Weak, probe: exitInfo,
		weakens: "how a program ended that outlived its procnannyd may stay unknown; it is recorded as unknown, never guessed (Linux 6.15)",
	},
	{
		name: "subreaper", bad: Weak, probe: subreaper,
		weakens: "descendants whose parents ended go to init, and are not reaped here",
	},
	{
		name: "cgroup", bad: Weak, probe: cgroup,
		weakens: "descendants are found by parent, session, group and environment: one that hides all of these survives a stop. No `cgroup` limits",
	},
	{
		name: "cgroup.kill", bad: Weak, probe: cgroupKill,
		weakens: "what is left of a run is killed process by process, again until nobody is left (Linux 5.14)",
	},
	{
		name: "cgroup controllers", bad: Weak, probe: controllers,
		weakens: "a program with the `cgroup` keys of a missing controller does not start, and says so; without `memory`, one that the kernel kills for want of memory shows as killed by KILL",
	},
	{
		name: "lists of children", bad: Weak, probe: childLists,
		weakens: "without cgroups, finding who is left of a run reads all of /proc",
	},
	{
		name: "/proc of others", bad: Weak, probe: visible,
		weakens: "processes of other users are hidden (hidepid): drift is not seen, and adoption after a death knows less",
	},
	capability("CAP_SETUID", unix.CAP_SETUID, "`user`, `uid` and `groups` can only be the daemon's own"),
	capability("CAP_KILL", unix.CAP_KILL, "programs of other users cannot be signalled"),
	capability("CAP_SYS_RESOURCE", unix.CAP_SYS_RESOURCE, "`limits` cannot be above the daemon's own hard limits: such a program does not start"),
	capability("CAP_SYS_NICE", unix.CAP_SYS_NICE, "`nice` cannot be lowered, `sched` cannot be fifo or rr, `ionice` cannot be realtime"),
	capability("CAP_CHOWN", unix.CAP_CHOWN, "programs of other users cannot open /dev/stdout again"),
	{
		name: "OOM killer", bad: Weak, probe: protection,
		weakens: "when memory runs out, the kernel may kill procnannyd and procnanny-control as it kills others: programs do not notice, and they are started again",
	},
	{
		name: "descriptors", bad: Weak, probe: descriptors,
		weakens: "few instances fit: raise the hard limit of open files (LimitNOFILE in a unit)",
	},
	{
		name: "pipe memory", bad: Weak, probe: pipes,
		weakens: "beyond that many instances a pipe holds one page: a loud program waits more often for its output to be written",
	},
	{
		name: "file watching", bad: Weak, probe: inotify,
		weakens: "changes of the configuration are seen by looking every few seconds, not at once (fs.inotify)",
	},
	{
		name: "memory files", bad: Weak, probe: memfd,
		weakens: "no upgrade of procnannyd in place, and no raising of a new one after its death",
	},
	{
		name: "evaluator", bad: Missing, probe: evaluator,
		weakens: "configurations cannot be read: procnanny-eval must be beside procnanny, in ../libexec/procnanny, or where PROCNANNY_LIBEXEC says",
	},
}

func capability(name string, number uint, weakens string) row {
	return row{name: name, bad: Weak, weakens: weakens, probe: func(h *Host) finding { return h.capability(number) }}
}
