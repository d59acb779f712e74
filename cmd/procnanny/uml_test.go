package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/daemontest"
)

// These tests boot another kernel, Linux 6.1 as a process (User-Mode Linux,
// Debian's package user-mode-linux): with cgroup v2 and all its controllers,
// every capability, a clock to set and a power supply to cut. It reads the
// host's files and writes to memory, or to a disk that is a file of the host.
// Its init is this test binary: see guest.

// machineVar has these tests done. It may say more, with semicolons between: how
// many power cuts (cuts=300), only some tests of TestGuest (guest=memory), more of
// them (count=all), or the tests of packages in the guest
// (packages=./runtime/keeper ./runtime/launch).
const machineVar = "PROCNANNY_TEST_MACHINE"

const (
	guestMemory = "768M"
	bootTimeout = 11 * time.Minute // for all that a guest does
)

// plan tells a guest what to do; it is in guestDir.
type plan struct {
	// Run are the command and its arguments; %s is guestDir, as the guest sees it.
	Run []string
	Env []string
	// Init makes the command the first process, in the place of ours.
	Init bool
	// Files are made before it runs, outside of guestDir.
	Files map[string]string
	// Count is guestAll where time does not matter.
	Count string
	// In is where it runs, below the root of the source; empty is here.
	In string
}

// machine is a guest that runs.
type machine struct {
	t    *testing.T
	dir  string // the guest sees it as guestDir
	cmd  *exec.Cmd
	done chan struct{}

	mu   sync.Mutex
	said []string
	news chan struct{} // closed at the next line
}

// kernel finds the kernel to boot.
func kernel(t *testing.T) string {
	t.Helper()
	if os.Getenv(machineVar) == "" {
		t.Skip("booting another kernel takes long: make test-uml does it, or " + machineVar + "=on")
	}
	path, err := exec.LookPath("linux.uml")
	if err != nil {
		t.Skip("there is no kernel to boot: install user-mode-linux")
	}
	return path
}

// newGuestDir makes what a guest needs: our commands and this test.
func newGuestDir(t *testing.T) string {
	t.Helper()
	check(t, daemontest.Build())
	dir, err := os.MkdirTemp("/tmp", "pnu") // a short name: sockets are in it
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755))
	self, err := os.Executable()
	check(t, err)
	for _, name := range daemontest.Commands {
		lend(t, daemontest.Bin(name), filepath.Join(dir, name))
	}
	lend(t, self, filepath.Join(dir, "guest"))
	return dir
}

// lend gives a file a second name, or a copy where that cannot be.
func lend(t *testing.T, from, to string) {
	t.Helper()
	if os.Link(from, to) == nil {
		return
	}
	b, err := os.ReadFile(from)
	check(t, err)
	check(t, os.WriteFile(to, b, 0o755))
}

// hardware is what a machine has besides its memory.
type hardware struct {
	disks []string // files, in their order; an empty name is none. On the first is an ext4 file system
	env   []string // of the process that is the machine
}

// loaded builds a library that the kernel is to load; it is part of its
// environment.
func loaded(t *testing.T, dir, name, source string) string {
	t.Helper()
	from, to := filepath.Join(dir, name+".c"), filepath.Join(dir, name+".so")
	check(t, os.WriteFile(from, []byte(source), 0o644))
	if out, err := exec.Command("cc", "-O2", "-shared", "-fPIC", "-o", to, from).CombinedOutput(); err != nil {
		t.Skipf("needs a C compiler: %v\n%s", err, out)
	}
	return "LD_PRELOAD=" + to
}

// boot starts a guest without any disk.
func boot(t *testing.T, dir string, p plan) *machine {
	t.Helper()
	return bootWith(t, dir, p, hardware{})
}

func bootWith(t *testing.T, dir string, p plan, h hardware) *machine {
	t.Helper()
	b, err := json.Marshal(p)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "plan"), b, 0o644))
	wd, err := os.Getwd()
	check(t, err)
	args := []string{
		"mem=" + guestMemory, "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "init=" + filepath.Join(dir, "guest"),
		"con=null", "con0=null,fd:1", "ssl=null", "quiet", "panic=-1", "uml_dir=" + dir, "umid=uml",
		roleVar + "=guest", guestDirVar + "=" + dir, guestSourceVar + "=" + wd,
	}
	for i, disk := range h.disks {
		if disk != "" {
			args = append(args, fmt.Sprintf("ubd%d=%s", i, disk))
		}
	}
	m := &machine{t: t, dir: dir, cmd: exec.Command(kernel(t), args...), done: make(chan struct{}), news: make(chan struct{})}
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // all of its processes die together
	m.cmd.Env = append(append(os.Environ(), "TMPDIR="+memoryDir(dir)), h.env...)
	out, err := m.cmd.StdoutPipe()
	check(t, err)
	m.cmd.Stderr = m.cmd.Stdout
	check(t, m.cmd.Start())
	go m.listen(out)
	t.Cleanup(m.cut)
	return m
}

// memoryDir is where the guest's memory is a file: in memory, if there is room.
func memoryDir(other string) string {
	var fs unix.Statfs_t
	if unix.Statfs("/dev/shm", &fs) == nil && fs.Type == unix.TMPFS_MAGIC && fs.Bavail*uint64(fs.Bsize) > 2<<30 && fs.Flags&unix.ST_NOEXEC == 0 {
		return "/dev/shm"
	}
	return other
}

func (m *machine) listen(out io.Reader) {
	defer close(m.done)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m.mu.Lock()
		m.said = append(m.said, strings.TrimRight(lines.Text(), "\r"))
		close(m.news)
		m.news = make(chan struct{})
		m.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, out)
	_ = m.cmd.Wait()
}

// cut cuts the power: nothing in the guest gets to do anything more. What it
// had written to its disk is there, what it had not is not.
func (m *machine) cut() {
	if err := unix.Kill(-m.cmd.Process.Pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		m.t.Errorf("cannot end the guest: %v", err)
	}
	<-m.done
}

// lines are what the guest has said so far; more is closed when there is more.
func (m *machine) lines() (said []string, more <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.said), m.news
}

// over waits until the guest has switched itself off.
func (m *machine) over() []string {
	m.t.Helper()
	select {
	case <-m.done:
	case <-time.After(bootTimeout):
		m.cut()
		m.t.Errorf("the guest does not end; it says:\n%s", m.text())
	}
	said, _ := m.lines()
	return said
}

func (m *machine) text() string {
	said, _ := m.lines()
	return strings.Join(said, "\n")
}

// until waits for a line that begins so, and returns its rest.
func (m *machine) until(prefix string) string {
	m.t.Helper()
	deadline := time.After(bootTimeout)
	for {
		said, more := m.lines()
		for _, line := range said {
			if rest, ok := strings.CutPrefix(line, prefix); ok {
				return rest
			}
		}
		select {
		case <-more:
		case <-m.done:
			m.t.Fatalf("the guest ended and did not say %q:\n%s", prefix, m.text())
		case <-deadline:
			m.t.Fatalf("the guest does not say %q:\n%s", prefix, m.text())
		}
	}
}

// results tells of the guest's tests as of our own.
func (m *machine) results(said []string) {
	m.t.Helper()
	text := strings.Join(said, "\n")
	passed := 0
	for _, line := range said {
		switch verdict, name, _ := strings.Cut(strings.TrimSpace(line), ": "); verdict {
		case "--- PASS":
			passed++
		case "--- FAIL":
			m.t.Errorf("in the guest: %s", name)
		}
	}
	if !slices.Contains(said, guestGood) || passed == 0 {
		m.t.Errorf("the guest did not come to a good end")
	}
	if m.t.Failed() || testing.Verbose() {
		m.t.Logf("the guest said:\n%s", text)
	}
}

// tests boots a guest that runs tests of this binary.
func guestTests(t *testing.T, pattern string) {
	t.Helper()
	dir := newGuestDir(t)
	m := bootWith(t, dir, plan{
		Run: []string{"%s/guest", "-test.v", "-test.timeout=10m", "-test.run=" + pattern}, Count: machineWish("count"),
	}, hardware{env: []string{loaded(t, dir, "suspend", suspendSource)}})
	m.results(m.over())
}

// TestOldKernel has TestGuest run under Linux 6.1.
func TestOldKernel(t *testing.T) {
	kernel(t)
	pattern := "^TestGuest$"
	if only := machineWish("guest"); only != "" {
		pattern += "/" + only
	}
	guestTests(t, pattern)
}

// TestPackagesUnderAnOldKernel runs the tests of whole packages there.
func TestPackagesUnderAnOldKernel(t *testing.T) {
	list := machineWish("packages")
	if list == "" {
		t.Skip("it takes long: " + machineVar + "=packages='./runtime/keeper ./runtime/launch'")
	}
	kernel(t)
	for pkg := range strings.SplitSeq(list, " ") {
		t.Run(pkg, func(t *testing.T) {
			dir := newGuestDir(t)
			cmd := exec.Command("go", "test", "-c", "-o", filepath.Join(dir, "tests"), pkg)
			cmd.Dir = "../.."
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("cannot build: %v\n%s", err, out)
			}
			args := []string{"%s/tests", "-test.v", "-test.timeout=10m"}
			if only := machineWish("run"); only != "" {
				args = append(args, "-test.run="+only)
			}
			m := boot(t, dir, plan{Run: args, In: pkg})
			m.results(m.over())
		})
	}
}

// machineWish is the part of machineVar that has this name.
func machineWish(name string) string {
	for part := range strings.SplitSeq(os.Getenv(machineVar), ";") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(part), name+"="); ok {
			return value
		}
	}
	return ""
}
