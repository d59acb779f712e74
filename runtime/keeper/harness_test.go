package keeper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/runtime/launch"
	"github.com/procnanny/procnanny/spec"
)

// A keeper reaps every child of its process, so each test runs it in a process
// of its own: this test binary, executed again. Its controls are connections to
// a socket of the test: to "start control" it dials.
const (
	roleVar   = "KEEPER_TEST_ROLE"
	configVar = "KEEPER_TEST_CONFIG"
)

// testConfig goes to the keeper's process.
type testConfig struct {
	Dir, Socket     string
	Sweep, Leave    bool
	ShutdownTimeout time.Duration
	Notify          string
	Watchdog        time.Duration
	Control         *Control // a real control process instead of Socket
	FullDisk        bool
	SlowDisk        bool
	Self            Exec
	Will            *Will // its descriptors are inherited under their numbers
}

func init() {
	if os.Getenv(roleVar) != "" {
		runtime.LockOSThread() // as in the daemon: main is the first thread
	}
}

func TestMain(m *testing.M) {
	switch os.Getenv(roleVar) {
	case "keeper":
		os.Exit(keeperMain())
	case "control":
		os.Exit(controlMain())
	case "clean":
		os.Exit(cleanMain())
	}
	os.Exit(m.Run())
}

func keeperMain() int {
	var tc testConfig
	if err := json.Unmarshal([]byte(os.Getenv(configVar)), &tc); err != nil {
		panic(err)
	}
	c := Config{
		RunDir: tc.Dir, LogDir: filepath.Join(tc.Dir, "log"), LogGID: -1, Leave: tc.Leave, Sweep: tc.Sweep,
		ShutdownTimeout: tc.ShutdownTimeout, NotifySocket: tc.Notify, Watchdog: tc.Watchdog, Will: tc.Will, Self: tc.Self, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	if tc.Control != nil {
		c.Control = *tc.Control
	}
	code, err := keep(c, func(d *deps) {
		if tc.Control == nil {
			d.control = func() (int, int, int, error) { return dialControl(tc.Socket) }
		}
		if tc.FullDisk {
			real := d.newSink
			d.newSink = func(p string, i int, s string, o Output) sink {
				return &fullSink{sink: real(p, i, s, o), o: o, file: filepath.Join(tc.Dir, "full")}
			}
		}
		if tc.SlowDisk {
			real := d.newSink
			d.newSink = func(p string, i int, s string, o Output) sink {
				return &slowSink{sink: real(p, i, s, o), file: filepath.Join(tc.Dir, fmt.Sprintf("slow.%d", i))}
			}
		}
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "keeper:", err)
	}
	return code
}

func dialControl(path string) (pid, pidfd, sock int, err error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, -1, -1, err
	}
	if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		unix.Close(fd)
	}
	return 0, -1, fd, err
}

// fullSink fails like a full disk while a file exists.
type fullSink struct {
	sink
	o    Output
	file string
}

func (f *fullSink) SetPolicy(o Output) {
	f.o = o
	f.sink.SetPolicy(o)
}

func (f *fullSink) Drain(pipe, limit int) (int, bool, error) {
	if _, err := os.Stat(f.file); err != nil {
		return f.sink.Drain(pipe, limit)
	}
	n := 0
	if f.o.Drop {
		n, _ = unix.Read(pipe, make([]byte, limit))
	}
	return max(n, 0), false, unix.ENOSPC
}

// slowSink waits, as for a disk that does not answer, while a file of its
// instance exists.
type slowSink struct {
	sink
	file string
}

func (f *slowSink) Drain(pipe, limit int) (int, bool, error) {
	for {
		if _, err := os.Stat(f.file); err != nil {
			return f.sink.Drain(pipe, limit)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// rig is a keeper's process and what a control of it sees.
type rig struct {
	t      testing.TB
	c      testConfig
	cmd    *exec.Cmd
	listen *net.UnixListener
	conn   *Conn
	hello  Hello
	facts  []Fact // received, not yet asked for
	run    uint64
	crash  string // crashpoint.Variable of the next keeper
}

func newRig(t testing.TB, c testConfig) *rig {
	t.Helper()
	if p, ok := t.(*testing.T); ok && os.Getenv(insideVar) == "" {
		p.Parallel()
	}
	// Short: a socket's path has 108 bytes.
	base := ""
	if _, bench := t.(*testing.B); bench {
		base = "/dev/shm" // a run directory is a tmpfs
	}
	dir, err := os.MkdirTemp(base, "keeper")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	c.Dir, c.Socket = dir, filepath.Join(dir, "control")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: c.Socket})
	must(t, err)
	r := &rig{t: t, c: c, listen: l}
	t.Cleanup(func() {
		l.Close()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "keeper.log"))
			t.Logf("the keeper said:\n%s", log)
		}
	})
	return r
}

// start starts the keeper; at the end of the test everything is killed.
func (r *rig) start() {
	r.t.Helper()
	b, err := json.Marshal(r.c)
	must(r.t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"=keeper", configVar+"="+string(b),
		"GORACE=atexit_sleep_ms=0") // else the race detector makes each end take a second
	if r.crash != "" {
		cmd.Env = append(cmd.Env, crashpoint.Variable+"="+r.crash)
	}
	log, err := os.OpenFile(filepath.Join(r.c.Dir, "keeper.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(r.t, err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	r.bequeath(cmd)
	must(r.t, cmd.Start())
	r.cmd = cmd
	r.t.Cleanup(func() { r.end(cmd) })
}

// bequeath gives a keeper the descriptors that its will names: os/exec numbers
// them from 3 on.
func (r *rig) bequeath(cmd *exec.Cmd) {
	if r.c.Will == nil {
		return
	}
	w := *r.c.Will
	w.Runs = slices.Clone(w.Runs)
	w.descriptors(func(fd *int) {
		dup, err := unix.FcntlInt(uintptr(*fd), unix.F_DUPFD_CLOEXEC, 0)
		must(r.t, err)
		*fd = 3 + len(cmd.ExtraFiles)
		f := os.NewFile(uintptr(dup), "legacy")
		r.t.Cleanup(func() { f.Close() })
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	})
	c := r.c
	c.Will = &w
	b, err := json.Marshal(c)
	must(r.t, err)
	cmd.Env = append(cmd.Env, configVar+"="+string(b))
}

// cleanMain fails if it still has a blocked signal after CleanSignals.
func cleanMain() int {
	if err := CleanSignals(); err != nil {
		return 1
	}
	var old unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &old); err != nil || old != (unix.Sigset_t{}) {
		return 2
	}
	return 0
}

// end lets the keeper kill what lives, and failing that does it.
func (r *rig) end(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if r.conn != nil {
			_ = r.conn.Send([]Order{{Kind: OrderShutdown}}) // somebody lives: the keeper stops everything itself
		}
		r.listen.Close()
		late := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		late.Stop()
	}
	killByNotes(r.c.Dir)
	if own, err := ownCgroup(); err == nil {
		removeCgroup(filepath.Join(own, baseName(r.c.Dir)), 0)
	}
}

// killByNotes kills what a keeper that was killed left.
func killByNotes(dir string) {
	files, _ := filepath.Glob(filepath.Join(dir, "keeper", "*"))
	for _, f := range files {
		var v note
		if b, err := os.ReadFile(f); err == nil && json.Unmarshal(b, &v) == nil {
			if fd, ok := v.open(); ok {
				_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, unix.PIDFD_SIGNAL_PROCESS_GROUP)
				unix.Close(fd)
			}
		}
	}
}

// connect is the next control: it waits for the keeper to start it.
func (r *rig) connect() {
	r.t.Helper()
	must(r.t, r.listen.SetDeadline(time.Now().Add(10*time.Second)))
	c, err := r.listen.AcceptUnix()
	must(r.t, err)
	f, err := c.File()
	must(r.t, err)
	c.Close()
	defer f.Close()
	r.conn, r.hello, err = Connect(f)
	must(r.t, err)
	r.facts = nil
}

func startRig(t testing.TB, c testConfig) *rig {
	t.Helper()
	r := newRig(t, c)
	r.start()
	r.connect()
	return r
}

func (r *rig) send(orders ...Order) {
	r.t.Helper()
	must(r.t, r.conn.Send(orders))
}

// next is the next fact that fits; others are kept for later.
func (r *rig) next(kind FactKind, run uint64) Fact {
	r.t.Helper()
	late := time.AfterFunc(10*time.Second, func() { r.conn.Close() })
	defer late.Stop()
	for {
		for i, f := range r.facts {
			if f.Kind == kind && f.Run == run {
				r.facts = append(r.facts[:i:i], r.facts[i+1:]...)
				return f
			}
		}
		more, err := r.conn.Recv()
		if err != nil {
			r.t.Fatalf("waiting for fact %d of run %d: %v; others came: %+v", kind, run, err, r.facts)
		}
		r.facts = append(r.facts, more...)
	}
}

// halt stops the keeper, until none of its threads runs any more: the signal
// reaches them one after the other.
func (r *rig) halt() {
	r.t.Helper()
	must(r.t, r.cmd.Process.Signal(unix.SIGSTOP))
	r.poll("the keeper to stand still", func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", r.cmd.Process.Pid))
		for _, path := range threads {
			b, err := os.ReadFile(path)
			if _, rest, _ := bytes.Cut(b[bytes.LastIndexByte(b, ')')+1:], []byte(" ")); err == nil && !bytes.HasPrefix(rest, []byte("T")) {
				return false
			}
		}
		return len(threads) > 0
	})
}

// shell is an order that starts a script as web/index.
func (r *rig) shell(index int, script string) Order {
	r.run++
	run := r.run
	return Order{Kind: OrderStart, Start: &Start{
		Program: "web", Index: index, Run: run,
		Launch: launch.Request{
			Candidates: []string{"/bin/sh"}, Argv: []string{"sh", "-c", script}, Dir: "/", Umask: 0o22, Stdin: "null",
			Env:  []string{"PATH=/usr/bin:/bin", fmt.Sprintf("PROCNANNY_RUN_ID=%d", run), "PROCNANNY_PROGRAM=web", "RIG=" + r.c.Dir},
			Mode: spec.OutputMode{Kind: "merged"},
		},
		Output:       Output{RotateBytes: 10 << 20, Keep: 3},
		LaunchDigest: "launch", TuningDigest: "tuning", Generation: 7,
	}}
}

// begin starts a script and waits until it was started.
func (r *rig) begin(index int, script string) Fact {
	r.t.Helper()
	o := r.shell(index, script)
	r.send(o)
	return r.next(FactStarted, o.Start.Run)
}

// logged waits until an instance's file holds text.
func (r *rig) logged(index int, text string) string {
	r.t.Helper()
	path := filepath.Join(r.c.Dir, "log", "web", fmt.Sprintf("%d.log", index))
	var b []byte
	r.poll("the log to hold "+text, func() bool {
		b, _ = os.ReadFile(path)
		return strings.Contains(string(b), text)
	})
	return string(b)
}

func (r *rig) poll(what string, done func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func alive(pid int) bool {
	s := readStat(pid)
	return s.known && !s.zombie
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// modes runs a test with cgroups, where there are, and without.
func modes(t *testing.T, f func(t *testing.T, c testConfig)) {
	t.Run("cgroup", func(t *testing.T) {
		dir := t.TempDir()
		box, err := newCgroups(dir)
		if err != nil {
			t.Skip("no cgroup v2 that we may write to:", err)
		}
		box.close(true)
		f(t, testConfig{})
	})
	t.Run("sweep", func(t *testing.T) { f(t, testConfig{Sweep: true}) })
}

// controlMain is a control process that does what its argument says.
func controlMain() int {
	conn, hello, err := Connect(os.NewFile(3, "keeper"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "control:", err)
		return 1
	}
	dir := os.Args[2]
	n, _ := filepath.Glob(filepath.Join(dir, "hello.*"))
	b, _ := AppendFact(nil, &Fact{Kind: FactHello, Hello: &hello})
	name := filepath.Join(dir, fmt.Sprintf("hello.%d", len(n)))
	if err := os.WriteFile(name+"~", b, 0o600); err != nil {
		return 1
	}
	if err := os.Rename(name+"~", name); err != nil {
		return 1
	}
	switch os.Args[1] {
	case "refuse":
		return ExitRefused
	case "upgrades":
		return ExitUpgrade
	case "upgrade":
		if len(n) == 0 {
			return ExitUpgrade
		}
	}
	for {
		facts, err := conn.Recv()
		if errors.Is(err, io.EOF) {
			return 0
		}
		for _, f := range facts {
			if f.Kind == FactAsked && f.Signal == spec.SIGTERM {
				_ = conn.Send([]Order{{Kind: OrderShutdown}})
			}
		}
	}
}

func mkfifo(path string) error { return unix.Mkfifo(path, 0o600) }
