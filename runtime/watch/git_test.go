package watch

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func needGit(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git on this machine")
	}
}

// revisions makes a work tree with two revisions, old and new, of n files that
// all say which revision they are.
func revisions(t *testing.T, n int) string {
	t.Helper()
	needGit(t)
	dir := realDir(t) + "/site"
	must(t, os.Mkdir(dir, 0o755))
	sh(t, dir, "git init -q -b main .")
	for _, revision := range []string{"old", "new"} {
		for i := range n {
			write(t, fmt.Sprintf("%s/f%03d.cue", dir, i), fmt.Sprintf("revision: %q // %s\n", revision, strings.Repeat("x", i*10)))
		}
		sh(t, dir, "git add . && git commit -q -m "+revision+" && git tag "+revision)
	}
	return dir
}

func output(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	out, err := cmd.Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

// mixture says which revisions a reading holds.
func mixture(r Reading) map[string]int {
	out := map[string]int{}
	for _, text := range r.Source.Files {
		word, _, _ := strings.Cut(strings.TrimPrefix(string(text), `revision: "`), `"`)
		out[word]++
	}
	return out
}

func TestCheckoutIsOneReading(t *testing.T) {
	t.Parallel()
	dir := revisions(t, 100)
	f := follow(t, dir)
	first := f.next()
	if want := output(t, dir, "git rev-parse HEAD"); first.Commit != want {
		t.Errorf("commit %q, expected %q", first.Commit, want)
	}
	for _, revision := range []string{"old", "new", "old"} {
		sh(t, dir, "git checkout -q "+revision)
		r := f.next()
		if m := mixture(r); m[revision] != 100 || len(m) != 1 {
			t.Errorf("after the checkout of %s: %v", revision, m)
		}
		if want := output(t, dir, "git rev-parse "+revision); r.Commit != want {
			t.Errorf("commit %q, expected %q", r.Commit, want)
		}
	}
	time.Sleep(5 * quiet) // time enough for one too many
	if n := len(f.got); n > 0 {
		t.Errorf("%d more readings came", n)
	}
}

// For some seconds, checkouts of 200 files go back and forth as fast as they
// can: each reading is one revision.
func TestNoMixtureOfRevisions(t *testing.T) {
	t.Parallel()
	dir := revisions(t, 200)
	f := follow(t, dir)
	f.next()
	end := time.Now().Add(2 * time.Second)
	rounds := 0
	for ; time.Now().Before(end); rounds++ {
		sh(t, dir, "git checkout -q old; git checkout -q new")
	}
	sh(t, dir, "git checkout -q old")
	for {
		r := f.next()
		m := mixture(r)
		if len(r.Problems) == 0 && (len(m) != 1 || len(r.Source.Files) != 200) {
			t.Fatalf("a mixture of revisions: %v", m)
		}
		if m["old"] == 200 && len(f.got) == 0 {
			break
		}
	}
	t.Logf("%d rounds, %d readings", rounds, len(f.all))
}

// What is read without listening is no mixture either.
func TestSettleBesideCheckouts(t *testing.T) {
	t.Parallel()
	dir := revisions(t, 100)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = exec.Command("sh", "-c", "cd "+dir+" && git checkout -q old && sleep 0.02 && git checkout -q new && sleep 0.02").Run()
			}
		}
	}()
	good := 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		src, _, err := Settle(context.Background(), dir)
		if err != nil {
			continue // busy is an honest answer
		}
		good++
		if m := mixture(Reading{Source: src}); len(m) != 1 {
			t.Errorf("a mixture: %v", m)
		}
	}
	close(stop)
	<-done
	if good == 0 {
		t.Error("nothing could be read between the checkouts")
	}
}

// commitOf is the commit that a look at path names.
func commitOf(path string) string {
	return New(path, slog.New(slog.DiscardHandler)).Look(context.Background()).Commit
}

func TestCommitOnlyOfACleanTree(t *testing.T) {
	t.Parallel()
	dir := revisions(t, 3)
	head := output(t, dir, "git rev-parse HEAD")
	sub := dir + "/sub"
	cases := []struct {
		name, script, look, want string
	}{
		{"clean", "", dir, head},
		{"changed", "echo x: 1 >> f001.cue", dir, ""},
		{"untracked", "git checkout -q . && echo x: 1 > more.cue", dir, ""},
		{"staged", "git add more.cue", dir, ""},
		{"ignored configuration", "git rm -q -f more.cue; echo ignored.cue >> .git/info/exclude; echo x: 1 > ignored.cue", dir, ""},
		{"ignored other", "rm ignored.cue; echo '*.log' >> .git/info/exclude; echo x > a.log", dir, head},
		{"removed", "rm f002.cue", dir, ""},
		{"a subdirectory with nothing in git", "git checkout -q . && mkdir sub && echo x: 1 > sub/a.cue", sub, ""},
	}
	for _, c := range cases {
		if c.script != "" {
			sh(t, dir, c.script)
		}
		if got := commitOf(c.look); got != c.want {
			t.Errorf("%s: commit %q, expected %q", c.name, got, c.want)
		}
	}
	sh(t, dir, "git add sub && git commit -q -m sub && echo y: 1 >> f001.cue")
	if got, want := commitOf(sub), output(t, dir, "git rev-parse HEAD"); got != want {
		t.Errorf("a clean subdirectory of a tree that is not: commit %q, expected %q", got, want)
	}
	if got := commitOf(dir); got != "" {
		t.Errorf("and the tree itself: commit %q", got)
	}
	sh(t, dir, "git checkout -q . && git worktree add -q ../second")
	if got, want := commitOf(filepath.Dir(dir)+"/second"), output(t, dir, "git rev-parse HEAD"); got != want {
		t.Errorf("a second work tree: commit %q, expected %q", got, want)
	}
	if got := commitOf(realDir(t)); got != "" {
		t.Errorf("outside of git: commit %q", got)
	}
}

// What was saved first and committed later is told once more, with its commit.
func TestCommitAfterTheReading(t *testing.T) {
	t.Parallel()
	dir := revisions(t, 2)
	f := &follower{Watcher: New(dir, slog.New(slog.DiscardHandler)), t: t, got: make(chan Reading, 1000)}
	f.safety = 50 * time.Millisecond
	f.run()
	if r := f.next(); r.Commit != output(t, dir, "git rev-parse HEAD") {
		t.Errorf("at first: commit %q", r.Commit)
	}
	write(t, dir+"/f001.cue", "x: 1\n")
	if r := f.nextSaying("f001.cue", "x: 1\n"); r.Commit != "" {
		t.Errorf("saved: commit %q", r.Commit)
	}
	sh(t, dir, "touch other && git add other") // git moves, and there is no commit
	sh(t, dir, "git add . && git commit -q -m later")
	if r := f.nextSaying("f001.cue", "x: 1\n"); r.Commit != output(t, dir, "git rev-parse HEAD") {
		t.Errorf("committed: commit %q", r.Commit)
	}
	sh(t, dir, "git commit -q --allow-empty -m more") // of the same content: the first one counts
	write(t, dir+"/f001.cue", "x: 2\n")
	f.nextSaying("f001.cue", "x: 2\n")
}

// Git of a directory that belongs to somebody else is asked as them.
func TestGitIsAskedAsTheOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	dir := revisions(t, 3)
	sh(t, dir, "chown -R 65534:65534 .")
	for d := dir; len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	marker := dir + "/who"
	must(t, os.WriteFile(marker, nil, 0o666))
	must(t, os.Chmod(marker, 0o666))
	sh(t, dir, `echo who >> .git/info/exclude; git -c safe.directory="*" config core.fsmonitor "id -u >> `+marker+`; true"`)
	if got := commitOf(dir); got == "" {
		t.Error("no commit: git was asked as somebody else")
	}
	if raw, _ := os.ReadFile(marker); len(raw) > 0 {
		t.Errorf("a program of the repository's configuration was run, as uid %s", raw)
	}
	var st syscall.Stat_t
	must(t, syscall.Stat(dir+"/.git/index", &st))
	if st.Uid != 65534 {
		t.Error("asking changed the index")
	}
}

// A lock that is young means work; an old one was left behind.
func TestIndexLock(t *testing.T) {
	t.Parallel()
	dir := revisions(t, 1)
	lock := dir + "/.git/index.lock"
	f := follow(t, dir)
	f.next()
	write(t, lock, "")
	write(t, dir+"/f000.cue", `revision: "edited"`)
	f.nextProblem("index.lock: configuration is busy: git is at work")
	must(t, os.Remove(lock))
	f.nextSaying("f000.cue", `revision: "edited"`)
	write(t, lock, "")
	old := time.Now().Add(-lockLeftBehind - time.Minute)
	must(t, os.Chtimes(lock, old, old))
	write(t, dir+"/f000.cue", `revision: "again"`)
	f.nextSaying("f000.cue", `revision: "again"`)
}
