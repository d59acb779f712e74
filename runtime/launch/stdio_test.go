package launch

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// public is a directory that every user may reach and write.
func public(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "launch")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func run(t *testing.T, r *Request, io Stdio) {
	t.Helper()
	p, err := Start(r, io, -1)
	if err != nil {
		t.Fatalf("cannot start %q: %v", r.Argv, err)
	}
	if status := p.wait(t); status != 0 {
		t.Fatalf("%q ended with %v", r.Argv, status)
	}
}

func contents(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestOutputFileIsTheChilds(t *testing.T) {
	file := filepath.Join(public(t), "out")
	r := request("/bin/sh", "-c", "echo out; echo err >&2")
	r.Mode = spec.OutputMode{Kind: "file", File: file}
	// Few descriptors, while we have many open: the limit must come after the
	// file was opened.
	r.Tuning.Limits = map[string]spec.Limit{"nofile": {Soft: 12, Hard: 12}}
	for range 12 {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	if os.Geteuid() == 0 {
		as(t, r, 65534, 65534)
	}
	run(t, r, NoStdio)
	run(t, r, NoStdio)
	if got := contents(t, file); got != "out\nerr\nout\nerr\n" {
		t.Errorf("the file has %q", got)
	}
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != 0o640 {
		t.Errorf("mode is %v", st.Mode())
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); os.Geteuid() == 0 && (!ok || sys.Uid != 65534) {
		t.Errorf("owner is %d", sys.Uid)
	}
}

func TestOutputFileWithTheChildsRights(t *testing.T) {
	dir := t.TempDir() // root's own
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := as(t, request("/bin/true"), 65534, 65534)
	r.Mode = spec.OutputMode{Kind: "file", File: filepath.Join(public(t), "sub", "out")}
	if err := os.Mkdir(filepath.Dir(r.Mode.File), 0o755); err != nil {
		t.Fatal(err)
	}
	want := "opening output file " + r.Mode.File + ": permission denied"
	if _, err := Start(r, NoStdio, -1); err == nil || err.Error() != want {
		t.Errorf("error is %v, should be %s", err, want)
	}
	if err := Preflight(r); err == nil || err.Error() != want {
		t.Errorf("preflight says %v, should say %s", err, want)
	}
}

func TestModes(t *testing.T) {
	script := "echo out; echo err >&2; readlink /proc/$$/fd/0"
	tests := []struct {
		kind     string
		out, err string // what comes through the pipes
		mode     Stdio  // 1: pipe out, 2: pipe err
	}{
		{"merged", "out\nerr\n/dev/null\n", "", Stdio{In: -1, Out: 1, Err: -1}},
		{"separate", "out\n/dev/null\n", "err\n", Stdio{In: -1, Out: 1, Err: 2}},
		{"null", "", "", NoStdio},
		{"inherit", "out\n/dev/null\n", "err\n", Stdio{In: -1, Out: 1, Err: 2}},
	}
	for _, tt := range tests {
		t.Run(tt.kind, func(t *testing.T) {
			files := [3]*os.File{}
			for n := 1; n <= 2; n++ {
				f, err := os.Create(filepath.Join(t.TempDir(), "f"))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				files[n] = f
			}
			io := tt.mode
			for _, fd := range []*int{&io.Out, &io.Err} {
				if *fd > 0 {
					*fd = int(files[*fd].Fd())
				}
			}
			r := request("/bin/sh", "-c", script)
			r.Mode = spec.OutputMode{Kind: tt.kind}
			run(t, r, io)
			expect(t, "stdout", contents(t, files[1].Name()), tt.out)
			expect(t, "stderr", contents(t, files[2].Name()), tt.err)
		})
	}
}

// With inherit and no descriptors the child writes where we write.
func TestInheritIsOurOwn(t *testing.T) {
	r := request("/bin/sh", "-c", "test $(readlink /proc/$$/fd/1) = $(readlink /proc/$PPID/fd/1) -a $(readlink /proc/$$/fd/2) = $(readlink /proc/$PPID/fd/2)")
	r.Mode = spec.OutputMode{Kind: "inherit"}
	run(t, r, NoStdio)
}

func TestStdinFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(file, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := request("/bin/cat")
	r.Stdin = file
	text, _ := output(t, r)
	expect(t, "output", text, "hello")
}

// Nobody at the other end of a FIFO must not hold the keeper up.
func TestFIFOsDoNotBlock(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	r := request("/bin/cat")
	r.Stdin = fifo
	text, status := output(t, r) // no writer: the end of the file
	expect(t, "output", text, "")
	expect(t, "status", status, syscall.WaitStatus(0))
	r = request("/bin/true")
	r.Mode = spec.OutputMode{Kind: "file", File: fifo}
	want := "opening output file " + fifo + ": no such device or address (nobody reads that FIFO)"
	if _, err := Start(r, NoStdio, -1); err == nil || err.Error() != want {
		t.Errorf("error is %v, should be %s", err, want)
	}
}

// Programs that log to /dev/stdout can, also after the user has changed.
func TestDevStdoutCanBeOpened(t *testing.T) {
	r := as(t, request("/bin/sh", "-c", "echo out >/dev/stdout; echo err >/dev/stderr"), 65534, 65534)
	text, status := output(t, r)
	expect(t, "output", text, "out\nerr\n")
	expect(t, "status", status, syscall.WaitStatus(0))
}

// Whatever of ours is closed, the child's descriptors are its own.
func TestClosedDescriptorsAreNoMixUp(t *testing.T) {
	text, status := output(t, helper(t, "closed"))
	expect(t, "output", text, "in=/dev/null out=pipe err=pipe\n")
	expect(t, "status", status, syscall.WaitStatus(0))
}

// What a child got is nobody else's: when it has ended and its starter closed
// its own end, the pipe ends too. And however many descriptors we hold, a child
// has three.
func TestNothingLentIsKept(t *testing.T) {
	for range 200 { // so that the pipe lies above the window
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := Start(request("/bin/sh", "-c", "ls /proc/self/fd | wc -l"), Stdio{In: -1, Out: int(w.Fd()), Err: -1}, -1)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)                                // ends only when nobody holds the other end
	if err != nil || strings.TrimSpace(string(out)) != "4" { // 0, 1, 2 and the directory itself
		t.Errorf("expected 4 descriptors, found %q, %v", out, err)
	}
	p.wait(t)
}
