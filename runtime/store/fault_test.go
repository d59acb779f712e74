package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

const filledRuns = 500

// filled is a closed or killed store with something of everything in it.
func filled(t testing.TB, b *bench, kill bool) {
	t.Helper()
	s, _ := b.open()
	if err := s.SetOverrides([]spec.Override{{Program: "web", Field: "instances", Value: []byte("5")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddGeneration(generation(1)); err != nil {
		t.Fatal(err)
	}
	for n := range filledRuns {
		i, ev := crashed(living(fmt.Sprint("p", n%7), n%3, reconcile.RunID(n+1)), 1)
		batch := changed(i)
		batch.Events = []reconcile.Event{ev}
		s.Record(batch, []Draft{draft(fmt.Sprint("state.", n%50))})
	}
	s.Record(changed(living("web", 0, 3000)), nil)
	settled(t, s)
	if kill {
		abandon(s)
	} else {
		s.Close()
	}
}

// use touches everything; whatever the file is, this must come back.
func use(t testing.TB, s *Store) {
	t.Helper()
	for since := uint64(0); ; {
		events, err := s.Events(since, 500)
		if err != nil || len(events) == 0 {
			break
		}
		since = events[len(events)-1].Seq
	}
	for n := range 7 {
		_, _ = s.Runs(RunQuery{Program: fmt.Sprint("p", n)})
	}
	for _, g := range s.Generations() {
		_, _ = s.Generation(g.Number)
	}
	i, ev := crashed(living("p1", 0, 5000), 1)
	batch := changed(i)
	batch.Events = []reconcile.Event{ev}
	e := s.Record(batch, []Draft{draft("state.1")})[0]
	settled(t, s)
	if got, err := s.Events(e.Seq-1, 1); err != nil || len(got) != 1 || got[0].Seq != e.Seq {
		t.Fatalf("an event after the fault is not there: %+v, %v", got, err)
	}
	if err := s.SetOverrides(nil); err != nil {
		t.Fatalf("SetOverrides after the fault: %v", err)
	}
}

var damages = map[string]func(t *testing.T, path string, n int){
	"truncated": func(t *testing.T, path string, n int) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, info.Size()*int64(n)/8); err != nil {
			t.Fatal(err)
		}
	},
	"flipped": func(t *testing.T, path string, n int) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for k := range 40 {
			flip(t, path, (int64(n)*7919+int64(k)*104729)%info.Size())
		}
	},
	"zeroed": func(t *testing.T, path string, n int) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(make([]byte, 4096), int64(n)*4096); err != nil {
			t.Fatal(err)
		}
	},
	"other bytes": func(t *testing.T, path string, n int) {
		if err := os.WriteFile(path, []byte(strings.Repeat("no database ", n*1000)), 0o600); err != nil {
			t.Fatal(err)
		}
	},
}

// Whatever stands in the files: Open and everything after it works, and the
// world, which the journal has, is whole.
func TestABrokenDatabaseNeverStopsUs(t *testing.T) {
	template := newBench(t)
	filled(t, template, true)
	for name, damage := range damages {
		for _, file := range []string{"procnanny.db", "history.db"} {
			t.Run(name+" "+file, func(t *testing.T) {
				t.Parallel()
				named := 0
				for n := range 5 {
					b := newBench(t)
					if err := os.CopyFS(b.c.StateDir, os.DirFS(template.c.StateDir)); err != nil {
						t.Fatal(err)
					}
					damage(t, filepath.Join(b.c.StateDir, file), n)
					s, rec := b.open()
					if len(rec.World.Programs) != 8 || rec.World.Programs["web"].Instances[0].Run != 3000 || rec.Rebooted {
						t.Errorf("%d: the world is not what it was: %d programs", n, len(rec.World.Programs))
					}
					if s.m.seq < filledRuns {
						t.Errorf("%d: the numbers went back to %d", n, s.m.seq)
					}
					use(t, s)
					s.Close()
					if len(rec.Loss)+len(b.told()) > 0 {
						named++
					}
					broken, _ := filepath.Glob(filepath.Join(b.c.StateDir, "*.broken-*"))
					if len(broken) > 0 && len(rec.Loss)+len(b.told()) == 0 {
						t.Errorf("%d: %v was put aside and nobody was told", n, broken)
					}
				}
				if named == 0 {
					t.Error("no damage was noticed: the test proves nothing")
				}
			})
		}
	}
}

func TestBothGoneTheNumbersStillGoUp(t *testing.T) {
	b := newBench(t)
	filled(t, b, true)
	removeAll(t, filepath.Join(b.c.StateDir, "history.db"))
	removeAll(t, b.c.RunDir)
	s, rec := b.open()
	if e := s.Record(reconcile.Batch{}, []Draft{draft("a")})[0]; e.Seq <= filledRuns || rec.World.NextRun <= 3000 || len(rec.Loss) == 0 {
		t.Errorf("next event %d, next run %d, loss %q", e.Seq, rec.World.NextRun, rec.Loss)
	}
}

func TestANewerVersionIsRefused(t *testing.T) {
	for _, file := range []string{"procnanny.db", "history.db"} {
		b := newBench(t)
		filled(t, b, false)
		path := filepath.Join(b.c.StateDir, file)
		d, err := open(path, schema{})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.update(func(tx *bbolt.Tx) error { return putUint(tx.Bucket(bucketMeta), keyFormat, format+1) }); err != nil {
			t.Fatal(err)
		}
		d.close()
		before, _ := os.ReadFile(path)
		_, _, err = Open(b.c)
		if err == nil || !strings.Contains(err.Error(), "newer procnanny") || !strings.Contains(err.Error(), path) {
			t.Errorf("Open: %v", err)
		}
		after, _ := os.ReadFile(path)
		if string(before) != string(after) {
			t.Errorf("%s was changed", file)
		}
	}
}

func TestDeletedOrReplacedWhileRunning(t *testing.T) {
	b := newBench(t)
	filled(t, b, true)
	s, _ := b.open()
	dir := b.c.StateDir
	for _, file := range []string{"procnanny.db", "history.db"} {
		removeAll(t, filepath.Join(dir, file))
	}
	e := s.Record(reconcile.Batch{}, []Draft{draft("a")})[0]
	if _, err := s.AddGeneration(generation(2)); err != nil {
		t.Fatal(err)
	}
	settled(t, s)
	eventually(t, "the loss is told", func() bool { return len(b.told()) > 0 })
	if err := os.Rename(filepath.Join(dir, "history.db"), filepath.Join(dir, "x")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "history.db"), []byte("another file"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Record(reconcile.Batch{}, []Draft{draft("a")})
	settled(t, s)
	s.Close()

	s, rec := b.open()
	checkGapless(t, s, e.Seq+1)
	if len(rec.Generations) != 2 || len(rec.Overrides) != 1 || len(rec.Loss) > 0 {
		t.Errorf("found %+v", rec)
	}
	if g, err := s.Generation(1); err != nil || len(g.Spec.Programs) != 1 {
		t.Errorf("generation 1 is %+v, %v", g, err)
	}
}

// Somebody removes the whole state directory: it is made again, with what is
// desired in it.
func TestStateDirectoryIsDeletedWhileRunning(t *testing.T) {
	b := newBench(t)
	filled(t, b, true)
	s, _ := b.open()
	removeAll(t, b.c.StateDir)
	if _, err := s.AddGeneration(generation(2)); err != nil {
		t.Fatal(err)
	}
	s.Record(reconcile.Batch{}, []Draft{draft("a")})
	settled(t, s)
	eventually(t, "the loss is told", func() bool { return len(b.told()) > 0 })
	s.Close()
	info, err := os.Stat(b.c.StateDir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	if _, rec := b.open(); len(rec.Generations) != 2 || len(rec.Overrides) != 1 {
		t.Errorf("found %+v", rec)
	}
}

func TestTruncatedWhileRunning(t *testing.T) {
	b := newBench(t)
	filled(t, b, true)
	s, _ := b.open()
	settled(t, s)
	if err := os.Truncate(filepath.Join(b.c.StateDir, "history.db"), 0); err != nil {
		t.Fatal(err)
	}
	_, _ = s.Events(0, 10)
	use(t, s)
	eventually(t, "the loss is told", func() bool { return len(b.told()) > 0 })
	s.Close()
	if _, rec := b.open(); rec.World.Programs["web"].Instances[0].Run != 3000 {
		t.Errorf("found %+v", rec.World)
	}
}

func TestAFailedFsyncChangesNothing(t *testing.T) {
	b := newBench(t)
	filled(t, b, true)
	s, _ := b.open()
	s.intent.fault = func() error { return syscall.EIO }
	want := s.Overrides()
	if err := s.SetOverrides(nil); !errors.Is(err, syscall.EIO) {
		t.Errorf("SetOverrides: %v", err)
	}
	if _, err := s.AddGeneration(generation(2)); !errors.Is(err, syscall.EIO) {
		t.Errorf("AddGeneration: %v", err)
	}
	if err := s.SetPinned(1); !errors.Is(err, syscall.EIO) {
		t.Errorf("SetPinned: %v", err)
	}
	if err := s.SetCommit(1, "abc"); !errors.Is(err, syscall.EIO) || s.Generations()[0].Commit == "abc" {
		t.Errorf("SetCommit: %v, %+v", err, s.Generations())
	}
	if !same(want, s.Overrides()) || len(s.Generations()) != 1 || s.intent.pinned != 0 {
		t.Errorf("something changed: %+v %+v", s.Overrides(), s.Generations())
	}
	old := s.intent.d
	s.intent.fault = nil
	if err := s.SetPinned(1); err != nil {
		t.Fatal(err)
	}
	if s.intent.d == old {
		t.Error("the file whose fsync failed is trusted")
	}
	s.Close()
	_, rec := b.open()
	if !same(want, rec.Overrides) || len(rec.Generations) != 1 || rec.Pinned != 1 {
		t.Errorf("the next one found %+v", rec)
	}
}

// tmpfs mounts a small file system.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a full disk needs a file system of its own, and mount says: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func fillDisk(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 4096); ; {
		if _, err := f.Write(chunk); err != nil {
			return path
		}
	}
}

func TestAFullDisk(t *testing.T) {
	b := newBench(t)
	b.c.StateDir, b.c.Keep = tmpfs(t, "4m"), Keep{EventBytes: 1 << 30, RunBytes: 1 << 30}
	s, _ := b.open()
	s.Record(changed(living("web", 0, 1)), []Draft{draft("a")})
	if err := s.SetOverrides([]spec.Override{{Program: "web"}}); err != nil {
		t.Fatal(err)
	}
	settled(t, s)
	ballast := fillDisk(t, b.c.StateDir)
	for n := range 6_000 {
		s.Record(changed(living("web", 0, 1)), []Draft{draft(fmt.Sprint("a", n%10))})
	}
	if err := s.SetOverrides(bulky()); !isFull(err) {
		t.Errorf("SetOverrides on a full disk: %v", err)
	}
	if len(s.Overrides()) != 1 {
		t.Error("overrides changed on a full disk")
	}
	checkRead(t, s, 6_001)
	abandon(s) // killed on a full disk: the journal has it all

	s, rec := b.open()
	if rec.World.Programs["web"].Instances[0].Run != 1 {
		t.Errorf("found %+v", rec.World)
	}
	checkRead(t, s, 6_001)
	removeAll(t, ballast)
	s.Record(reconcile.Batch{}, []Draft{draft("a")})
	settled(t, s)
	checkRead(t, s, 6_002)
	if err := s.SetOverrides(nil); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// bulky is more than an almost full disk has left in free pages.
func bulky() []spec.Override {
	return []spec.Override{{Program: "web", Value: []byte(`"` + strings.Repeat("x", 1<<20) + `"`)}}
}

// isFull reports whether the disk, not the file, is the trouble.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

func checkRead(t *testing.T, s *Store, n uint64) {
	t.Helper()
	if s.m.seq != n {
		t.Fatalf("the last number is %d, not %d", s.m.seq, n)
	}
	since := uint64(0)
	for since < n {
		events, err := s.Events(since, 5000)
		if err != nil || len(events) == 0 || events[0].Seq != since+1 {
			t.Fatalf("after %d: %d events, %v", since, len(events), err)
		}
		since = events[len(events)-1].Seq
	}
}

func TestWhatTheDiskDoesNotTakeIsBoundedAndCounted(t *testing.T) {
	b := newBench(t)
	s, _ := b.open()
	settled(t, s)
	s.fault = func() error { return syscall.ENOSPC }
	s.q.most = 1000
	n := 3*s.q.most + 7
	for range n {
		s.Record(reconcile.Batch{}, []Draft{draft("a")})
	}
	s.mu.Lock()
	waiting, dropped := len(s.q.events), s.q.droppedEvents
	s.mu.Unlock()
	if waiting > s.q.most || waiting+int(dropped) != n {
		t.Errorf("%d wait, %d were given up of %d", waiting, dropped, n)
	}
	abandon(s)
	s, rec := b.open()
	if len(rec.Loss) != 1 || !strings.Contains(rec.Loss[0], fmt.Sprint(dropped, " events")) || s.m.seq != uint64(n) {
		t.Errorf("loss %q, last number %d", rec.Loss, s.m.seq)
	}
	if events, err := s.Events(uint64(n-waiting), 10); err != nil || len(events) != 10 || events[0].Seq != uint64(n-waiting)+1 {
		t.Errorf("after %d: %d events, %v", n-waiting, len(events), err)
	}
}

func TestWhatWasGivenUpIsToldOnceTheDiskTakesHistoryAgain(t *testing.T) {
	b := newBench(t)
	s, _ := b.open()
	settled(t, s)
	var full atomic.Bool
	full.Store(true)
	s.fault = func() error {
		if full.Load() {
			return syscall.ENOSPC
		}
		return nil
	}
	s.q.most = 1000
	for range s.q.most + 1 {
		s.Record(reconcile.Batch{}, []Draft{draft("a")})
	}
	full.Store(false)
	eventually(t, "the gap is told", func() bool {
		told := b.told()
		return len(told) == 1 && strings.Contains(told[0], "numbers 1 to ")
	})
}

func TestAReadOnlyStateDirectory(t *testing.T) {
	b := newBench(t)
	b.c.StateDir, b.c.Keep = tmpfs(t, "16m"), Keep{EventBytes: 1 << 30, RunBytes: 1 << 30}
	filled(t, b, true)
	if err := syscall.Mount("", b.c.StateDir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("cannot make a file system read-only: %v", err)
	}
	s, rec := b.open()
	if len(rec.Overrides) != 1 || len(rec.Generations) != 1 || len(rec.World.Programs) != 8 || len(rec.Loss) == 0 {
		t.Errorf("found %d programs, %+v, loss %q", len(rec.World.Programs), rec.Overrides, rec.Loss)
	}
	e := s.Record(reconcile.Batch{}, []Draft{draft("a")})[0]
	if got, err := s.Events(e.Seq-2, 5); err != nil || len(got) != 2 {
		t.Errorf("Events: %d, %v", len(got), err)
	}
	if err := s.SetOverrides(nil); !errors.Is(err, syscall.EROFS) || len(s.Overrides()) != 1 {
		t.Errorf("SetOverrides: %v", err)
	}
	if err := syscall.Mount("", b.c.StateDir, "", syscall.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	settled(t, s)
	abandon(s)
	s, _ = b.open()
	checkRead(t, s, e.Seq)
}

func TestAFullRunDirectory(t *testing.T) {
	b := newBench(t)
	b.c.RunDir = tmpfs(t, "2m")
	s, _ := b.open()
	s.Record(changed(living("web", 0, 1)), []Draft{draft("a")})
	ballast := fillDisk(t, b.c.RunDir)
	for range 200 {
		s.Record(changed(living("web", 0, 1)), []Draft{draft("a")})
	}
	eventually(t, "it is told", func() bool { return len(b.told()) > 0 })
	removeAll(t, ballast)
	eventually(t, "the journal is written again", func() bool {
		s.Record(changed(living("web", 0, 7)), []Draft{draft("a")})
		time.Sleep(20 * time.Millisecond)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.j.broken == nil
	})
	n := s.m.seq
	abandon(s)
	s, rec := b.open()
	if rec.World.Programs["web"].Instances[0].Run != 7 || s.m.seq != n {
		t.Errorf("found %+v, last number %d of %d", rec.World.Programs["web"], s.m.seq, n)
	}
	checkRead(t, s, n)
}

func TestOpensBesideAFullRunDirectory(t *testing.T) {
	b := newBench(t)
	b.c.RunDir = tmpfs(t, "2m")
	s, _ := b.open()
	s.Record(changed(living("web", 0, 1)), []Draft{draft("a")})
	settled(t, s)
	ballast := fillDisk(t, b.c.RunDir)
	for s.j.broken == nil { // until the journal is no longer what is
		s.Record(reconcile.Batch{}, []Draft{draft("a")})
	}
	s.Record(changed(living("web", 0, 7)), []Draft{draft("a")})
	settled(t, s)
	if s.Behind() {
		t.Error("behind, although the database has everything")
	}
	n := s.Seq()
	abandon(s)
	s, rec := b.open()
	if at := rec.World.Programs["web"]; at == nil || at.Instances[0].Run != 7 || rec.World.NextRun < 8 {
		t.Errorf("found %+v, next run %d: the database has run 7", at, rec.World.NextRun)
	}
	if !slices.ContainsFunc(rec.Loss, func(l string) bool { return strings.Contains(l, "remembered in memory only") }) {
		t.Errorf("loss %q", rec.Loss)
	}
	e := s.Record(changed(living("web", 0, 9)), []Draft{draft("a")})[0]
	if e.Seq <= n {
		t.Errorf("number %d comes after %d", e.Seq, n)
	}
	settled(t, s)
	removeAll(t, ballast)
	eventually(t, "the journal is written again", func() bool {
		s.Record(changed(living("web", 0, 11)), []Draft{draft("a")})
		time.Sleep(20 * time.Millisecond)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.j.broken == nil
	})
	n = s.Seq()
	abandon(s)
	s, rec = b.open()
	if rec.World.Programs["web"].Instances[0].Run != 11 || s.Seq() != n {
		t.Errorf("found %+v, last number %d of %d", rec.World.Programs["web"], s.Seq(), n)
	}
}

// No number and no run's id comes again when neither disk took what gave it out.
func TestNumbersOfAFullRunDirectoryDoNotComeAgain(t *testing.T) {
	b := newBench(t)
	b.c.RunDir = tmpfs(t, "2m")
	s, _ := b.open()
	s.Record(changed(living("web", 0, 1)), []Draft{draft("a")})
	settled(t, s)
	s.fault = func() error { return syscall.ENOSPC }
	ballast := fillDisk(t, b.c.RunDir)
	for s.j.broken == nil {
		s.Record(reconcile.Batch{}, []Draft{draft("a")})
	}
	given := s.Record(changed(living("web", 0, 9)), []Draft{draft("a")})[0].Seq
	if !s.Behind() {
		t.Error("not behind, although only memory has run 9")
	}
	abandon(s)
	removeAll(t, ballast)
	s, rec := b.open()
	if next := s.Record(reconcile.Batch{}, []Draft{draft("a")})[0].Seq; next <= given || rec.World.NextRun <= 9 {
		t.Errorf("number %d after %d, run %d after 9", next, given, rec.World.NextRun)
	}
}

func TestASecondStoreIsRefused(t *testing.T) {
	b := newBench(t)
	b.open()
	old := options.Timeout
	options.Timeout = 20 * time.Millisecond
	defer func() { options.Timeout = old }()
	if _, _, err := Open(b.c); err == nil || !strings.Contains(err.Error(), "another process holds it") {
		t.Errorf("Open: %v", err)
	}
}
