package output

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What stands where the live file should be is moved aside, untouched, and the
// output goes on, both for a new sink and for one in the middle of its work.
func TestForeignThingsAreMovedAside(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	must(t, os.WriteFile(victim, []byte("precious"), 0o644))
	for name, plant := range map[string]func(path string) error{
		"symlink":  func(path string) error { return os.Symlink(victim, path) },
		"dangling": func(path string) error { return os.Symlink(victim+"2", path) },
		"fifo":     func(path string) error { return unix.Mkfifo(path, 0o666) },
		"dir":      func(path string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o755) },
		"socket": func(path string) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				defer unix.Close(fd)
				err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, file := range []string{"0.log", "0.idx"} {
				r := newRig(t, Policy{})
				must(t, os.Mkdir(r.file(""), 0o755))
				must(t, plant(r.file(file)))
				r.say("hello\n")
				r.want("hello\n")
				if file == "0.log" {
					r.alarmed("moved aside")
				}
				if _, err := os.Lstat(r.file(file + ".aside.1")); err != nil {
					t.Error(err)
				}
			}
			r := newRig(t, Policy{RotateBytes: 8, Keep: 10})
			r.say("one\n")
			must(t, os.Rename(r.file("0.log"), r.file("moved")))
			must(t, plant(r.file("0.log")))
			r.clock = r.clock.Add(checkEvery)
			r.say("two\n")
			if c := r.read(Query{}); c.Offset != 4 || string(c.Data) != "two\n" {
				t.Errorf("read %d %q", c.Offset, c.Data)
			}
			must(t, plant(r.file(fmt.Sprintf("0.log.%020d", 4)))) // where the next rotation goes
			r.say("threeee\n")
			if c := r.read(Query{}); c.Offset != 4 || string(c.Data) != "two\nthreeee\n" {
				t.Errorf("after a rotation: %d %q", c.Offset, c.Data)
			}
		})
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Errorf("the victim is %q, %v", b, err)
	}
	if _, err := os.Lstat(victim + "2"); err == nil {
		t.Error("a symlink was followed")
	}
}

// A program's directory that is none is refused, and the bytes wait.
func TestForeignDirectoryIsRefused(t *testing.T) {
	outside := t.TempDir()
	for name, plant := range map[string]func(path string) error{
		"symlink": func(path string) error { return os.Symlink(outside, path) },
		"file":    func(path string) error { return os.WriteFile(path, nil, 0o644) },
		"fifo":    func(path string) error { return unix.Mkfifo(path, 0o666) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Policy{})
			must(t, plant(r.file("")))
			r.put("hello\n")
			if n, more, err := r.sink.Drain(r.r, 100); n != 0 || more || err == nil {
				t.Fatalf("drained %d, %v, %v", n, more, err)
			}
			if d := r.sink.Delay(); d < backoffMin {
				t.Errorf("tries again after %v", d)
			}
			must(t, os.Remove(r.file("")))
			r.drain()
			r.want("hello\n")
		})
	}
	if list, _ := os.ReadDir(outside); len(list) != 0 {
		t.Errorf("wrote outside: %v", list)
	}
}

func TestFilesDisturbedUnderUs(t *testing.T) {
	for _, c := range []struct {
		name    string
		disturb func(r *rig) error
		// kept is what can be read afterwards besides what comes then.
		kept, alarm string
	}{
		{"deleted", func(r *rig) error { return os.Remove(r.file("0.log")) }, "", "was deleted"},
		{"moved", func(r *rig) error { return os.Rename(r.file("0.log"), r.file("x")) }, "", "was moved"},
		{"emptied", func(r *rig) error { return os.Truncate(r.file("0.log"), 0) }, "", "was emptied"},
		{"shortened", func(r *rig) error { return os.Truncate(r.file("0.log"), 4) }, "one\n", "was changed"},
		{"written to", func(r *rig) error {
			return os.WriteFile(r.file("0.log"), []byte("one\ntwo\nevil\n"), 0o640)
		}, "one\ntwo\n", "was changed"},
		{"linked", func(r *rig) error {
			return errors.Join(os.Link(r.file("0.log"), r.file("x")), os.Truncate(r.file("0.log"), 7))
		}, "one\ntwo", "was changed"},
		{"replaced", func(r *rig) error {
			return errors.Join(os.Rename(r.file("0.log"), r.file("x")), os.WriteFile(r.file("0.log"), []byte("evil"), 0o640))
		}, "", "was replaced"},
		{"replaced by an empty one", func(r *rig) error {
			return errors.Join(os.Rename(r.file("0.log"), r.file("x")), os.WriteFile(r.file("0.log"), nil, 0o640))
		}, "", "was replaced"},
		{"directory deleted", func(r *rig) error { return os.RemoveAll(r.file("")) }, "", "was deleted"},
		{"everything deleted", func(r *rig) error { return os.RemoveAll(r.dir.path) }, "", "was deleted"},
		{"index torn", func(r *rig) error { return os.Truncate(r.file("0.idx"), recordSize+7) }, "one\ntwo\n", ""},
		{"index overwritten", func(r *rig) error {
			return os.WriteFile(r.file("0.idx"), []byte(strings.Repeat("garbage", 100)), 0o640)
		}, "one\ntwo\n", ""},
	} {
		for _, how := range []string{"open", "idle"} {
			t.Run(c.name+" while "+how, func(t *testing.T) {
				r := newRig(t, Policy{})
				r.say("one\ntwo\n")
				if how == "idle" {
					r.sink.Idle()
				}
				must(t, c.disturb(r))
				r.clock = r.clock.Add(checkEvery)
				r.say("three\n")
				r.say("four\n")
				if got := r.all(); got != c.kept+"three\nfour\n" {
					t.Errorf("read %q", got)
				}
				if got := r.read(Query{TailLines: 2}); got.Offset != 8 || got.End != 19 {
					t.Errorf("the new lines are %d to %d", got.Offset, got.End)
				}
				if c.alarm != "" && how == "open" {
					r.alarmed(c.alarm)
				}
				r.restart(Policy{})
				r.say("five\n")
				if got := r.read(Query{TailLines: 1}); got.Offset != 19 {
					t.Errorf("after a restart, the new line is number %d", got.Offset)
				}
			})
		}
	}
}

func TestTruncatedWhileDown(t *testing.T) {
	r := newRig(t, Policy{})
	r.say("one\ntwo\n")
	r.sink.EndRun()
	r.clock = r.clock.Add(indexEvery)
	r.say("three\n") // the index says: 8 bytes at least
	r.dir.Close()
	must(t, os.Truncate(r.file("0.log"), 4))
	r.restart(Policy{})
	r.say("four\n")
	if c := r.read(Query{TailLines: 1}); c.Offset < 8 || string(c.Data) != "four\n" {
		t.Errorf("the new line is %d %q", c.Offset, c.Data)
	}
	if got := r.all(); got != "one\nfour\n" {
		t.Errorf("read %q", got)
	}
}

// A rotation that cannot be done must not stop the output.
func TestRotationThatFailsIsPutOff(t *testing.T) {
	r := newRig(t, Policy{RotateBytes: 10, Keep: 10})
	r.say("012345678\n")
	for i := 1; i <= asideMax; i++ { // no name is left to move the obstacle to
		must(t, os.WriteFile(r.file(fmt.Sprintf("0.log.%020d.aside.%d", 0, i)), nil, 0o640))
	}
	must(t, os.WriteFile(r.file(fmt.Sprintf("0.log.%020d", 0)), []byte("x"), 0o640))
	r.say("next\n")
	r.alarmed("cannot be put aside")
	if got := r.content("0.log"); got != "012345678\nnext\n" {
		t.Errorf("the live file is %q", got)
	}
	must(t, os.Remove(r.file(fmt.Sprintf("0.log.%020d", 0))))
	r.clock = r.clock.Add(rotateRetry)
	r.say("later\n")
	if got := r.content("0.log"); got != "later\n" {
		t.Errorf("the live file is %q", got)
	}
	r.want("012345678\nnext\nlater\n")
}

// full is a rig on a file system of 4 MiB.
func full(t *testing.T, p Policy) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,nr_inodes=50"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return newRigIn(t, filepath.Join(dir, "log"), p)
}

// untilFull writes numbered lines until the sink cannot take more, and says
// how many lines were written to the pipe.
func untilFull(t *testing.T, r *rig, line int) int {
	t.Helper()
	for {
		if _, err := unix.Write(r.w, fmt.Appendf(nil, "%09d\n", line)); err == nil {
			line++
			continue
		}
		if _, _, err := r.sink.Drain(r.r, Turn); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			return line
		}
	}
}

func TestFullDiskBlocksAndLosesNothing(t *testing.T) {
	for _, p := range []Policy{{}, {RotateBytes: 100_000, Keep: 1000}} {
		t.Run(fmt.Sprint("rotate ", p.RotateBytes), func(t *testing.T) {
			r := full(t, p)
			ballast := filepath.Join(r.dir.path, "ballast")
			must(t, os.WriteFile(ballast, make([]byte, 3600<<10), 0o640))
			lines := untilFull(t, r, 0)
			before := r.in()
			if n, more, err := r.sink.Drain(r.r, Turn); n != 0 || more || err == nil || r.in() != before {
				t.Errorf("a full disk took %d, %v, %v", n, more, err)
			}
			if r.sink.Delay() < backoffMin {
				t.Errorf("tries again after %v", r.sink.Delay())
			}
			must(t, os.Remove(ballast))
			r.drain()
			want := strings.Builder{}
			for i := range lines {
				fmt.Fprintf(&want, "%09d\n", i)
			}
			r.want(want.String())
		})
	}
}

func TestFullDiskDropsAndCounts(t *testing.T) {
	r := full(t, Policy{Drop: true})
	ballast := filepath.Join(r.dir.path, "ballast")
	must(t, os.WriteFile(ballast, make([]byte, 3900<<10), 0o640))
	lines := untilFull(t, r, 0)
	for more := true; more; {
		_, more, _ = r.sink.Drain(r.r, Turn)
	}
	if r.in() != 0 || r.sink.Delay() > batch {
		t.Errorf("%d bytes wait in the pipe, for %v", r.in(), r.sink.Delay())
	}
	for i := range 10_000 { // the program does not wait
		r.clock = r.clock.Add(time.Millisecond)
		if _, err := unix.Write(r.w, fmt.Appendf(nil, "%09d\n", lines+i)); err != nil {
			t.Fatal(err)
		}
		if n, _, err := r.sink.Drain(r.r, Turn); n != 10 || !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("dropped %d, %v", n, err)
		}
	}
	must(t, os.Remove(ballast))
	r.clock = r.clock.Add(retryEvery)
	if _, _, err := r.sink.Drain(r.r, Turn); err != nil { // also of a program that is silent now
		t.Errorf("%v", err)
	}
	if got := r.content("0.log"); !strings.HasSuffix(got, "---\n") {
		t.Errorf("no mark at the end: %s", short(got))
	}
	r.say("there again\n")
	kept, rest, _ := strings.Cut(r.content("0.log"), "--- ")
	if !strings.HasSuffix(rest, "---\nthere again\n") || strings.Count(rest, "---") != 1 {
		t.Errorf("the file is %s ... %s", short(kept), rest)
	}
	if !strings.Contains(rest, fmt.Sprintf(" %d bytes dropped ", r.sink.Dropped())) {
		t.Errorf("%d were dropped, the mark says %q", r.sink.Dropped(), rest)
	}
	if n := (lines + 10_000) * 10; len(strings.TrimSuffix(kept, "\n")) != n-int(r.sink.Dropped()) && len(kept) != n-int(r.sink.Dropped()) {
		t.Errorf("%d written, %d dropped, %d kept", n, r.sink.Dropped(), len(kept))
	}
	// To a reader the mark is a gap in the numbers.
	all := int64(lines+10_000) * 10
	if c := r.read(Query{TailLines: 1}); string(c.Data) != "there again\n" || c.Offset != all {
		t.Errorf("the line after is number %d, not %d: %q", c.Offset, all, c.Data)
	}
	c := r.read(Query{})
	if c.Next != all-r.sink.Dropped() || int64(len(c.Data)) != c.Next || c.End != all+12 {
		t.Errorf("before the gap are %d bytes up to %d of %d", len(c.Data), c.Next, c.End)
	}
}

// Without inodes the next file cannot be made after the old was put aside.
func TestNoInodesBlocksAndLosesNothing(t *testing.T) {
	r := full(t, Policy{RotateBytes: 1000, Keep: 1000})
	var err error
	var want strings.Builder
	for i := 0; err == nil && i < 1000; i++ {
		line := fmt.Sprintf("%0199d\n", i)
		want.WriteString(line)
		r.put(line)
		_, _, err = r.sink.Drain(r.r, Turn)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("50 inodes gave %v", err)
	}
	r.sink.SetPolicy(Policy{RotateBytes: 1000, Keep: 1000})
	r.put("last\n")
	want.WriteString("last\n")
	must(t, os.Remove(r.file("0.idx"))) // as good as any
	r.clock = r.clock.Add(time.Second)
	r.drain()
	r.want(want.String())
}

func TestTimestampsOnAFullDisk(t *testing.T) {
	r := full(t, Policy{Timestamps: true})
	ballast := filepath.Join(r.dir.path, "ballast")
	must(t, os.WriteFile(ballast, make([]byte, 3900<<10), 0o640))
	lines := untilFull(t, r, 0)
	must(t, os.Remove(ballast))
	r.drain()
	got := strings.Split(strings.TrimSuffix(r.content("0.log"), "\n"), "\n")
	if len(got) != lines {
		t.Fatalf("%d lines are there, %d were written; %q %q", len(got), lines, r.names(), r.alarms)
	}
	for i, line := range got {
		if _, text, _ := strings.Cut(line, " "); text != fmt.Sprintf("%09d", i) {
			t.Fatalf("line %d is %q", i, line)
		}
	}
}

func TestAsideNamesAreNeverRead(t *testing.T) {
	r := newRig(t, Policy{})
	r.say("one\n")
	for _, name := range []string{"0.log.aside.1", "0.log.x", "0.log.0000000000000000000", "0.log.-0000000000000000001", "1.log.00000000000000000000", "0.log.00000000000000000000.aside.1"} {
		must(t, os.WriteFile(r.file(name), []byte("evil"), 0o640))
	}
	r.want("one\n")
	if !slices.Contains(r.names(), "0.log.x") {
		t.Error("a stranger's file was removed")
	}
}
