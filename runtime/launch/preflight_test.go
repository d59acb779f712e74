package launch

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// What Preflight says is what Start says.
func TestPreflight(t *testing.T) {
	dir := public(t)
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good", "#!/bin/sh\n", 0o755)
	through := file("through", "#! "+good+" -x\n", 0o755)
	broken := file("broken", "#!"+dir+"/none\n", 0o755)
	deep := file("deep", "#!"+broken+"\n", 0o755)
	loop := file("loop", "#!"+dir+"/loop\n", 0o755)
	plain := file("plain", "", 0o644)
	empty := file("empty", "", 0o755)
	text := file("text", "echo hello\n", 0o755)
	bare := file("bare", "#!\n", 0o755)
	tests := []struct {
		name   string
		change func(r *Request)
		want   string
	}{
		{"good", func(*Request) {}, ""},
		{"in PATH", func(r *Request) { r.Candidates = []string{dir + "/true", plain, "/bin/true"} }, ""},
		{"script", func(r *Request) { r.Candidates = []string{good} }, ""},
		{"script of script", func(r *Request) { r.Candidates = []string{through} }, ""},
		{"missing", func(r *Request) { r.Candidates = []string{dir + "/nope"} }, "executing " + dir + "/nope: no such file or directory"},
		{"not in PATH", func(r *Request) { r.Candidates = []string{dir + "/nope", "/bin/nope"} }, "finding nope in PATH: no such file or directory"},
		{"below a file", func(r *Request) { r.Candidates = []string{plain + "/nope"} }, "executing " + plain + "/nope: not a directory"},
		{"directory", func(r *Request) { r.Candidates = []string{dir} }, "executing " + dir + ": permission denied"},
		{"mode", func(r *Request) { r.Candidates = []string{plain} }, "executing " + plain + ": permission denied"},
		{"interpreter", func(r *Request) { r.Candidates = []string{broken} }, "executing " + broken + ", whose interpreter is " + dir + "/none: no such file or directory"},
		{"deep interpreter", func(r *Request) { r.Candidates = []string{deep} }, "executing " + broken + ", whose interpreter is " + dir + "/none: no such file or directory"},
		{"circle", func(r *Request) { r.Candidates = []string{loop} }, "executing " + loop + ": too many levels of symbolic links"},
		{"empty file", func(r *Request) { r.Candidates = []string{empty} }, "executing " + empty + ": exec format error"},
		{"script without #!", func(r *Request) { r.Candidates = []string{text} }, "executing " + text + ": exec format error"},
		{"#! without interpreter", func(r *Request) { r.Candidates = []string{bare} }, "executing " + bare + ": exec format error"},
		{"dir", func(r *Request) { r.Dir = dir + "/nope" }, "changing to directory " + dir + "/nope: no such file or directory"},
		{"dir is a file", func(r *Request) { r.Dir = plain }, "changing to directory " + plain + ": not a directory"},
		{"stdin", func(r *Request) { r.Stdin = dir + "/nope" }, "opening stdin " + dir + "/nope: no such file or directory"},
		{"output", func(r *Request) { r.Mode = spec.OutputMode{Kind: "file", File: dir + "/new"} }, ""},
		{"output dir", func(r *Request) { r.Mode = spec.OutputMode{Kind: "file", File: dir + "/nope/out"} }, "opening output file " + dir + "/nope/out: no such file or directory"},
		{"output is a dir", func(r *Request) { r.Mode = spec.OutputMode{Kind: "file", File: dir} }, "opening output file " + dir + ": is a directory"},
		{"tuning", func(r *Request) { r.Tuning.CPUs = "9999" }, "setting cpus to 9999: invalid argument (not all of them are here, or allowed to us)"},
		{"no command", func(r *Request) { r.Candidates = nil }, `executing "/bin/true": no such file or directory`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := request("/bin/true")
			tt.change(r)
			err := Preflight(r)
			if text := errorText(err); text != tt.want {
				t.Errorf("preflight says %q, should say %q", text, tt.want)
			}
			if tt.name == "deep interpreter" || tt.name == "circle" {
				return // the kernel's own words for those are fewer
			}
			p, err := Start(r, NoStdio, -1)
			if err == nil {
				p.wait(t)
			}
			if text := errorText(err); text != tt.want {
				t.Errorf("start says %q, should say %q", text, tt.want)
			}
			os.Remove(dir + "/new")
		})
	}
	r := request("/bin/true")
	r.Mode = spec.OutputMode{Kind: "file", File: dir + "/new"}
	if err := Preflight(r); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir + "/new"); err == nil {
		t.Error("the preflight made the output file")
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestPreflightAsTheUser(t *testing.T) {
	secret := t.TempDir()
	if err := os.Chmod(secret, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret+"/x", []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(r *Request){
		"executing " + secret + "/x: permission denied":           func(r *Request) { r.Candidates = []string{secret + "/x"} },
		"changing to directory " + secret + ": permission denied": func(r *Request) { r.Dir = secret },
	} {
		r := as(t, request("/bin/true"), 65534, 65534)
		change(r)
		if err := Preflight(r); errorText(err) != want {
			t.Errorf("preflight says %v, should say %s", err, want)
		}
	}
}

// Neither a failed start nor a preflight leaves anything: no zombie, no
// descriptor.
func TestNothingIsLeftBehind(t *testing.T) {
	before := len(fds(t, os.Getpid()))
	for range 50 {
		if err := Preflight(request("/bin/true")); err != nil {
			t.Fatal(err)
		}
		if _, err := Start(request("/no/such/file"), NoStdio, -1); err == nil {
			t.Fatal("it started")
		}
	}
	if after := len(fds(t, os.Getpid())); after != before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
	var info unix.Siginfo
	err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil)
	if !errors.Is(err, unix.ECHILD) && info.Signo != 0 {
		t.Errorf("there is a child to reap: %v, %+v", err, info)
	}
}

func TestInterpreterOfELF(t *testing.T) {
	in := interpreter("/bin/true")
	if _, err := os.Stat(in); err != nil {
		t.Errorf("the loader of /bin/true is %q: %v", in, err)
	}
	head := make([]byte, 64)
	copy(head, "\x7fELF\x02\x01")
	for n := range head[16:] {
		head[16+n] = 0xff
	}
	path := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(path, head, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, "interpreter of garbage", interpreter(path), "")
	expect(t, "interpreter of a directory", interpreter("/"), "")
}
