package watch

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/procnanny/procnanny/runtime/oom"
	"github.com/procnanny/procnanny/spec"
	"golang.org/x/sys/unix"
)

const (
	// gitDeadline is for all that git is asked about one reading.
	gitDeadline = time.Second
	// lockLeftBehind is the age at which an index lock is no sign of work any
	// more: git was killed.
	lockLeftBehind = 10 * time.Minute
	maxGitFile     = 4096    // bytes of a .git file that is no directory
	maxGitAnswer   = 1 << 20 // bytes
)

// repository is a git work tree.
type repository struct {
	top string // of the work tree
	dir string // .git, or where a .git file points
}

// repositories are the git work trees that the configuration lies in.
func (s *scan) repositories() []repository {
	_, homes := s.steps()
	var out []repository
	for _, home := range homes {
		if r, ok := repositoryOf(home); ok && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

// repositoryOf looks for .git in dir and above.
func repositoryOf(dir string) (repository, bool) {
	for {
		if at := gitDir(dir); at != "" {
			return repository{dir, at}, true
		}
		if dir == "/" || dir == "." {
			return repository{}, false
		}
		dir = filepath.Dir(dir)
	}
}

// gitDir is where the repository of the work tree top is kept, or "".
func gitDir(top string) string {
	name := filepath.Join(top, ".git")
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return ""
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return name
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return ""
	}
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	buf := make([]byte, maxGitFile)
	n, err := readFull(fd, buf)
	target, ok := strings.CutPrefix(string(buf[:n]), "gitdir: ")
	if err != nil || !ok {
		return ""
	}
	target = strings.TrimRight(target, "\r\n")
	if !filepath.IsAbs(target) {
		target = filepath.Join(top, target)
	}
	return target
}

// gitLock is the index lock of a git command that is at work in one of the
// repositories, or "".
func gitLock(in []repository, now time.Time) string {
	for _, r := range in {
		name := filepath.Join(r.dir, "index.lock")
		var st unix.Stat_t
		if unix.Lstat(name, &st) != nil {
			continue
		}
		if now.Sub(time.Unix(0, st.Mtim.Nano())) < lockLeftBehind {
			return name
		}
	}
	return ""
}

// gitState changes whenever something is committed or checked out in the work
// tree that path lies in; it is empty outside of one.
func gitState(path string) string {
	_, real := route(path)
	r, ok := repositoryOf(real)
	if !ok {
		return ""
	}
	var state strings.Builder
	for _, name := range []string{"HEAD", "index", "logs/HEAD"} {
		var st unix.Stat_t
		if unix.Lstat(filepath.Join(r.dir, name), &st) == nil {
			fmt.Fprintf(&state, "%d.%d.%d ", st.Ino, st.Size, st.Mtim.Nano())
		}
	}
	return state.String()
}

// commit is the commit that the directory of src has checked out, when nothing
// in it differs from that; otherwise, and without git, "".
func commit(ctx context.Context, src spec.Source) string {
	_, real := route(src.Root)
	r, ok := repositoryOf(real)
	if !ok {
		return ""
	}
	within, cancel := context.WithTimeout(ctx, gitDeadline)
	defer cancel()
	cmd := gitCommand(within, real)
	if cmd == nil {
		return ""
	}
	answer := &head{room: maxGitAnswer}
	cmd.Stdout = answer
	if err := oom.AsBorn(cmd.Start); err != nil {
		return ""
	}
	if err := cmd.Wait(); err != nil || answer.kept.Len() >= maxGitAnswer {
		return ""
	}
	prefix, err := filepath.Rel(r.top, real)
	if err != nil {
		return ""
	}
	return cleanCommit(answer.kept.Bytes(), filepath.ToSlash(prefix), src)
}

// gitCommand asks for branch and state of dir at once, as the owner of dir. It
// writes nothing and starts nothing that the repository's own configuration
// names, but for clean filters.
func gitCommand(ctx context.Context, dir string) *exec.Cmd {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, "git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null",
		"status", "--porcelain=v2", "--branch", "-z", "--no-renames", "--untracked-files=normal", "--ignored=matching", "--", ".")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/nonexistent", "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0"}
	cmd.WaitDelay = 100 * time.Millisecond
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if unix.Geteuid() == 0 && st.Uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: st.Uid, Gid: st.Gid}
	}
	return cmd
}

// cleanCommit reads what git status --porcelain=v2 -z said: the commit, and one
// record for each path that differs from it.
func cleanCommit(answer []byte, prefix string, src spec.Source) string {
	found := ""
	for record := range bytes.SplitSeq(answer, []byte{0}) {
		text := string(record)
		switch {
		case text == "":
		case strings.HasPrefix(text, "# "):
			if oid, ok := strings.CutPrefix(text, "# branch.oid "); ok && oid != "(initial)" {
				found = oid
			}
		case strings.HasPrefix(text, "! "):
			if ignoredButRead(strings.TrimPrefix(text, "! "), prefix, src) {
				return ""
			}
		default:
			return "" // changed or untracked
		}
	}
	return found
}

// ignoredButRead reports whether a path that git ignores is, or holds, a file of
// the configuration: no commit describes that.
func ignoredButRead(ignored, prefix string, src spec.Source) bool {
	for name := range src.Files {
		full := path.Join(prefix, name)
		if full == ignored || strings.HasSuffix(ignored, "/") && strings.HasPrefix(full, ignored) {
			return true
		}
	}
	return false
}
