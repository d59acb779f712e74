package launch

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/oom"
	"github.com/procnanny/procnanny/spec"
)

// helperEnv makes the test binary one of the helpers below.
const helperEnv = "LAUNCH_TEST_HELPER"

var helpers = map[string]func(){
	"protected": helpProtected,
	"threads":   helpThreads,
	"limits":    helpLimits,
	"closed":    helpClosed,
}

func TestMain(m *testing.M) {
	if help := helpers[os.Getenv(helperEnv)]; help != nil {
		help()
		return
	}
	os.Exit(m.Run())
}

// helper is a request for ourselves as a helper.
func helper(t *testing.T, name string) *Request {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := request(exe)
	r.Env = append(r.Env, helperEnv+"="+name)
	return r
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// helpThreads has several threads, says so, and waits for the end of stdin.
func helpThreads() {
	for range 4 {
		go func() {
			var p [2]int
			must(unix.Pipe(p[:]))
			_, err := unix.Read(p[0], make([]byte, 1))
			must(err)
		}()
	}
	for {
		list, err := os.ReadDir("/proc/self/task")
		must(err)
		if len(list) >= 5 {
			break
		}
	}
	fmt.Println("ready")
	_, err := os.Stdin.Read(make([]byte, 1))
	_ = err // the end
}

// helpLimits starts a child without limits of its own.
func helpLimits() {
	r := request("/bin/grep", "Max open files", "/proc/self/limits")
	r.Mode = spec.OutputMode{Kind: "inherit"}
	p, err := Start(r, NoStdio, -1)
	must(err)
	_, err = syscall.Wait4(p.PID, nil, 0, nil)
	must(err)
}

// helpClosed closes its stdin and stdout and starts a child with pipes that lie
// where those were.
func helpClosed() {
	back, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 20)
	must(err)
	unix.Close(0)
	unix.Close(1)
	var p [2]int
	must(unix.Pipe2(p[:], unix.O_CLOEXEC)) // 0 and 1
	r := request("/bin/sh", "-c", `for n in 0 1 2; do readlink /proc/$$/fd/$n | sed 's/:.*//'; done`)
	q, err := Start(r, Stdio{In: -1, Out: p[1], Err: -1}, -1)
	must(err)
	unix.Close(p[1])
	text := make([]byte, 1000)
	n := 0
	for {
		m, err := unix.Read(p[0], text[n:])
		must(err)
		if m == 0 {
			break
		}
		n += m
	}
	_, err = syscall.Wait4(q.PID, nil, 0, nil)
	must(err)
	f := strings.Fields(string(text[:n]))
	fmt.Fprintf(os.NewFile(uintptr(back), "stdout"), "in=%s out=%s err=%s\n", f[0], f[1], f[2])
}

// Go raises the soft limit of open files of every Go program; our children get
// the one we were given.
func TestGivenOpenFilesAreGivenOn(t *testing.T) {
	r := helper(t, "limits")
	r.Tuning.Limits = map[string]spec.Limit{"nofile": {Soft: 100, Hard: 200}}
	text, _ := output(t, r)
	expect(t, "limit", strings.Join(strings.Fields(text), " "), "Max open files 100 200 files")
}

// The tests pass as an ordinary user too; root lends one to them.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("we are one")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := public(t)
	if out, err := exec.Command("cp", exe, dir+"/tests").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r := as(t, request(dir+"/tests", "-test.short"), 65534, 65534)
	r.Env, r.Dir = []string{"PATH=/usr/bin:/bin", "TMPDIR=" + dir}, dir
	text, status := output(t, r)
	if status != 0 {
		t.Errorf("as uid 65534:\n%s", text)
	}
}

// helpProtected is a process with a score of its own, and says what its children have.
func helpProtected() {
	score := 800
	must(oom.Protect(&score))
	for _, own := range []*int{nil, new(500), new(800)} {
		r := request("/bin/cat", "/proc/self/oom_score_adj")
		r.Mode, r.Tuning.OOMScoreAdj = spec.OutputMode{Kind: "inherit"}, own
		must(Preflight(r))
		p, err := Start(r, NoStdio, -1)
		must(err)
		_, err = syscall.Wait4(p.PID, nil, 0, nil)
		must(err)
	}
	back, err := Retune(spec.Tuning{OOMScoreAdj: new(5)}, spec.Tuning{})
	must(err)
	fmt.Println(*back.OOMScoreAdj)
}

// Who is started has the score that its spec says, or that we were born with;
// the same when the key is taken out of the file.
func TestOurProtectionIsOurs(t *testing.T) {
	born := strings.TrimSpace(slurp(t, os.Getpid(), "oom_score_adj"))
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), helperEnv+"=protected")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	expect(t, "scores", string(out), born+"\n500\n800\n"+born+"\n")
}
