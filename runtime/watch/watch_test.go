package watch

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must come at once.
const patience = 10 * time.Second

// follower is a running watcher, with what it handed on.
type follower struct {
	*Watcher
	t   *testing.T
	got chan Reading

	mu  sync.Mutex
	all []Reading
}

func follow(t *testing.T, path string) *follower {
	t.Helper()
	f := &follower{Watcher: New(path, slog.New(slog.NewTextHandler(io.Discard, nil))), t: t, got: make(chan Reading, 1000)}
	f.run()
	return f
}

// run starts the watcher and ends it with the test.
func (f *follower) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx, func(r Reading) {
			f.mu.Lock()
			f.all = append(f.all, r)
			f.mu.Unlock()
			f.got <- r
		})
	}()
	f.t.Cleanup(func() { cancel(); <-done })
}

func (f *follower) next() Reading {
	f.t.Helper()
	select {
	case r := <-f.got:
		return r
	case <-time.After(patience):
		f.t.Fatal("no reading came")
		return Reading{}
	}
}

// nextSaying waits for a reading in which file says text.
func (f *follower) nextSaying(file, text string) Reading {
	f.t.Helper()
	r := f.next()
	if len(r.Problems) > 0 || string(r.Source.Files[file]) != text {
		f.t.Fatalf("expected %s to say %q, found %q, problems %v", file, text, r.Source.Files[file], r.Problems)
	}
	return r
}

func (f *follower) nextProblem(part string) {
	f.t.Helper()
	r := f.next()
	if !strings.Contains(r.Problems.Error(), part) {
		f.t.Fatalf("expected a problem with %q, found %v", part, r.Problems)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sh(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// realDir is a new directory by its name without links.
func realDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	return dir
}

func TestFirstReadingComesAtOnce(t *testing.T) {
	dir := realDir(t)
	write(t, dir+"/a.cue", "one")
	f := follow(t, dir)
	if r := f.nextSaying("a.cue", "one"); r.Source.Root != dir || r.Fingerprint.Digest == "" {
		t.Errorf("root %q, digest %q", r.Source.Root, r.Fingerprint.Digest)
	}
}

// Every way in which people and tools save a file is one reading.
func TestAllWaysOfSaving(t *testing.T) {
	ways := map[string]func(t *testing.T, file, text string){
		"in place": write,
		"editor rename": func(t *testing.T, file, text string) {
			write(t, filepath.Dir(file)+"/.a.cue.swp", text)
			must(t, os.Rename(filepath.Dir(file)+"/.a.cue.swp", file))
		},
		"backup and new": func(t *testing.T, file, text string) {
			must(t, os.Rename(file, file+"~"))
			write(t, file, text)
		},
		"backup and new, slowly": func(t *testing.T, file, text string) {
			must(t, os.Rename(file, file+"~"))
			time.Sleep(vanished / 2) // a busy machine: that is what is tested
			write(t, file, text)
		},
		"rename from elsewhere": func(t *testing.T, file, text string) {
			tmp := filepath.Dir(filepath.Dir(file)) + "/elsewhere"
			write(t, tmp, text)
			must(t, os.Rename(tmp, file))
		},
		"remove and create": func(t *testing.T, file, text string) {
			must(t, os.Remove(file))
			write(t, file, text)
		},
		"truncate and slow writer": func(t *testing.T, file, text string) {
			f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
			must(t, err)
			for _, part := range []string{text[:1], text[1:2], text[2:]} {
				_, err = f.WriteString(part)
				must(t, err)
				time.Sleep(3 * quiet) // the writer is slow: that is what is tested
			}
			must(t, f.Close())
		},
		"hard link": func(t *testing.T, file, text string) {
			write(t, file+".new", text)
			must(t, os.Remove(file))
			must(t, os.Link(file+".new", file))
		},
	}
	for name, save := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := realDir(t) + "/conf"
			must(t, os.Mkdir(dir, 0o755))
			write(t, dir+"/a.cue", "first text")
			f := follow(t, dir)
			f.nextSaying("a.cue", "first text")
			for i := range 3 {
				text := fmt.Sprintf("text number %d", i)
				save(t, dir+"/a.cue", text)
				f.nextSaying("a.cue", text)
			}
			if n := len(f.got); n > 0 {
				t.Errorf("%d more readings came", n)
			}
		})
	}
}

func TestLinksThatAreSwapped(t *testing.T) {
	type place struct{ conf, base string }
	version := func(t *testing.T, base, name, text string) {
		t.Helper()
		must(t, os.Mkdir(base+"/"+name, 0o755))
		write(t, base+"/"+name+"/a.cue", text)
	}
	swap := func(t *testing.T, link, target string) {
		t.Helper()
		must(t, os.Symlink(target, link+".tmp"))
		must(t, os.Rename(link+".tmp", link))
	}
	ways := map[string]struct {
		lay  func(t *testing.T, p place)
		swap func(t *testing.T, p place)
	}{
		"kubernetes ..data": {
			func(t *testing.T, p place) {
				must(t, os.Mkdir(p.conf, 0o755))
				version(t, p.conf, "..1", "one")
				must(t, os.Symlink("..1", p.conf+"/..data"))
				must(t, os.Symlink("..data/a.cue", p.conf+"/a.cue"))
			},
			func(t *testing.T, p place) {
				version(t, p.conf, "..2", "two")
				swap(t, p.conf+"/..data", "..2")
				must(t, os.RemoveAll(p.conf+"/..1"))
			},
		},
		"the directory is a link": {
			func(t *testing.T, p place) {
				version(t, p.base, "1", "one")
				must(t, os.Symlink("1", p.conf))
			},
			func(t *testing.T, p place) {
				version(t, p.base, "2", "two")
				swap(t, p.conf, p.base+"/2")
			},
		},
		"a link on the way is swapped": {
			func(t *testing.T, p place) {
				must(t, os.MkdirAll(p.base+"/r1/x", 0o755))
				must(t, os.MkdirAll(p.base+"/r2/x", 0o755))
				version(t, p.base+"/r1/x", "conf", "one")
				version(t, p.base+"/r2/x", "conf", "two")
				must(t, os.Symlink("r1", p.base+"/current"))
				must(t, os.Symlink("current/x/conf", p.conf))
			},
			func(t *testing.T, p place) { swap(t, p.base+"/current", "r2") },
		},
		"a file elsewhere is edited": {
			func(t *testing.T, p place) {
				must(t, os.Mkdir(p.conf, 0o755))
				version(t, p.base, "far", "one")
				must(t, os.Symlink("../far/a.cue", p.conf+"/a.cue"))
			},
			func(t *testing.T, p place) { write(t, p.base+"/far/a.cue", "two") },
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := realDir(t)
			p := place{base + "/conf", base}
			way.lay(t, p)
			f := follow(t, p.conf)
			f.nextSaying("a.cue", "one")
			way.swap(t, p)
			f.nextSaying("a.cue", "two")
			if n := len(f.got); n > 0 {
				t.Errorf("%d more readings came", n)
			}
		})
	}
}

func TestDirectoryThatGoesAndComes(t *testing.T) {
	ways := map[string]func(t *testing.T, dir string){
		"removed and made anew": func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir))
		},
		"renamed": func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir+".old"))
			must(t, os.Rename(dir, dir+".old"))
		},
		"its parent too": func(t *testing.T, dir string) {
			must(t, os.RemoveAll(filepath.Dir(dir)))
		},
	}
	for name, away := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := realDir(t) + "/parent/conf"
			must(t, os.MkdirAll(dir, 0o755))
			write(t, dir+"/a.cue", "one")
			f := follow(t, dir)
			f.nextSaying("a.cue", "one")
			for range 3 {
				away(t, dir)
				r := f.next()
				if len(r.Problems) == 0 && len(r.Source.Files) == 0 {
					r = f.next() // it was seen on the way, when only the file was gone
				}
				if !strings.Contains(r.Problems.Error(), "no such file or directory") {
					t.Fatalf("a directory that is gone gives %v", r.Problems)
				}
				must(t, os.MkdirAll(dir, 0o755))
				if r := f.next(); len(r.Source.Files) == 0 {
					// It was seen while it was empty.
					write(t, dir+"/a.cue", "two")
					f.nextSaying("a.cue", "two")
				}
				write(t, dir+"/a.cue", "three")
				f.nextSaying("a.cue", "three")
			}
		})
	}
}

func TestPathThatDoesNotExistYet(t *testing.T) {
	dir := realDir(t)
	f := follow(t, dir+"/a/b/conf.cue")
	f.nextProblem("no such file or directory")
	must(t, os.MkdirAll(dir+"/a/b", 0o755))
	write(t, dir+"/a/b/conf.cue", "here")
	f.nextSaying("conf.cue", "here")
}

func TestOneFile(t *testing.T) {
	dir := realDir(t)
	write(t, dir+"/a.cue", "one")
	f := follow(t, dir+"/a.cue")
	if r := f.nextSaying("a.cue", "one"); r.Source.Single != "a.cue" {
		t.Errorf("single is %q", r.Source.Single)
	}
	write(t, dir+"/other.cue", "nobody reads this")
	write(t, dir+"/a.cue", "two")
	if r := f.nextSaying("a.cue", "two"); len(r.Source.Files) != 1 {
		t.Errorf("files: %v", r.Source.Files)
	}
}

func TestSubdirectories(t *testing.T) {
	dir := realDir(t)
	write(t, dir+"/a.cue", "one")
	f := follow(t, dir)
	f.nextSaying("a.cue", "one")
	must(t, os.MkdirAll(dir+"/lib/deep", 0o755))
	write(t, dir+"/lib/deep/x.cue", "x")
	f.nextSaying("lib/deep/x.cue", "x")
	write(t, dir+"/lib/deep/x.cue", "y")
	f.nextSaying("lib/deep/x.cue", "y")
	must(t, os.RemoveAll(dir+"/lib"))
	if r := f.next(); len(r.Source.Files) != 1 {
		t.Errorf("files: %v", r.Source.Files)
	}
}

// touch, chmod, other people's files and files that nobody reads are no change:
// the next reading is that of the edit that follows.
func TestNoChangeIsNoReading(t *testing.T) {
	nothings := map[string]func(dir string){
		"touch":       func(dir string) { must(t, os.Chtimes(dir+"/a.cue", time.Now(), time.Now())) },
		"chmod":       func(dir string) { must(t, os.Chmod(dir+"/a.cue", 0o600)) },
		"same text":   func(dir string) { write(t, dir+"/a.cue", "one") },
		"other file":  func(dir string) { write(t, dir+"/README.md", "hello") },
		"hidden file": func(dir string) { write(t, dir+"/.hidden.cue", "hello") },
		"empty dir":   func(dir string) { must(t, os.Mkdir(dir+"/empty", 0o755)) },
	}
	dir := realDir(t)
	write(t, dir+"/a.cue", "one")
	f := follow(t, dir)
	f.nextSaying("a.cue", "one")
	for name, nothing := range nothings {
		nothing(dir)
		time.Sleep(5 * quiet) // time enough to hand something on by mistake
		if n := len(f.got); n > 0 {
			t.Errorf("%s: %d readings", name, n)
		}
	}
	write(t, dir+"/a.cue", "two")
	f.nextSaying("a.cue", "two")
}

func TestKickIsAlwaysAnswered(t *testing.T) {
	dir := realDir(t)
	write(t, dir+"/a.cue", "one")
	f := follow(t, dir)
	f.nextSaying("a.cue", "one")
	for range 3 {
		f.Kick()
		f.nextSaying("a.cue", "one")
	}
}

// What is no regular file is refused at once, by name.
func TestWhatIsNoFile(t *testing.T) {
	strange := map[string]struct {
		make func(file string) error
		says string
	}{
		"FIFO":   {func(file string) error { return syscall.Mkfifo(file, 0o644) }, "is a FIFO, not a regular file"},
		"device": {func(file string) error { return os.Symlink("/dev/zero", file) }, "is a device, not a regular file"},
		"huge": {func(file string) error {
			if err := os.WriteFile(file, nil, 0o644); err != nil {
				return err
			}
			return os.Truncate(file, 1<<40)
		}, "larger than 64 MiB"},
		"loop":    {func(file string) error { return os.Symlink(filepath.Base(file), file) }, "too many levels of symbolic links"},
		"nowhere": {func(file string) error { return os.Symlink("nowhere", file) }, "no such file or directory"},
		"up":      {func(file string) error { return os.Symlink("..", file) }, ""},
	}
	for name, s := range strange {
		t.Run(name, func(t *testing.T) {
			dir := realDir(t) + "/conf"
			must(t, os.Mkdir(dir, 0o755))
			write(t, dir+"/a.cue", "one")
			must(t, s.make(dir+"/z.cue"))
			began := time.Now()
			_, _, err := Settle(context.Background(), dir)
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
			if s.says != "" && (err == nil || !strings.Contains(err.Error(), s.says) || !strings.Contains(err.Error(), dir+"/z.cue")) {
				t.Errorf("expected %q and the name, found %v", s.says, err)
			}
		})
	}
}

func TestUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root reads everything")
	}
	dir := realDir(t)
	write(t, dir+"/a.cue", "one")
	f := follow(t, dir)
	f.nextSaying("a.cue", "one")
	must(t, os.Chmod(dir+"/a.cue", 0))
	f.nextProblem("permission denied")
	must(t, os.Chmod(dir+"/a.cue", 0o644))
	f.nextSaying("a.cue", "one")
}

// A writer that never closes is named after two seconds, and read when it does.
func TestBusyIsSaid(t *testing.T) {
	t.Parallel()
	dir := realDir(t)
	write(t, dir+"/a.cue", "one")
	f := follow(t, dir)
	f.nextSaying("a.cue", "one")
	w, err := os.OpenFile(dir+"/a.cue", os.O_WRONLY|os.O_TRUNC, 0)
	must(t, err)
	_, err = w.WriteString("half")
	must(t, err)
	f.nextProblem("a.cue: configuration is busy: it is open for writing")
	_, err = w.WriteString(" and half")
	must(t, err)
	must(t, w.Close())
	f.nextSaying("a.cue", "half and half")
}
