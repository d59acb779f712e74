package launch

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// request is a process that inherits nothing worth naming.
func request(argv ...string) *Request {
	argv = append(argv, "/bin/cat")[:max(len(argv), 1)]
	return &Request{
		Candidates: []string{argv[0]}, Argv: argv, Env: []string{"PATH=/usr/bin:/bin"}, Umask: 0o022,
		Stdin: "null", Mode: spec.OutputMode{Kind: "merged"},
	}
}

// as makes the request one of another user; only root can.
func as(t *testing.T, r *Request, uid, gid uint32, groups ...uint32) *Request {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can start a process as another user")
	}
	r.Identity = spec.Identity{UID: uid, GID: gid, Groups: groups, Switch: true}
	return r
}

// wait reaps p and returns its status.
func (p Process) wait(t *testing.T) syscall.WaitStatus {
	t.Helper()
	defer unix.Close(p.PidFD)
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(p.PID, &status, 0, nil)
		if err == nil {
			return status
		}
		if !errors.Is(err, syscall.EINTR) {
			t.Fatalf("cannot wait for %d: %v", p.PID, err)
		}
	}
}

// start starts r and sees to it that it is gone at the end of the test.
func start(t *testing.T, r *Request, io Stdio, cgroup int) Process {
	t.Helper()
	p, err := Start(r, io, cgroup)
	if err != nil {
		t.Fatalf("cannot start %q: %v", r.Argv, err)
	}
	t.Cleanup(func() {
		if unix.PidfdSendSignal(p.PidFD, unix.SIGKILL, nil, 0) == nil {
			p.wait(t)
		}
	})
	return p
}

// output starts r, returns what it wrote and how it ended.
func output(t *testing.T, r *Request) (string, syscall.WaitStatus) {
	t.Helper()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	p, err := Start(r, Stdio{In: -1, Out: int(out.Fd()), Err: -1}, -1)
	out.Close()
	if err != nil {
		t.Fatalf("cannot start %q: %v", r.Argv, err)
	}
	text, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), p.wait(t)
}

func TestStartRunsAndTellsTheExitCode(t *testing.T) {
	r := request("/bin/sh", "-c", "echo out; echo err >&2; exit 42")
	text, status := output(t, r)
	if text != "out\nerr\n" || status.ExitStatus() != 42 {
		t.Errorf("wrote %q and ended with %v", text, status)
	}
}

func TestStepErrorsAreExact(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	script := filepath.Join(dir, "script")
	link := filepath.Join(dir, "link")
	for path, text := range map[string]string{plain: "x", script: "#!/no/such/interpreter -x\n"} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(plain, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(plain, link); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		build func(r *Request)
		want  string
	}{
		{"missing", func(r *Request) { r.Candidates = []string{"/no/such/file"} }, "executing /no/such/file: no such file or directory"},
		{"in PATH", func(r *Request) { r.Candidates = []string{"/bin/nosuch", "/usr/bin/nosuch"} }, "finding nosuch in PATH: no such file or directory"},
		{"directory", func(r *Request) { r.Candidates = []string{"/usr"} }, "executing /usr: permission denied"},
		{"not executable", func(r *Request) { r.Candidates = []string{plain} }, "executing " + plain + ": permission denied"},
		{"interpreter", func(r *Request) { r.Candidates = []string{script} }, "executing " + script + ", whose interpreter is /no/such/interpreter: no such file or directory"},
		{"dir", func(r *Request) { r.Dir = "/no/such/dir" }, "changing to directory /no/such/dir: no such file or directory"},
		{"stdin", func(r *Request) { r.Stdin = "/no/such/stdin" }, "opening stdin /no/such/stdin: no such file or directory"},
		{"output link", func(r *Request) { r.Mode = spec.OutputMode{Kind: "file", File: link} }, "opening output file " + link + ": too many levels of symbolic links (a symbolic link is in the way)"},
		{"output dir", func(r *Request) { r.Mode = spec.OutputMode{Kind: "file", File: "/no/such/out"} }, "opening output file /no/such/out: no such file or directory"},
		{"cpus", func(r *Request) { r.Tuning.CPUs = "0,8000" }, "setting cpus to 0,8000: invalid argument (not all of them are here, or allowed to us)"},
		{"sched", func(r *Request) { r.Tuning.Sched = &spec.Sched{Policy: "fifo"} }, "setting sched to fifo 0: invalid argument"},
		{"ionice", func(r *Request) { r.Tuning.IONice = &spec.IONice{Class: "none", Level: 3} }, "setting ionice to none 3: invalid argument"},
		{"soft above hard", func(r *Request) { r.Tuning.Limits = map[string]spec.Limit{"core": {Soft: 2, Hard: 1}} }, "setting core limit to 2:1: invalid argument"},
		{"limit", func(r *Request) { r.Tuning.Limits = map[string]spec.Limit{"colour": {}} }, "setting colour limit: invalid argument"},
		{"capability", func(r *Request) { r.Capabilities = &spec.Capabilities{Ambient: []string{"fly"}} }, "looking up capability fly: invalid argument"},
		{"NUL", func(r *Request) { r.Env = []string{"A=\x00"} }, `passing "A=\x00", which has a NUL byte in it: invalid argument`},
		{"too long", func(r *Request) { r.Argv = []string{"x", strings.Repeat("x", 3<<20)} }, "executing /bin/true: argument list too long (the arguments and the environment are too long)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := request("/bin/true")
			tt.build(r)
			p, err := Start(r, NoStdio, -1)
			if err == nil {
				p.wait(t)
				t.Fatal("it started")
			}
			if err.Error() != tt.want {
				t.Errorf("error is %q, should be %q", err, tt.want)
			}
			var step *StepError
			if !errors.As(err, &step) || step.Errno == 0 || !errors.Is(err, step.Errno) {
				t.Errorf("%v is no StepError with its errno", err)
			}
		})
	}
}
