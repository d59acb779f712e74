package launch

// #include "child.h"
import "C"

import (
	"path"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

func cInt(n int) C.int32_t { return C.int32_t(n) }

func cBool(b bool) C.int32_t {
	if b {
		return 1
	}
	return 0
}

func addCgroup(b *builder) {
	if b.job.cgroup >= 0 {
		b.add(label{format: "joining the cgroup"}, C.PN_JOIN, 0, num(int(b.job.cgroup)))
	}
}

func addSession(b *builder) { b.call(label{format: "making a session"}, unix.SYS_SETSID) }

func addSignals(b *builder) {
	b.add(label{format: "setting signals to default"}, C.PN_SIGNALS, 0, num(ignored()))
}

// addDescriptors marks whatever we hold, known to us or not, to be closed at
// exec.
func addDescriptors(b *builder) {
	const last = uint32(0xffffffff)
	b.call(label{format: "closing other descriptors"}, unix.SYS_CLOSE_RANGE, num(3), num(last), num(unix.CLOSE_RANGE_CLOEXEC))
}

func addUmask(b *builder) {
	b.call(label{format: "setting umask"}, unix.SYS_UMASK, num(b.r.Umask))
}

// addStdio puts the descriptors that were given, or the null device, into
// place. Files come later (addFiles).
func addStdio(b *builder) {
	if b.io.In >= 0 {
		b.dup(b.io.In, 0)
	} else if b.stdinFile() == "" {
		b.null(0)
	}
	if b.r.Mode.Kind == "file" {
		return
	}
	for n, fd := range []int{1: b.io.Out, 2: b.io.Err} {
		switch {
		case n == 0:
		case fd >= 0:
			b.dup(fd, n)
		case n == 2 && b.io.Out >= 0 && b.r.Mode.Kind != "separate":
			b.dup(b.io.Out, n)
		default:
			b.null(n)
		}
	}
	b.givePipes()
}

func (b *builder) dup(fd, to int) {
	b.call(label{format: "passing %s", a: streams[to]}, unix.SYS_DUP3, num(fd), num(to), num(0))
}

func (b *builder) null(to int) {
	b.add(label{format: "opening the null device for %s", a: streams[to]}, C.PN_OPEN, 0, b.str("/dev/null"), num(unix.O_RDWR), num(0), num(0), num(to))
}

// givePipes makes the pipes the user's, who could not open /dev/stdout
// otherwise.
func (b *builder) givePipes() {
	id := b.r.Identity
	if !id.Switch || id.UID == b.self.uid || b.r.Mode.Kind == "inherit" {
		return
	}
	for n, fd := range []int{1: b.io.Out, 2: b.io.Err} {
		if n > 0 && fd >= 0 {
			b.call(label{format: "giving %s to uid %d", a: streams[n], b: id.UID}, unix.SYS_FCHOWN, num(n), num(id.UID), num(id.GID))
		}
	}
}

func (b *builder) stdinFile() string {
	if b.r.Stdin == "null" {
		return ""
	}
	return b.r.Stdin
}

func addDir(b *builder) {
	dir := b.r.Dir
	if dir == "" {
		dir = "/"
	}
	b.call(label{format: "changing to directory %s", a: dir}, unix.SYS_CHDIR, b.str(dir))
}

// addFiles opens what the user named. Stdin is only read, and may be behind a
// symbolic link; output is written by whoever can place a link, and may not.
func addFiles(b *builder) {
	if in := b.stdinFile(); in != "" && b.io.In < 0 {
		b.add(label{format: "opening stdin %s", a: in}, C.PN_OPEN, 0, b.str(in), num(unix.O_RDONLY), num(0), num(0), num(0))
	}
	if b.r.Mode.Kind != "file" {
		return
	}
	file := b.r.Mode.File
	l := label{format: "opening output file %s", a: file}
	if b.check {
		b.add(l, C.PN_FILE, 0, b.str(file), b.str(path.Dir(file)))
		return
	}
	const flags = unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT | unix.O_NOFOLLOW
	b.add(l, C.PN_OPEN, 0, b.str(file), num(flags), num(0o640), num(unix.RESOLVE_NO_SYMLINKS), num(1))
	b.dup(1, 2)
}

func addMask(b *builder) {
	b.call(label{format: "unblocking signals"}, unix.SYS_RT_SIGPROCMASK, num(unix.SIG_SETMASK), b.words64(0), num(0), num(8))
}

func addExec(b *builder) {
	l := label{format: "executing"} // explainExec knows more
	if len(b.r.Candidates) == 0 {
		b.fail(syscall.ENOENT, "executing %q", first(b.r.Argv))
		return
	}
	paths, n := b.strs(b.r.Candidates), num(len(b.r.Candidates))
	if b.check {
		b.add(l, C.PN_FIND, 0, paths, n)
		return
	}
	b.add(l, C.PN_EXEC, 0, paths, n, b.strs(b.r.Argv), b.strs(b.r.Env))
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// ignored is the set of signals that this process ignores, which a child would
// inherit; those with handlers the kernel sets to default itself
// (CLONE_CLEAR_SIGHAND). It is asked once: 62 system calls for each start are a
// tenth of a restart. So whoever ignores one must do so before the first start.
var ignored = sync.OnceValue(askIgnored)

func askIgnored() uint64 { return uint64(C.pn_ignored()) }
