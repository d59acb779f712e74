package launch

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// dirty makes us a parent that has everything a child must not get: ignored
// and blocked signals, descriptors without CLOEXEC, an odd umask.
func dirty(t *testing.T) {
	t.Helper()
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGUSR1)
	ignored = askIgnored // what is asked once may have been asked before
	runtime.LockOSThread()
	var block, before unix.Sigset_t
	block.Val[0] = 1<<(unix.SIGTERM-1) | 1<<(unix.SIGUSR2-1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &block, &before); err != nil {
		t.Fatal(err)
	}
	umask := syscall.Umask(0o077)
	var fds []int
	for range 3 {
		fd, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	if err := unix.Dup2(fds[0], 251); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, fd := range append(fds, 251) {
			unix.Close(fd)
		}
		syscall.Umask(umask)
		if err := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
		signal.Reset(syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGUSR1)
	})
}

// sleeper starts r as a cat that waits for the end of its stdin, so that the
// test can look at it from outside.
func sleeper(t *testing.T, r *Request, cgroup int) Process {
	t.Helper()
	var in, out [2]int
	for _, p := range []*[2]int{&in, &out} {
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	}
	r.Candidates, r.Argv = []string{"/bin/cat"}, []string{"cat"}
	p := start(t, r, Stdio{In: in[0], Out: out[1], Err: -1}, cgroup)
	// Start returns when exec can no longer fail; the kernel may still be at it.
	b := []byte("x")
	if _, err := unix.Write(in[1], b); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Read(out[0], b); err != nil {
		t.Fatal(err)
	}
	return p
}

func slurp(t *testing.T, pid int, file string) string {
	t.Helper()
	raw, err := os.ReadFile(procPath(pid, file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

// statusOf is /proc/PID/status, white space made one.
func statusOf(t *testing.T, pid int) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(slurp(t, pid, "status")) {
		key, value, _ := strings.Cut(line, ":")
		out[key] = strings.Join(strings.Fields(value), " ")
	}
	return out
}

// statField is field n (from 3) of /proc/PID/stat.
func statField(t *testing.T, pid, n int) string {
	t.Helper()
	text := slurp(t, pid, "stat")
	return strings.Fields(text[strings.LastIndexByte(text, ')')+1:])[n-3]
}

func expect(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s is %v, should be %v", what, got, want)
	}
}

// lowLimits is every limit, none above what we have.
func lowLimits() map[string]spec.Limit {
	return map[string]spec.Limit{
		"as": {Soft: 1 << 33, Hard: 1 << 34}, "core": {Soft: 0, Hard: 4096}, "cpu": {Soft: 100, Hard: 200}, "data": {Soft: 1 << 32, Hard: 1 << 33},
		"fsize": {Soft: 1 << 20, Hard: 1 << 21}, "locks": {Soft: 10, Hard: 11}, "memlock": {Soft: 4096, Hard: 8192}, "msgqueue": {Soft: 1000, Hard: 2000},
		"nice": {}, "nofile": {Soft: 64, Hard: 128}, "nproc": {Soft: 10000, Hard: 20000}, "rss": {Soft: 1 << 30, Hard: spec.Unlimited},
		"rtprio": {}, "rttime": {Soft: 1000000, Hard: 2000000}, "sigpending": {Soft: 100, Hard: 200}, "stack": {Soft: 1 << 20, Hard: 8 << 20},
	}
}

func everything(t *testing.T) *Request {
	t.Helper()
	r := as(t, request("/bin/cat"), 65534, 65533, 4, 24)
	r.Dir, r.Umask, r.NoNewPrivs = "/usr", 0o027, true
	r.Capabilities = &spec.Capabilities{Ambient: []string{"CAP_NET_BIND_SERVICE"}, Bounding: []string{"net_bind_service", "Chown"}}
	r.Env = []string{"A=1", "B=two words"}
	r.Tuning = spec.Tuning{
		Nice: new(5), IONice: &spec.IONice{Class: "best-effort", Level: 6}, Limits: lowLimits(), CPUs: "0",
		Sched: &spec.Sched{Policy: "batch"}, OOMScoreAdj: new(500),
	}
	return r
}

// The child gets exactly what was asked for, whatever we have ourselves.
func TestMatrix(t *testing.T) {
	for _, legacy := range []bool{false, true} {
		t.Run(fmt.Sprintf("legacy=%v", legacy), func(t *testing.T) {
			forceLegacy = legacy
			t.Cleanup(func() { forceLegacy = false })
			r := everything(t)
			dirty(t)
			dir, fd := testCgroup(t)
			p := sleeper(t, r, fd)
			checkStatus(t, p.PID)
			checkRest(t, p.PID, r)
			if fd >= 0 {
				got, err := CgroupDir(p.PID)
				expect(t, "cgroup", got, dir)
				expect(t, "error", err, nil)
			}
		})
	}
}

func checkStatus(t *testing.T, pid int) {
	t.Helper()
	s := statusOf(t, pid)
	for key, want := range map[string]string{
		"Uid": "65534 65534 65534 65534", "Gid": "65533 65533 65533 65533", "Groups": "4 24", "Umask": "0027",
		"SigBlk": "0000000000000000", "SigIgn": "0000000000000000", "SigCgt": "0000000000000000",
		"CapInh": "0000000000000400", "CapPrm": "0000000000000400", "CapEff": "0000000000000400", "CapBnd": "0000000000000401", "CapAmb": "0000000000000400",
		"NoNewPrivs": "1", "Cpus_allowed_list": "0",
	} {
		expect(t, key, s[key], want)
	}
}

func checkRest(t *testing.T, pid int, r *Request) {
	t.Helper()
	expect(t, "descriptors", fds(t, pid), []string{"0", "1", "2"})
	expect(t, "environment", slurp(t, pid, "environ"), "A=1\x00B=two words\x00")
	expect(t, "session", statField(t, pid, 6), strconv.Itoa(pid))
	expect(t, "process group", statField(t, pid, 5), strconv.Itoa(pid))
	expect(t, "nice", statField(t, pid, 19), "5")
	expect(t, "policy", statField(t, pid, 41), "3")
	expect(t, "oom_score_adj", slurp(t, pid, "oom_score_adj"), "500")
	cwd, err := os.Readlink(procPath(pid, "cwd"))
	expect(t, "cwd", cwd, "/usr")
	expect(t, "error", err, nil)
	ionice, err := ioniceOf(pid)
	expect(t, "ionice", ionice, *r.Tuning.IONice)
	expect(t, "error", err, nil)
	got, err := limitsOf(pid)
	expect(t, "limits", got, r.Tuning.Limits)
	expect(t, "error", err, nil)
	if line := slurp(t, pid, "autogroup"); line != "" && !strings.HasSuffix(line, " nice 5") {
		t.Errorf("autogroup is %q, should have nice 5", line)
	}
}

func fds(t *testing.T, pid int) []string {
	t.Helper()
	list, err := os.ReadDir(procPath(pid, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	slices.Sort(out)
	return out
}

// testCgroup is a cgroup v2 of our own, or -1 where we cannot have one.
func testCgroup(t *testing.T) (string, int) {
	t.Helper()
	mount, err := cgroupMount()
	if err != nil || mount == "" {
		return "", -1
	}
	dir := filepath.Join(mount, fmt.Sprintf("launch-test-%d-%d", os.Getpid(), len(t.Name())))
	if os.Mkdir(dir, 0o755) != nil {
		return "", -1
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fd)
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return dir, fd
}

// What the spec does not set is what we have, without our own dirt.
func TestBareChild(t *testing.T) {
	r := request("/bin/cat")
	dirty(t)
	p := sleeper(t, r, -1)
	s, own := statusOf(t, p.PID), statusOf(t, os.Getpid())
	for _, key := range []string{"SigBlk", "SigIgn", "SigCgt", "CapInh", "CapAmb"} {
		expect(t, key, s[key], "0000000000000000")
	}
	for _, key := range []string{"Uid", "Gid", "Groups", "CapBnd", "NoNewPrivs", "Cpus_allowed_list"} {
		expect(t, key, s[key], own[key])
	}
	expect(t, "Umask", s["Umask"], "0022")
	expect(t, "descriptors", fds(t, p.PID), []string{"0", "1", "2"})
	expect(t, "nice", statField(t, p.PID, 19), statField(t, os.Getpid(), 19))
	cwd, _ := os.Readlink(procPath(p.PID, "cwd"))
	expect(t, "cwd", cwd, "/")
}

// What only root may comes before the user is another.
func TestPrivilegedBeforeTheUser(t *testing.T) {
	r := as(t, request("/bin/cat"), 65534, 65534)
	r.Tuning = spec.Tuning{Nice: new(-5), IONice: &spec.IONice{Class: "realtime", Level: 3}, Sched: &spec.Sched{Policy: "rr", Priority: 7}}
	p := sleeper(t, r, -1)
	got, err := Read(p.PID, "")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "drift", Drift(r.Tuning, got), map[string]string{})
	expect(t, "uid", string(got["uid"]), "65534")
}

// The limit of processes is the user's, and counts once the user is theirs.
func TestTooManyProcesses(t *testing.T) {
	const uid = 64321
	for range 2 { // the kernel counts without the one that becomes the user
		sleeper(t, as(t, request("/bin/cat"), uid, uid), -1)
	}
	r := as(t, request("/bin/true"), uid, uid)
	r.Tuning.Limits = map[string]spec.Limit{"nproc": {Soft: 1, Hard: 1}}
	want := "executing /bin/true: resource temporarily unavailable (its user has all the processes that the nproc limit allows)"
	p, err := Start(r, NoStdio, -1)
	if err == nil {
		p.wait(t)
	}
	expect(t, "error", errorText(err), want)
}
