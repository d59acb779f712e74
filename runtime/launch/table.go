package launch

import (
	"encoding/json"

	"github.com/procnanny/procnanny/spec"
)

// row is one attribute of a process: how a launch brings it about, and, when
// the kernel can change it on a living process, how that is done, how it is
// read back, and what counts as a difference. Adding an attribute is adding a
// row.
type row struct {
	// key is the attribute's name; for what can be tuned, the key in the file.
	key string
	// why is the reason for the place in the order.
	why string
	// add compiles the attribute into steps of the child.
	add func(b *builder)
	// tune applies it to a living process, if the spec sets it, and notes what
	// the kernel refused.
	tune func(l *live)
	// read says what the kernel has, in the file's JSON form.
	read func(p *process) (json.RawMessage, error)
	// drift notes how what was read differs from what the spec sets.
	drift func(d *drift, want *spec.Tuning, got json.RawMessage)
}

// sequence is everything a child does between clone and exec, in order.
var sequence = []row{
	{key: "cgroup", why: "first, so that all it uses is counted; clone3 did it already where there is clone3", add: addCgroup, tune: tuneCgroup, read: readCgroup, drift: driftCgroup},
	{key: "session", why: "before nice: a new session is a new autogroup", add: addSession},
	{key: "signals", why: "while all are blocked, so that no handler of ours ever runs in the child", add: addSignals},
	{key: "descriptors", why: "before any is opened that shall stay", add: addDescriptors},
	{key: "umask", why: "before the output file is made", add: addUmask},
	{key: "oom_score_adj", why: "needs privilege: before the user; /proc/self is root's until then", add: addOOM, tune: tuneOOM, read: readOOM, drift: driftOOM},
	{key: "limits", why: "raising needs privilege: before the user; before nice and sched, which they allow", add: addLimits, tune: tuneLimits, read: readLimits, drift: driftLimits},
	{key: "nice", why: "a higher priority needs privilege: before the user", add: addNice, tune: tuneNice, read: readNice, drift: driftNice},
	{key: "autogroup", why: "Start sets it from outside: it counts for the whole session, whatever that has forked by then", read: readAutogroup},
	{key: "ionice", why: "realtime needs privilege: before the user", add: addIONice, tune: tuneIONice, read: readIONice, drift: driftIONice},
	{key: "sched", why: "fifo and rr need privilege: before the user", add: addSched, tune: tuneSched, read: readSched, drift: driftSched},
	{key: "stdio", why: "pipes are given to the user, which needs privilege: before the user", add: addStdio},
	{key: "bounding", why: "needs CAP_SETPCAP: before the user", add: addBounding},
	{key: "groups", why: "needs CAP_SETGID: before the user", add: addGroups},
	{key: "gid", why: "needs CAP_SETGID: before the user", add: addGID, read: readGID},
	{key: "uid", why: "after all that needs privilege; before all that must not have it", add: addUID, read: readUID},
	{key: "ambient", why: "after the user, whose change clears them", add: addAmbient},
	{key: "no_new_privs", why: "after the user and the capabilities, which it does not hinder", add: addNoNewPrivs},
	{key: "dir", why: "as the user: root may be nobody on a network disk, and must not pass where the user cannot", add: addDir},
	{key: "files", why: "stdin and the output file are opened with the user's rights; after dir, before the limit of open files", add: addFiles},
	{key: "nofile", why: "after the last open, so that a small limit hinders nothing of ours; lowering needs no privilege", add: addNoFile},
	{key: "cpus", why: "late: we sleep until the child has executed, and its CPU may be a busy one", add: addCPUs, tune: tuneCPUs, read: readCPUs, drift: driftCPUs},
	{key: "lower", why: "as late as can be, for the same reason; needs no privilege", add: addLower},
	{key: "mask", why: "last: from here on a signal may end it", add: addMask},
	{key: "exec", why: "the end", add: addExec},
}

// Keys lists the tuning keys that Read can answer, in the table's order.
func Keys() []string {
	var out []string
	for _, r := range sequence {
		if r.read != nil {
			out = append(out, r.key)
		}
	}
	return out
}
