package store

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// crashEnv makes the test binary the process that will be killed.
const crashEnv = "PROCNANNY_STORE_CRASH"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashEnv); dir != "" {
		recordForever(dir)
	}
	os.Exit(m.Run())
}

// recordForever says on stdout what Record and SetOverrides have returned for.
func recordForever(dir string) {
	s, rec, err := Open(Config{StateDir: dir, RunDir: dir + "/run", BootID: "boot-1", Keep: Keep{RunsPerProgram: 1_000_000}})
	if err != nil || len(rec.Loss) > 0 {
		fmt.Println("failed", err, rec.Loss)
		os.Exit(1)
	}
	starts, round := 0, 0
	if p := rec.World.Programs["web"]; p != nil {
		starts = p.Instances[0].Starts
		if i := p.Instances[0]; i.Alive() { // we died between its start and its end
			end, _ := crashed(living("web", 0, i.Run), starts%100)
			s.Record(changed(end), nil)
		}
	}
	if len(rec.Overrides) > 0 {
		_ = json.Unmarshal(rec.Overrides[0].Value, &round)
	}
	for n := 0; ; n++ {
		starts++
		i := living("web", 0, reconcile.RunID(starts))
		s.Record(changed(i), []Draft{draft("state.web.0")})
		end, ev := crashed(i, starts%100)
		batch := changed(end)
		batch.Events = []reconcile.Event{ev}
		events := s.Record(batch, []Draft{draft("state.web.0"), draft(fmt.Sprint("t", starts%7))})
		fmt.Println("recorded", events[1].Seq, starts)
		if n%50 == 0 {
			round++
			if err := s.SetOverrides([]spec.Override{{Program: "web", Field: "instances", Value: []byte(strconv.Itoa(round))}}); err != nil {
				fmt.Println("failed", err)
			}
			fmt.Println("set", round)
		}
	}
}

func TestKillingLosesNothingAcknowledged(t *testing.T) {
	b := newBench(t)
	b.c.Keep.RunsPerProgram = 1_000_000
	var seq, starts, round uint64
	kills := 10
	for range kills {
		runAndKill(t, b.c.StateDir, time.Duration(rand.IntN(40))*time.Millisecond, &seq, &starts, &round)
		s, rec := b.open()
		if len(rec.Loss) > 0 {
			t.Fatalf("lost: %q", rec.Loss)
		}
		if s.m.seq < seq {
			t.Fatalf("event %d was acknowledged, the last one is %d", seq, s.m.seq)
		}
		checkGapless(t, s, s.m.seq)
		if starts > 0 {
			i := rec.World.Programs["web"].Instances[0]
			if uint64(i.Starts) < starts {
				t.Fatalf("start %d was acknowledged, the last one is %d", starts, i.Starts)
			}
			checkRuns(t, s, uint64(i.Starts))
			starts = uint64(i.Starts)
		}
		got := uint64(0)
		if len(rec.Overrides) > 0 {
			got, _ = strconv.ParseUint(string(rec.Overrides[0].Value), 10, 64)
		}
		if got < round {
			t.Fatalf("override %d was acknowledged, %d is there", round, got)
		}
		seq, round = s.m.seq, got
		abandon(s)
	}
	if seq < uint64(kills) {
		t.Fatalf("only %d events in %d lives: the test proves nothing", seq, kills)
	}
}

// checkRuns wants each run once, ended unless it is the last one.
func checkRuns(t *testing.T, s *Store, n uint64) {
	t.Helper()
	runs, err := s.Runs(RunQuery{Program: "web", Limit: maxRunsPage})
	if err != nil {
		t.Fatal(err)
	}
	first := n - uint64(len(runs)) + 1
	if first != 1 && len(runs) < maxRunsPage {
		t.Fatalf("%d runs of %d", len(runs), n)
	}
	for k, r := range runs {
		if want := first + uint64(k); uint64(r.Run) != want {
			t.Fatalf("run %d stands where %d should", r.Run, want)
		}
		if r.Exit == nil && uint64(r.Run) != n {
			t.Fatalf("run %d has no end", r.Run)
		}
		if r.Exit != nil && (r.Exit.Code != int(r.Run)%100 || r.PID != 1000+int(r.Run) || r.StartCause != reconcile.CauseBoot) {
			t.Fatalf("run %d is %+v %+v", r.Run, r, r.Exit)
		}
	}
}

func runAndKill(t *testing.T, dir string, after time.Duration, seq, starts, round *uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env, cmd.Stderr = append(os.Environ(), crashEnv+"="+dir), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	lines := bufio.NewScanner(out)
	var timer *time.Timer
	for lines.Scan() {
		if timer == nil { // the clock runs from its first word on
			timer = time.AfterFunc(after, func() { cmd.Process.Kill() })
			defer timer.Stop()
		}
		f := strings.Fields(lines.Text())
		switch {
		case len(f) == 3 && f[0] == "recorded":
			*seq, _ = strconv.ParseUint(f[1], 10, 64)
			*starts, _ = strconv.ParseUint(f[2], 10, 64)
		case len(f) == 2 && f[0] == "set":
			*round, _ = strconv.ParseUint(f[1], 10, 64)
		case len(f) > 0 && f[0] == "failed":
			t.Error(lines.Text())
		}
	}
}

func TestATornTailIsCutAtEveryByte(t *testing.T) {
	b := newBench(t)
	s, _ := b.open()
	s.Record(changed(living("web", 0, 1)), []Draft{draft("a"), draft("a")})
	whole := s.j.size
	last := living("web", 0, 2)
	s.Record(changed(last), []Draft{draft("b"), draft("c")})
	path := s.j.path
	abandon(s)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := whole; cut <= int64(len(raw)); cut++ {
		if err := os.WriteFile(path, raw[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := readJournal(path, 0)
		if err != nil || p.err != nil {
			t.Fatalf("cut at %d: %v, %v", cut, err, p.err)
		}
		want := uint64(2)
		if cut == int64(len(raw)) {
			want = 4
		}
		if p.m.seq != want || len(p.events) != int(want) || len(p.m.instances) != 1 {
			t.Fatalf("cut at %d: %d events up to %d", cut, len(p.events), p.m.seq)
		}
	}
}

// A bit that flipped is not a torn tail: something acknowledged is gone, and
// its numbers must not come again.
func TestABrokenJournalIsNamedAndNumbersGoOnAbove(t *testing.T) {
	b := newBench(t)
	s, _ := b.open()
	s.Record(changed(living("web", 0, 1)), []Draft{draft("a")})
	settled(t, s)
	at := s.j.size
	var e Event
	for range 100 {
		e = s.Record(changed(living("web", 0, 2)), []Draft{draft("a")})[0]
	}
	path := s.j.path
	abandon(s)
	flip(t, path, at+20)

	s, rec := b.open()
	if len(rec.Loss) == 0 || !strings.Contains(rec.Loss[0], "journal") {
		t.Errorf("loss is %q", rec.Loss)
	}
	if next := s.Record(reconcile.Batch{}, []Draft{draft("a")})[0]; next.Seq <= e.Seq {
		t.Errorf("after %d was given out, the next is %d", e.Seq, next.Seq)
	}
	if rec.World.NextRun < 3 || rec.World.Programs["web"].Instances[0].Run == 0 {
		t.Errorf("the world is %+v", rec.World)
	}
}

func flip(t testing.TB, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << (at % 8)
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

func TestAJournalOfANewerVersionIsRefused(t *testing.T) {
	b := newBench(t)
	s, _ := b.open()
	path := s.j.path
	s.Close()
	f := newFrame(nil)
	f.b[frameHead] = journalVersion + 1
	if err := os.WriteFile(path, f.finish(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(b.c); err == nil || !strings.Contains(err.Error(), "another version") {
		t.Errorf("Open: %v", err)
	}
}

func FuzzReplay(f *testing.F) {
	b := newBench(f)
	s, _ := b.open()
	s.Record(changed(living("web", 0, 1)), []Draft{draft("a")})
	end, ev := crashed(living("web", 0, 1), 3)
	batch := changed(end)
	batch.Events, batch.Gone = []reconcile.Event{ev}, []reconcile.InstanceID{id("x", 1)}
	batch.Programs = []*reconcile.Program{{Name: "web", Instances: batch.Changed, Held: "x"}, {Name: "x"}}
	s.Record(batch, nil)
	raw, err := os.ReadFile(s.j.path)
	if err != nil {
		f.Fatal(err)
	}
	s.Close()
	b.remove()
	f.Add(raw, false)
	f.Add(raw[frameHead:len(raw)-7], true)
	f.Fuzz(func(t *testing.T, raw []byte, framed bool) {
		if framed { // get past the checksums
			fr := newFrame(nil)
			fr.b = append(fr.b[:frameHead], raw...)
			raw = fr.finish()
		}
		p := &past{m: newImage(), runs: map[reconcile.RunID]*Run{}}
		p.read(strings.NewReader(string(raw)), int64(len(raw)))
		w, _ := p.m.world()
		for _, prog := range w.Programs {
			for _, i := range prog.Instances {
				if i.State == reconcile.StateUnset {
					t.Fatal("an instance without a state came through")
				}
			}
		}
		p.m.reboot(&w, epoch, epoch)
	})
}
