package keeper

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// byRun finds a run in a Hello.
func byRun(h Hello, id uint64) (Run, bool) {
	for _, r := range h.Runs {
		if r.Run == id {
			return r, true
		}
	}
	return Run{}, false
}

func TestHelloTellsAllThatHappenedMeanwhile(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		lives, exits := r.begin(0, "exec sleep 100"), r.begin(1, "exit 7")
		gated := r.shell(2, "read x; echo late; exit 8")
		gated.Start.Launch.Stdin = r.c.Dir + "/gate"
		gate, release := openGate(t, r.c.Dir+"/gate")
		defer gate()
		r.send(gated)
		during := r.next(FactStarted, gated.Start.Run)
		r.next(FactEmptied, exits.Run)
		r.send(Order{Kind: OrderSignal, Run: lives.Run, Signal: 28}) // WINCH: it lives on, but is stopping now
		r.conn.Close()
		release()
		r.poll("it to end", func() bool { return !alive(during.PID) })
		r.logged(2, "late")
		r.connect()
		if len(r.hello.Runs) != 3 || r.hello.Version != Version || r.hello.PID != r.cmd.Process.Pid || r.hello.BootID == "" {
			t.Fatalf("hello: %+v", r.hello)
		}
		if v, _ := byRun(r.hello, lives.Run); v.PID != lives.PID || v.Ended || !v.Stopping || v.StartedNS != lives.AtNS ||
			v.LaunchDigest != "launch" || v.TuningDigest != "tuning" || v.Generation != 7 || v.Program != "web" {
			t.Errorf("what lives: %+v", v)
		}
		if v, _ := byRun(r.hello, exits.Run); !v.Ended || !v.Emptied || v.Exit.Code != 7 {
			t.Errorf("what had ended: %+v", v)
		}
		r.poll("the end to be in the list", func() bool {
			r.conn.Close()
			r.connect()
			v, _ := byRun(r.hello, during.Run)
			return v.Ended && v.Emptied && v.Exit.Code == 8
		})
		r.send(Order{Kind: OrderAck, Run: exits.Run}, Order{Kind: OrderAck, Run: during.Run}, Order{Kind: OrderAck, Run: lives.Run})
		r.conn.Close()
		r.connect()
		if len(r.hello.Runs) != 1 || r.hello.Runs[0].Run != lives.Run {
			t.Errorf("after the acknowledgements: %+v", r.hello.Runs)
		}
	})
}

func TestHelloTellsOfAStartThatFailed(t *testing.T) {
	r := startRig(t, testConfig{})
	o := r.shell(0, "")
	o.Start.Launch.Candidates = []string{"/nonexistent"}
	r.send(o)
	f := r.next(FactStartFailed, o.Start.Run)
	r.conn.Close()
	r.connect()
	v, _ := byRun(r.hello, o.Start.Run)
	if !v.Ended || !v.Emptied || v.Exit.Kind != FactStartFailed || v.Exit.Errno != f.Errno || v.Exit.Reason != f.Reason || f.Errno != int(unix.ENOENT) {
		t.Errorf("%+v, told was %+v", v, f)
	}
	r.send(Order{Kind: OrderAck, Run: o.Start.Run})
	r.begin(0, "exit 0")
}

func TestHelloComesInParts(t *testing.T) {
	const n = helloRuns + 100
	r := startRig(t, testConfig{})
	for i := range n {
		r.send(r.shell(i, "exit 0"))
	}
	for i := range n {
		r.next(FactEmptied, uint64(i+1))
	}
	r.conn.Close()
	r.connect()
	seen := map[uint64]bool{}
	for _, v := range r.hello.Runs {
		seen[v.Run] = true
	}
	if len(seen) != n || len(r.hello.Runs) != n || r.hello.More {
		t.Errorf("%d runs, %d different, more %v", len(r.hello.Runs), len(seen), r.hello.More)
	}
}

func TestGarbageEndsOnlyTheConversation(t *testing.T) {
	r := startRig(t, testConfig{})
	run := r.begin(0, "exec sleep 100")
	for _, bytes := range []string{"\xff\xff\xff\xff", "\x03\x00\x00\x00\x7f\xff\xff", "\x00\x00\x00\x00", "\x02\x00\x00\x00\x01\xff"} {
		_, err := r.conn.file.WriteString(bytes)
		must(t, err)
		for err == nil {
			_, err = r.conn.Recv()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("after %q: %v", bytes, err)
		}
		r.connect()
		if v, ok := byRun(r.hello, run.Run); !ok || v.PID != run.PID || v.Ended {
			t.Errorf("after %q: %+v", bytes, r.hello.Runs)
		}
	}
}

func TestOtherVersionGetsAHelloAndNothingElse(t *testing.T) {
	r := startRig(t, testConfig{})
	r.conn.Close()
	c, err := r.listen.AcceptUnix()
	must(t, err)
	f, err := c.File()
	must(t, err)
	conn, err := newConn(f)
	must(t, err)
	defer conn.Close()
	must(t, conn.Send([]Order{{Kind: OrderList, Run: Version + 1}, {Kind: OrderKind(200)}, {Kind: OrderPreflight}}))
	facts, err := conn.Recv()
	must(t, err)
	if len(facts) != 1 || facts[0].Kind != FactHello || facts[0].Hello.Version != Version || facts[0].Hello.PID != r.cmd.Process.Pid {
		t.Errorf("%+v", facts)
	}
	f.Close()
	c.Close()
}

// A control that does not read keeps nobody waiting, and hears all afterwards.
func TestControlThatDoesNotRead(t *testing.T) {
	const n = 3000
	r := startRig(t, testConfig{})
	orders := make([]Order, n)
	for i := range orders {
		orders[i] = Order{Kind: OrderPreflight, Program: strings.Repeat("x", 1000), Digest: spec.Digest(strings.Repeat("y", 1000))}
	}
	r.send(orders...)
	run := r.shell(0, "echo on and on")
	r.send(run)
	r.logged(0, "on and on")
	got := 0
	for got < n {
		facts, err := r.conn.Recv()
		must(t, err)
		for _, f := range facts {
			if f.Kind == FactPreflight {
				got++
			} else {
				r.facts = append(r.facts, f)
			}
		}
	}
	r.next(FactExited, run.Start.Run)
}

func realControl(t *testing.T, what string) *rig {
	t.Helper()
	r := newRig(t, testConfig{})
	r.listen.Close()
	r.c.Control = &Control{
		Path: os.Args[0], Args: []string{what, r.c.Dir},
		Env: append(os.Environ(), roleVar+"=control"),
	}
	r.start()
	return r
}

// waitEnd waits for the keeper's own end.
func (r *rig) waitEnd() int {
	r.t.Helper()
	late := time.AfterFunc(10*time.Second, func() { _ = r.cmd.Process.Kill() })
	defer late.Stop()
	_ = r.cmd.Wait()
	return r.cmd.ProcessState.ExitCode()
}

func (r *rig) hellos() int {
	list, _ := filepath.Glob(filepath.Join(r.c.Dir, "hello.[0-9]*[0-9]"))
	a, _ := filepath.Glob(filepath.Join(r.c.Dir, "hello.[0-9]"))
	return len(list) + len(a)
}

func controlPID(r *rig) int {
	r.t.Helper()
	var list []int
	r.poll("a control", func() bool {
		list, _ = children(r.cmd.Process.Pid)
		return len(list) == 1
	})
	return list[0]
}

func TestControlIsStartedAgain(t *testing.T) {
	r := realControl(t, "stay")
	r.poll("control to be there", func() bool { return r.hellos() == 1 })
	for n := 2; n <= 3; n++ {
		must(t, unix.Kill(controlPID(r), unix.SIGKILL))
		r.poll("the next control", func() bool { return r.hellos() == n })
	}
	b, err := os.ReadFile(filepath.Join(r.c.Dir, "hello.2"))
	must(t, err)
	f, err := DecodeFact(b[frameHead:])
	must(t, err)
	h := f.Hello
	if h.PID != r.cmd.Process.Pid || h.NoFile == 0 || h.Reserved == 0 {
		t.Errorf("hello: %+v", h)
	}
	must(t, r.cmd.Process.Signal(syscall.SIGTERM))
	if code := r.waitEnd(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestControlIsReplacedAtOnce(t *testing.T) {
	r := realControl(t, "upgrade")
	r.poll("the second control", func() bool { return r.hellos() == 2 })
	controlPID(r)
}

// One that asks to be replaced for ever does not keep the machine busy.
func TestControlThatIsReplacedForEver(t *testing.T) {
	r := realControl(t, "upgrades")
	r.poll("controls", func() bool { return r.hellos() > mostUpgrades })
	log, err := os.ReadFile(filepath.Join(r.c.Dir, "keeper.log"))
	must(t, err)
	if n := strings.Count(string(log), "control is replaced"); n != mostUpgrades {
		t.Errorf("replaced %d times at once", n)
	}
}

func TestControlThatRefusesEndsTheKeeper(t *testing.T) {
	r := realControl(t, "refuse")
	if code := r.waitEnd(); code != 1 {
		t.Errorf("exit code %d", code)
	}
}

func TestControlThatCannotBeStarted(t *testing.T) {
	r := newRig(t, testConfig{})
	r.listen.Close()
	r.c.Control = &Control{Path: "/nonexistent/control"}
	r.start()
	log := filepath.Join(r.c.Dir, "keeper.log")
	r.poll("two tries", func() bool {
		b, _ := os.ReadFile(log)
		return strings.Count(string(b), "/nonexistent/control: no such file") >= 2
	})
	must(t, r.cmd.Process.Signal(syscall.SIGTERM))
	if code := r.waitEnd(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestNotifySocket(t *testing.T) {
	for name, address := range map[string]string{"path": "", "abstract": "@procnanny-test-" + filepath.Base(t.TempDir()) + time.Now().Format("150405.000000")} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, testConfig{})
			if address == "" {
				address = filepath.Join(r.c.Dir, "notify")
			}
			l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address})
			must(t, err)
			defer l.Close()
			must(t, l.SetDeadline(time.Now().Add(10*time.Second)))
			r.c.Notify = address
			r.start()
			r.connect()
			r.send(Order{Kind: OrderReady})
			expect := func(want string) {
				t.Helper()
				b := make([]byte, 100)
				n, err := l.Read(b)
				must(t, err)
				if string(b[:n]) != want {
					t.Errorf("got %q, want %q", b[:n], want)
				}
			}
			expect("READY=1")
			must(t, r.cmd.Process.Signal(syscall.SIGTERM))
			expect("STOPPING=1")
			r.next(FactAsked, 0)
			r.send(Order{Kind: OrderShutdown})
			if code := r.waitEnd(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// The service manager hears from a loop that turns, as often as it wants.
func TestWatchdogIsFed(t *testing.T) {
	r := newRig(t, testConfig{Watchdog: 300 * time.Millisecond})
	r.c.Notify = filepath.Join(r.c.Dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: r.c.Notify})
	must(t, err)
	defer l.Close()
	r.start()
	r.connect()
	for range 4 {
		must(t, l.SetDeadline(time.Now().Add(10*time.Second)))
		b := make([]byte, 100)
		n, err := l.Read(b)
		must(t, err)
		if string(b[:n]) != "WATCHDOG=1" {
			t.Errorf("got %q", b[:n])
		}
	}
}
