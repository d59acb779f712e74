package keeper

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// orphan kills the keeper and returns what its control holds then.
func (r *rig) orphan() *Will {
	r.t.Helper()
	must(r.t, r.cmd.Process.Kill())
	_ = r.cmd.Wait()
	for {
		more, err := r.conn.Recv()
		if err != nil {
			break
		}
		r.facts = append(r.facts, more...)
	}
	w, err := r.conn.Will()
	must(r.t, err)
	return w
}

// byNote finds a run in a will.
func (w *Will) byNote(run uint64) *legacy {
	for i := range w.Runs {
		if w.Runs[i].Note.Run == run {
			return &w.Runs[i]
		}
	}
	return nil
}

// raise starts a keeper in the place of the dead one, with what a will names.
func (r *rig) raise(w *Will) {
	r.t.Helper()
	r.c.Will = w
	r.start()
	r.c.Will = nil
	r.connect()
}

// A run that lived, one that ended while no keeper did, one whose end control
// has not written down, and one that it has.
func TestControlInherits(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		lives := r.begin(0, `trap "echo bye; exit 6" TERM; echo up; while :; do sleep 0.01; done`)
		r.logged(0, "up")
		gated := r.shell(1, "echo up; read x; echo last words; exit 7")
		gated.Start.Launch.Stdin = r.c.Dir + "/gate"
		gate, release := openGate(t, r.c.Dir+"/gate")
		defer gate()
		r.send(gated)
		ends := r.next(FactStarted, gated.Start.Run)
		r.logged(1, "up")
		heard, known := r.begin(2, "exit 8"), r.begin(3, "exit 9")
		r.next(FactEmptied, heard.Run)
		r.next(FactEmptied, known.Run)
		r.send(Order{Kind: OrderAck, Run: known.Run})

		w := r.orphan()
		release()
		r.poll("it to end", func() bool { return !alive(ends.PID) })
		if w.byNote(known.Run) != nil || w.byNote(heard.Run) == nil || w.byNote(lives.Run) == nil || w.byNote(ends.Run) == nil {
			t.Fatalf("the will has %+v", w.Runs)
		}
		r.raise(w)
		if v, ok := byRun(r.hello, lives.Run); !ok || v.PID != lives.PID || v.Ended || v.LaunchDigest != "launch" || v.Generation != 7 {
			t.Errorf("what lived: %+v", v)
		}
		if v, _ := byRun(r.hello, heard.Run); !v.Ended || !v.Emptied || v.Exit.Code != 8 || v.Exit.Unknown {
			t.Errorf("the end that was heard of: %+v", v)
		}
		if r.hello.Origin != OriginDeath {
			t.Errorf("origin %q", r.hello.Origin)
		}
		r.poll("the other end", func() bool {
			r.conn.Close()
			r.connect()
			v, _ := byRun(r.hello, ends.Run)
			return v.Ended && v.Emptied
		})
		if v, _ := byRun(r.hello, ends.Run); v.Exit.Code != 7 || v.Exit.Unknown {
			t.Errorf("the end that nobody saw: %+v", v.Exit)
		}
		r.logged(1, "last words")
		o := r.shell(0, "exit 0")
		r.send(o)
		if f := r.next(FactStartFailed, o.Start.Run); !strings.Contains(f.Reason, "still lives") {
			t.Errorf("a second copy: %+v", f)
		}
		r.send(Order{Kind: OrderSignal, Run: lives.Run, Signal: spec.SIGTERM})
		if f := r.next(FactExited, lives.Run); f.Code != 6 {
			t.Errorf("%+v", f)
		}
		r.logged(0, "bye")
		for i := range 4 {
			r.begin(i, "exit 0")
		}
	})
}

// An end that is not written down yet stands beside the instance's next run.
func TestTwoRunsOfOneInstance(t *testing.T) {
	r := startRig(t, testConfig{})
	first := r.begin(0, "exit 3")
	r.next(FactEmptied, first.Run)
	second := r.begin(0, "echo up; while :; do sleep 0.01; echo more; done")
	r.logged(0, "up")
	for range 8 { // in whatever order
		w := r.orphan()
		r.raise(w)
		a, _ := byRun(r.hello, first.Run)
		b, _ := byRun(r.hello, second.Run)
		if a.Exit.Code != 3 || !a.Emptied || b.Ended || b.PID != second.PID {
			t.Fatalf("%+v", r.hello.Runs)
		}
		size := len(r.logged(0, "more"))
		r.poll("output to flow", func() bool { return len(r.logged(0, "more")) > size })
	}
}

// A keeper that ends on purpose leaves nothing to inherit.
func TestNobodyInheritsFromTheLiving(t *testing.T) {
	r := startRig(t, testConfig{Leave: true})
	r.begin(0, "exec sleep 100")
	must(t, r.cmd.Process.Signal(unix.SIGTERM))
	var err error
	for err == nil {
		_, err = r.conn.Recv()
	}
	if w, err := r.conn.Will(); err == nil {
		t.Errorf("a will: %+v", w)
	}
	if code := r.waitEnd(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// What is offered is handed over once, whole, to one of our own.
func TestOfferAndClaim(t *testing.T) {
	dir, err := os.MkdirTemp("", "heir")
	must(t, err)
	defer os.RemoveAll(dir)
	if _, err := Claim(dir); err == nil {
		t.Error("claimed what nobody offers")
	}
	boot, err := bootID()
	must(t, err)
	w := &Will{Version: WillVersion, Boot: boot, Origin: OriginDeath, Former: 1}
	const runs = 200 // more descriptors than one message takes
	for i := range runs {
		f, err := os.CreateTemp(dir, "x")
		must(t, err)
		defer f.Close()
		_, err = fmt.Fprint(f, i)
		must(t, err)
		l := legacy{FDs: [3]int{-1, int(f.Fd()), -1}, Exit: exitFrame(&Fact{Kind: FactExited, Code: i})}
		l.Note.Run = uint64(i + 1)
		if i%2 == 0 {
			l.FDs[0] = int(f.Fd())
		}
		w.Runs = append(w.Runs, l)
	}
	offered := make(chan error, 1)
	child := make(chan struct{})
	go func() { offered <- w.Offer(dir, 10*time.Second); close(child) }()
	var got *Will
	claimed := make(chan error, 1)
	go func() {
		var err error
		for range 1000 {
			if _, serr := os.Stat(filepath.Join(dir, heirSocket)); serr == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		got, err = Claim(dir)
		claimed <- err
	}()
	must(t, <-offered)
	// Claim waits for the end of the offering process, which here is its own.
	select {
	case err := <-claimed:
		t.Fatalf("claimed before the other was gone: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	closeSockets(t)
	must(t, <-claimed)
	for i, l := range got.Runs {
		b := make([]byte, 10)
		n, err := unix.Pread(l.FDs[1], b, 0)
		must(t, err)
		if string(b[:n]) != fmt.Sprint(i) || exitOf(l.Exit).Code != i || (l.FDs[0] >= 0) != (i%2 == 0) {
			t.Fatalf("run %d has %q, %+v", i, b[:n], l)
		}
	}
	got.descriptors(func(fd *int) { unix.Close(*fd) })
}

// closeSockets closes the end that Offer leaves open for its process's end.
func closeSockets(t *testing.T) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, e := range list {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err != nil {
			continue
		}
		name, err := unix.Getsockname(fd)
		if u, ok := name.(*unix.SockaddrUnix); err == nil && ok && filepath.Base(u.Name) == heirSocket {
			_ = unix.Shutdown(fd, unix.SHUT_RDWR)
			unix.Close(fd)
		}
	}
}

func TestWillsThatAreNotBelieved(t *testing.T) {
	boot, err := bootID()
	must(t, err)
	for name, w := range map[string]Will{
		"another boot":   {Version: WillVersion, Boot: "x"},
		"a later format": {Version: WillVersion + 1, Boot: boot},
	} {
		b, err := json.Marshal(w)
		must(t, err)
		if _, err := decodeWill(b); err == nil {
			t.Errorf("%s was believed", name)
		}
	}
	for _, text := range []string{"", "{", "[]", `{"version": "x"}`} {
		if _, err := decodeWill([]byte(text)); err == nil {
			t.Errorf("%q was believed", text)
		}
	}
	// What a later version adds is skipped.
	if w, err := decodeWill([]byte(`{"version": 1, "boot": "` + boot + `", "new": {}, "runs": [{"fds": [-1, -1, -1], "more": 1}]}`)); err != nil || len(w.Runs) != 1 {
		t.Errorf("%v, %+v", err, w)
	}
}

// A note that was begun and not finished leads to the process all the same.
func TestBegunNotes(t *testing.T) {
	modes(t, func(t *testing.T, c testConfig) {
		r := startRig(t, c)
		o := r.shell(0, "echo up; exec sleep 100")
		o.Start.Launch.Env = append(o.Start.Launch.Env, "PROCNANNY_INSTANCE=0")
		r.send(o)
		run := r.next(FactStarted, o.Start.Run)
		r.logged(0, "up")
		r.killKeeper()
		path := filepath.Join(r.c.Dir, "keeper", fmt.Sprint(run.Run))
		b, err := os.ReadFile(path)
		must(t, err)
		first, _, _ := strings.Cut(string(b), "\n")
		for _, text := range []string{first + "\n", first + "\n" + `{"boot": "cut o`} {
			must(t, os.WriteFile(path, []byte(text), 0o600))
			r.start()
			r.connect()
			if v, ok := byRun(r.hello, run.Run); !ok || v.PID != run.PID || v.Ended || v.LaunchDigest != "launch" {
				t.Fatalf("after %q: %+v", text, r.hello.Runs)
			}
			r.killKeeper()
			must(t, os.WriteFile(path, b, 0o600))
		}
		// Of a start that perhaps never was, nobody says more than that.
		never := strings.ReplaceAll(first, fmt.Sprintf(`"run":%d`, run.Run), `"run":77`)
		never = strings.ReplaceAll(strings.ReplaceAll(never, `"index":0`, `"index":5`), fmt.Sprintf("RUN_ID=%d", run.Run), "RUN_ID=77")
		must(t, os.WriteFile(filepath.Join(r.c.Dir, "keeper", "77"), []byte(never+"\n"), 0o600))
		r.start()
		r.connect()
		if v, ok := byRun(r.hello, 77); !ok || len(r.hello.Runs) != 2 || !v.Emptied || v.Exit.Kind != FactStartFailed || v.Exit.Errno != int(unix.EOWNERDEAD) {
			t.Errorf("%+v", r.hello.Runs)
		}
		r.next(FactEmptied, r.begin(5, "exit 0").Run)
	})
}

// Control holds two descriptors for each instance, and none for what is over.
func TestControlHoldsTwoDescriptors(t *testing.T) {
	r := startRig(t, testConfig{})
	for i := range 20 {
		r.begin(i, "exec sleep 100")
	}
	r.send(Order{Kind: OrderPreflight}) // what comes before its answer has come
	r.next(FactPreflight, 0)
	held := func() (n int) {
		r.conn.estate.mu.Lock()
		defer r.conn.estate.mu.Unlock()
		for _, l := range r.conn.estate.runs {
			for _, fd := range l.fds {
				if fd >= 0 {
					n++
				}
			}
		}
		return n
	}
	if n := held(); n != 40 {
		t.Errorf("20 instances cost control %d descriptors", n)
	}
	for run := range uint64(20) {
		r.send(Order{Kind: OrderKill, Run: run + 1, Signal: spec.SIGKILL})
		r.next(FactEmptied, run+1)
		r.send(Order{Kind: OrderAck, Run: run + 1})
	}
	if n := held(); n != 0 || len(r.conn.estate.runs) != 0 {
		t.Errorf("%d are left", n)
	}
}

// A process that was started with blocked signals does not pass them on.
func TestCleanSignals(t *testing.T) {
	old := blockSignals(handOver)
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), roleVar+"=clean")
	err := cmd.Start()
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	must(t, err)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// A successor that cannot be executed changes nothing.
func TestUpgradeThatCannotBe(t *testing.T) {
	r := newRig(t, testConfig{Self: Exec{Path: "/nonexistent/procnannyd"}})
	r.listen.Close()
	r.c.Control = &Control{Path: os.Args[0], Args: []string{"upgrade", r.c.Dir}, Env: append(os.Environ(), roleVar+"=control")}
	r.start()
	r.poll("the second control", func() bool { return r.hellos() == 2 })
	log, err := os.ReadFile(filepath.Join(r.c.Dir, "keeper.log"))
	must(t, err)
	if !strings.Contains(string(log), "the keeper stays as it is") {
		t.Errorf("%s", log)
	}
	must(t, r.cmd.Process.Signal(unix.SIGTERM)) // signals are heard again
	if code := r.waitEnd(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A control that knows the list holds what is in it, and what it was told of
// ends that have left somebody behind.
func TestDescriptorsComeBeforeTheList(t *testing.T) {
	r := startRig(t, testConfig{})
	lives := r.begin(0, "exec sleep 100")
	left := r.begin(1, "sleep 100 & exit 3")
	r.next(FactExited, left.Run)
	r.conn.Close()
	r.connect()
	r.conn.estate.mu.Lock()
	defer r.conn.estate.mu.Unlock()
	if l := r.conn.estate.runs[lives.Run]; l == nil || l.fds[0] < 0 || l.fds[1] < 0 {
		t.Errorf("it lives: %+v", l)
	}
	if l := r.conn.estate.runs[left.Run]; l == nil || l.fds[1] < 0 || !l.ended || l.emptied || exitOf(l.exit).Code != 3 {
		t.Errorf("it has ended: %+v", l)
	}
}

// What a keeper had taken out of a pipe and not yet brought to the file, as it
// does to put times in front of lines, the next one brings there, though the
// program says nothing any more.
func TestWhatIsOnAStageIsBroughtToTheFile(t *testing.T) {
	r := startRig(t, testConfig{})
	o := r.shell(0, "echo one; exec sleep 1000")
	o.Start.Output.Timestamps = true
	r.send(o)
	r.next(FactStarted, o.Start.Run)
	size := len(r.logged(0, "one\n"))
	w := r.orphan()
	var stage []byte
	for _, v := range []int{len("one\n"), int(time.Now().UnixNano()), 0, size} { // see output/stage.go
		stage = binary.LittleEndian.AppendUint64(stage, uint64(v))
	}
	must(t, os.WriteFile(filepath.Join(r.c.Dir, "log", "web", "0.stage"), append(stage, "two\n"...), 0o600))
	r.raise(w)
	r.logged(0, "two\n")
}
