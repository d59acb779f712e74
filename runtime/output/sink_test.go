package output

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestNothingIsMadeBeforeTheFirstByte(t *testing.T) {
	r := newRig(t, Policy{})
	r.sink.BeginRun(1)
	r.drain()
	if list, _ := os.ReadDir(r.dir.path); len(list) != 0 {
		t.Errorf("a silent program has %v", list)
	}
	r.say("a\x00\x1b[31m\xff\n")
	r.want("a\x00\x1b[31m\xff\n")
	for name, mode := range map[string]os.FileMode{"": 0o750 | os.ModeDir, "0.log": 0o640, "0.idx": 0o640} {
		if info, err := os.Stat(r.file(name)); err != nil || info.Mode() != mode {
			t.Errorf("%q: %v, %v; want mode %v", name, info.Mode(), err, mode)
		}
	}
}

func TestRotationCutsAtLineEnds(t *testing.T) {
	r := newRig(t, Policy{RotateBytes: 100, Keep: 3})
	var all strings.Builder
	for i := range 100 {
		line := fmt.Sprintf("line %d\n", i)
		all.WriteString(line)
		r.put(line)
		if i%7 == 0 {
			r.drain()
		}
	}
	r.drain()
	names := r.names()
	if len(names) != 5 || !slices.IsSorted(names[1:]) || names[1] != "0.log" {
		t.Fatalf("files: %v", names)
	}
	_, first, _ := parseSegment(names[2])
	r.want(all.String()[first:])
	for _, name := range names[1:] {
		if text := r.content(name); !strings.HasPrefix(text, "line ") || len(text) > 100 || !strings.HasSuffix(text, "\n") {
			t.Errorf("%s is %q", name, text)
		}
	}
}

func TestRotationSparesALineThatIsNotWholeYet(t *testing.T) {
	r := newRig(t, Policy{RotateBytes: 20, Keep: 10})
	r.say("0123456789")
	r.say("0123456789") // the limit, in the middle of a line
	r.say("rest\nnext\n")
	if got := r.content(fmt.Sprintf("0.log.%020d", 0)); got != "01234567890123456789rest\n" {
		t.Errorf("the first file is %q", got)
	}
	if got := r.content("0.log"); got != "next\n" {
		t.Errorf("the live file is %q", got)
	}
}

// A file that is much too long at once, because the size was made smaller, is cut
// where a line ends, and at last where none does.
func TestALateRotationSparesTheLineToo(t *testing.T) {
	for name, p := range map[string]Policy{"plain": {}, "timestamps": {Timestamps: true}} {
		for _, copying := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " copying ", copying), func(t *testing.T) {
				p := p
				p.Keep = 10
				r := newRig(t, p)
				r.say(strings.Repeat("0123456789\n", 30) + "begun")
				p.RotateBytes = 100
				r.sink.SetPolicy(p)
				r.sink.copying = copying
				r.say(" and")
				r.say(" ended\nnext\nand more")
				first := r.content(fmt.Sprintf("0.log.%020d", 0))
				if !strings.HasSuffix(first, "begun and ended\n") || !strings.HasSuffix(r.content("0.log"), "and more") {
					t.Errorf("the first file is %q, the live one %q", first, r.content("0.log"))
				}
				p.RotateBytes = 10
				r.sink.SetPolicy(p)
				for range 30 {
					r.say("....")
				}
				if n := len(r.names()); n < 5 {
					t.Errorf("a line without an end grows in %v", r.names())
				}
			})
		}
	}
}

func TestStreamWithoutNewlineStaysBounded(t *testing.T) {
	const total, limit = 100 << 20, 4 << 20
	r := newRig(t, Policy{RotateBytes: limit, Keep: 100})
	piece := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range total / len(piece) {
		if n, err := unix.Write(r.w, piece); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
		r.drain()
	}
	runtime.ReadMemStats(&after)
	if used := int64(after.TotalAlloc) - int64(before.TotalAlloc); used > 16<<20 {
		t.Errorf("100 MiB allocated %d bytes", used)
	}
	var sum int64
	for _, name := range r.names()[1:] {
		info, err := os.Stat(r.file(name))
		must(t, err)
		if sum += info.Size(); info.Size() > limit+lookMax {
			t.Errorf("%s has %d bytes", name, info.Size())
		}
	}
	if sum != total || r.sink.Offset() != total {
		t.Errorf("%d bytes are there, the next is number %d", sum, r.sink.Offset())
	}
	at := int64(total - 40)
	if c := r.read(Query{Offset: &at}); string(c.Data) != string(piece[len(piece)-40:]) {
		t.Errorf("the end is %q", c.Data)
	}
}

func TestRotationByAge(t *testing.T) {
	r := newRig(t, Policy{RotateAge: time.Hour, Keep: 10})
	r.say("one\n")
	r.clock = r.clock.Add(time.Hour - time.Second)
	r.say("two\n")
	r.clock = r.clock.Add(time.Second)
	r.say("three\n")
	if got := r.content("0.log"); got != "three\n" {
		t.Errorf("the live file is %q", got)
	}
	r.want("one\ntwo\nthree\n")
}

func TestTotalBytesBoundsWhatIsKept(t *testing.T) {
	r := newRig(t, Policy{RotateBytes: 10, Keep: 100, TotalBytes: 35})
	for i := range 10 {
		r.say(fmt.Sprintf("%09d\n", i))
	}
	r.want("000000006\n000000007\n000000008\n000000009\n")
	if c := r.read(Query{}); c.Offset != 60 || c.End != 100 {
		t.Errorf("offsets %d to %d", c.Offset, c.End)
	}
}

// The bound is of the program: its oldest files go, whoever wrote them.
func TestTotalBytesIsOfAllInstances(t *testing.T) {
	p := Policy{RotateBytes: 10, Keep: 100, TotalBytes: 45}
	r := newRig(t, p)
	other := r.dir.Sink("web", 1, "", p)
	foreign := r.dir.Sink("api", 0, "", p)
	old := time.Now().Add(-time.Hour)
	for i := range 12 {
		s := []*Sink{r.sink, other, foreign}[i%3]
		r.put(fmt.Sprintf("%09d\n", i))
		_, _, err := s.Drain(r.r, Turn)
		must(t, err)
		name := filepath.Join(r.dir.path, s.path(s.live()))
		must(t, os.Chtimes(name, old, old.Add(time.Duration(i)*time.Second)))
	}
	if c := r.read(Query{}); c.Offset != 10 || c.End != 40 {
		t.Errorf("instance 0 has %d to %d", c.Offset, c.End)
	}
	if c := r.read(Query{Index: 1}); c.Offset != 10 || c.End != 40 {
		t.Errorf("instance 1 has %d to %d", c.Offset, c.End)
	}
	if c, err := r.dir.Read(Query{Program: "api"}); c.Offset != 0 || err != nil {
		t.Errorf("another program has from %d, %v", c.Offset, err)
	}
	r.restart(p)
	r.say("again\nagain\n")
	if c := r.read(Query{TailLines: 1}); c.Offset != 46 {
		t.Errorf("after a restart the last line is number %d", c.Offset)
	}
}

func TestKeepNothing(t *testing.T) {
	r := newRig(t, Policy{RotateBytes: 10, Keep: 0})
	for i := range 5 {
		r.say(fmt.Sprintf("%09d\n", i))
	}
	r.want("000000004\n")
	r.restart(Policy{RotateBytes: 10, Keep: 0})
	r.say("000000005\n")
	if c := r.read(Query{}); c.Offset != 50 || string(c.Data) != "000000005\n" {
		t.Errorf("after a restart: %d %q", c.Offset, c.Data)
	}
}

func TestOffsetsGoOnAfterARestartAndPruning(t *testing.T) {
	p := Policy{RotateBytes: 50, Keep: 1}
	r := newRig(t, p)
	for i := range 100 {
		r.say(fmt.Sprintf("line %04d\n", i))
		if i%9 == 0 {
			r.restart(p)
		}
		if i%11 == 0 {
			r.sink.Idle()
		}
		if i%13 == 0 {
			r.dir.Forget("web", 0)
			r.sink = r.dir.Sink("web", 0, "", p)
		}
	}
	c := r.read(Query{TailLines: 1})
	if c.Offset != 990 || c.End != 1000 || string(c.Data) != "line 0099\n" {
		t.Errorf("the last line is %d %q of %d", c.Offset, c.Data, c.End)
	}
}

func TestOffsetsAreFoundWithoutTheIndexAndWithoutThePutAside(t *testing.T) {
	for _, gone := range []string{"0.idx", fmt.Sprintf("0.log.%020d", 40)} {
		r := newRig(t, Policy{RotateBytes: 20, Keep: 1})
		for i := range 7 {
			r.say(fmt.Sprintf("%09d\n", i))
		}
		must(t, os.Remove(r.file(gone)))
		r.restart(Policy{})
		r.say("x\n")
		if c := r.read(Query{TailLines: 1}); c.Offset != 70 {
			t.Errorf("without %s, line 8 begins at %d", gone, c.Offset)
		}
	}
}

func TestTimestamps(t *testing.T) {
	r := newRig(t, Policy{Timestamps: true, RotateBytes: 120, Keep: 100})
	r.say("one\ntw")
	r.clock = r.clock.Add(time.Second)
	r.say("o\n\nthree\nfour")
	const at0, at1 = "2026-05-04T03:02:01.000000Z ", "2026-05-04T03:02:02.000000Z "
	r.want("one\ntwo\n\nthree\nfour") // numbers count the program's bytes
	if got := r.content(fmt.Sprintf("0.log.%020d", 0)); got != at0+"one\n"+at0+"two\n"+at1+"\n" {
		t.Errorf("the first file is %q", got)
	}
	if got := r.content("0.log"); got != at1+"three\n"+at1+"four" {
		t.Errorf("the live file is %q", got)
	}
	r.sink.SetPolicy(Policy{})
	r.say("teen\nplain\n")
	if got := r.content("0.log"); !strings.HasSuffix(got, at1+"fourteen\nplain\n") {
		t.Errorf("the live file is %q", got)
	}
	r.want("one\ntwo\n\nthree\nfourteen\nplain\n")
	c := r.read(Query{})
	if want := []Mark{{0, r.clock.Add(-time.Second), 0}, {6, r.clock, 0}}; !slices.EqualFunc(c.Marks, want, sameMark) {
		t.Errorf("marks %v, not %v", c.Marks, want)
	}
}

func sameMark(a, b Mark) bool { return a.Offset == b.Offset && a.Time.Equal(b.Time) && a.Run == b.Run }

// Whatever is done to a sink, a number means the same byte, also where times
// were written, stopped being written, or bytes were dropped.
func TestNumbersCountTheProgramsBytes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := Policy{RotateBytes: rapid.Int64Range(0, 300).Draw(rt, "rotate"), Keep: 1000, Drop: true}
		r := newRig(t, p)
		r.sink.BeginRun(1)
		var all []byte // 0 where dropped
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			text := rapid.StringMatching(`([a-z ]{0,40}\n?){1,3}`).Draw(rt, "text")
			r.clock = r.clock.Add(time.Duration(rapid.IntRange(0, 2000).Draw(rt, "ms")) * time.Millisecond)
			switch rapid.SampledFrom([]string{"say", "say", "stamps", "drop", "idle", "restart", "forget"}).Draw(rt, "step") {
			case "say":
				r.say(text)
				all = append(all, text...)
			case "stamps":
				p.Timestamps = !p.Timestamps
				r.sink.SetPolicy(p)
			case "drop":
				r.put(text)
				n, err := r.sink.discard(r.r, len(text))
				must(t, err)
				r.say("x") // so that the mark is written: a drop that nobody told ends with the process
				all = append(append(all, make([]byte, n)...), 'x')
			case "idle":
				r.sink.Idle()
			case "restart":
				r.restart(p)
			case "forget":
				r.dir.Forget("web", 0)
				r.sink = r.dir.Sink("web", 0, "", p)
			}
		}
		r.checkNumbers(all, rapid.IntRange(1, 50).Draw(rt, "page"))
		r.dir.Close()
	})
}

// checkNumbers reads all, page by page and line by line from the end.
func (r *rig) checkNumbers(all []byte, page int) {
	r.Helper()
	seen := 0
	at := int64(0)
	for end := int64(len(all)); at < end; {
		c := r.read(Query{Offset: &at, Limit: page})
		if c.End != end || string(c.Data) != string(all[c.Offset:c.Next]) || len(c.Data) == 0 {
			r.Fatalf("page at %d: [%d, %d) of %d, %q, wrote %q", at, c.Offset, c.Next, c.End, c.Data, all)
		}
		seen += len(c.Data)
		at = c.Next
	}
	if kept := len(all) - bytes.Count(all, []byte{0}); seen != kept {
		r.Fatalf("%d bytes are there, not %d", seen, kept)
	}
	if c := r.read(Query{TailLines: 3}); string(c.Data) != string(all[c.Offset:c.Next]) {
		r.Fatalf("the last lines at %d are %q of %q", c.Offset, c.Data, all)
	}
}

func TestIndexThatCannotBeWrittenHoldsTimesBack(t *testing.T) {
	r := newRig(t, Policy{})
	r.say("plain\n")
	must(t, os.Remove(r.file("0.idx")))
	must(t, os.Mkdir(r.file("0.idx"), 0o755))
	for i := range asideMax { // no name to move it to
		must(t, os.WriteFile(r.file(fmt.Sprintf("0.idx.aside.%d", i+1)), nil, 0o640))
	}
	r.sink.SetPolicy(Policy{Timestamps: true})
	r.put("stamped\n")
	if n, _, err := r.sink.Drain(r.r, Turn); n != 0 || err == nil || r.in() != 8 {
		t.Errorf("took %d, %v", n, err)
	}
	must(t, os.Remove(r.file("0.idx")))
	r.drain()
	r.want("plain\nstamped\n")
	if got := r.content("0.log"); strings.Count(got, "Z ") != 1 {
		t.Errorf("the file is %q", got)
	}
}

func TestTimestampsOnALongLine(t *testing.T) {
	r := newRig(t, Policy{Timestamps: true, RotateBytes: 100_000, Keep: 100})
	line := strings.Repeat("x", 1<<20)
	r.say(line)
	r.say("\nmore\n")
	r.want(line + "\nmore\n")
	got := ""
	for _, name := range r.names() {
		if strings.HasPrefix(name, "0.log") {
			got += r.content(name)
		}
	}
	if strings.Count(got, "x") != 1<<20 || strings.Count(got, "Z ") != 2 {
		t.Errorf("%d bytes, %d times", strings.Count(got, "x"), strings.Count(got, "Z "))
	}
}

func TestDrainTakesAtMostMaxAndSaysMore(t *testing.T) {
	r := newRig(t, Policy{})
	r.put("0123456789")
	n, more, err := r.sink.Drain(r.r, 4)
	if n != 4 || !more || err != nil {
		t.Errorf("drained %d, %v, %v", n, more, err)
	}
	n, more, err = r.sink.Drain(r.r, 100)
	if n != 6 || more || err != nil {
		t.Errorf("drained %d, %v, %v", n, more, err)
	}
	unix.Close(r.w)
	n, more, err = r.sink.Drain(r.r, 100)
	if n != 0 || more || err != nil {
		t.Errorf("at the end: %d, %v, %v", n, more, err)
	}
}

func TestBadNamesAreRefused(t *testing.T) {
	r := newRig(t, Policy{})
	for _, s := range []*Sink{
		r.dir.Sink("../x", 0, "", Policy{}), r.dir.Sink("", 0, "", Policy{}), r.dir.Sink(".x", 0, "", Policy{}),
		r.dir.Sink("web", -1, "", Policy{}), r.dir.Sink("web", 0, "../../x", Policy{}),
	} {
		r.put("x")
		if n, _, err := s.Drain(r.r, 10); err == nil || n != 0 {
			t.Errorf("%v drained %d", s.stream, n)
		}
	}
	if list, _ := os.ReadDir(r.dir.path); len(list) != 0 {
		t.Errorf("made %v", list)
	}
	if _, err := r.dir.Read(Query{Program: "../x"}); err == nil {
		t.Error("read ../x")
	}
}

func TestNamesMayBeLongAndStrange(t *testing.T) {
	r := newRig(t, Policy{RotateBytes: 4, Keep: 5})
	for _, name := range []string{"hello world", "größe 🚀", strings.Repeat("ü", 64), "0.log", "a%2Fb\\"} {
		for _, st := range streams {
			s := r.dir.Sink(name, 12345, st, Policy{RotateBytes: 4, Keep: 5})
			for range 3 {
				r.put("abc\n")
				if _, _, err := s.Drain(r.r, 10); err != nil {
					t.Fatal(err)
				}
			}
			c, err := r.dir.Read(Query{Program: name, Index: 12345, Stream: st})
			if string(c.Data) != "abc\nabc\nabc\n" || err != nil {
				t.Errorf("%s %s: %q %v", name, st, c.Data, err)
			}
		}
		if got, err := r.dir.Streams(name, 12345); !slices.Equal(got, streams) {
			t.Errorf("streams of %s: %q %v", name, got, err)
		}
	}
}

func TestGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files to another group")
	}
	d, err := Open(t.TempDir()+"/log", 4321)
	must(t, err)
	defer d.Close()
	r := newRig(t, Policy{})
	r.put("x\n")
	_, _, err = d.Sink("web", 0, "", Policy{}).Drain(r.r, 10)
	must(t, err)
	for _, name := range []string{"", "/web", "/web/0.log", "/web/0.idx"} {
		var st unix.Stat_t
		must(t, unix.Stat(d.path+name, &st))
		if st.Gid != 4321 {
			t.Errorf("%s has group %d", name, st.Gid)
		}
	}
}

func TestIdleSinkCostsLittle(t *testing.T) {
	const n = 100
	r := newRig(t, Policy{})
	l, err := r.dir.takeLens() // one for all sinks
	must(t, err)
	r.dir.spare = append(r.dir.spare, l)
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(list)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	fds, bytes, threads := open(), heap(), runtime.NumGoroutine()
	for i := range n {
		s := r.dir.Sink("web", i, "", Policy{RotateBytes: 10, Keep: 10})
		s.BeginRun(uint64(i + 1))
		for range 3 {
			r.put("0123456789\n")
			_, _, err := s.Drain(r.r, 100)
			must(t, err)
		}
		s.Idle()
	}
	if got := open(); got > fds {
		t.Errorf("%d descriptors are open, %d before", got, fds)
	}
	if got := (heap() - bytes) / n; got > 1024 {
		t.Errorf("an idle sink has %d bytes", got)
	} else {
		t.Logf("an idle sink has %d bytes", got)
	}
	if got := runtime.NumGoroutine(); got != threads {
		t.Errorf("%d goroutines, %d before", got, threads)
	}
	if len(r.dir.sinks) < n {
		t.Errorf("%d sinks", len(r.dir.sinks))
	}
}

func TestBusyPipeGrowsAndIdleGivesItBack(t *testing.T) {
	r := newRig(t, Policy{})
	if size := pipeSize(r.r); size != pipeDefault {
		t.Skipf("pipes have %d bytes here", size)
	}
	for _, want := range []int{pipeDefault, pipeSome, pipeMax} {
		r.clock = r.clock.Add(time.Millisecond / 2)
		r.say(strings.Repeat("x", pipeSize(r.r)))
		if size := pipeSize(r.r); size != want {
			t.Errorf("a busy pipe has %d bytes, not %d", size, want)
		}
	}
	if d := r.sink.Delay(); d <= 0 || d > batch {
		t.Errorf("a busy pipe waits %v", d)
	}
	grown := r.dir.grown
	r.sink.BeginRun(2) // on the same pipe
	if r.dir.grown != grown || grown == 0 {
		t.Errorf("pipes got %d bytes, and %d after a new run", grown, r.dir.grown)
	}
	r.sink.Idle()
	if size := pipeSize(r.r); size != pipeDefault || r.dir.grown != 0 {
		t.Errorf("an idle pipe has %d bytes, %d in all", size, r.dir.grown)
	}
	r.clock = r.clock.Add(time.Second)
	r.say("x")
	if d := r.sink.Delay(); d != 0 {
		t.Errorf("after a pause a pipe waits %v", d)
	}
}

// Who is fast is expected to go on, also when it got no processor for a while.
func TestFastWriterThatStopsForAMoment(t *testing.T) {
	r := newRig(t, Policy{})
	if _, err := unix.FcntlInt(uintptr(r.w), unix.F_SETPIPE_SZ, pipeMax); err != nil {
		t.Skip("no large pipe here:", err)
	}
	say := func(after time.Duration, what string) time.Duration {
		r.clock = r.clock.Add(after)
		r.say(what)
		return r.sink.Delay()
	}
	say(0, "x")
	fast := say(time.Millisecond/2, strings.Repeat("x", 600_000))
	if !r.sink.pace.fast || fast <= 0 || fast > batch/2 {
		t.Errorf("a fast pipe waits %v", fast)
	}
	if d := say(5*time.Millisecond, "x"); d < fast || d > fast*5/4 {
		t.Errorf("it waits %v when it stopped for a moment, %v before", d, fast)
	}
	for range 3 * fastMemory / (10 * time.Millisecond) {
		say(10*time.Millisecond, "x")
	}
	if r.sink.pace.fast {
		t.Error("a slow pipe counts as fast")
	}
}

// A whole program: it writes at full speed, the loop of the documentation
// drains it, and all of it is there.
func TestWholeProgram(t *testing.T) {
	const total = 20_000_000
	r := newRig(t, Policy{RotateBytes: 1 << 20, Keep: 1000})
	r.dir.now = time.Now
	cmd := helper("write", total, 1)
	pipe := start(t, cmd)
	if n := drainAll(t, r.sink, pipe); n != total {
		t.Errorf("drained %d bytes", n)
	}
	checkLines(t, r, total/lineSize)
}

func checkLines(t *testing.T, r *rig, lines int) {
	t.Helper()
	next := 0
	q := Query{Program: "web", Limit: 1000 * lineSize}
	for {
		c, err := r.dir.Read(q)
		must(t, err)
		for b := c.Data; len(b) > 0; b = b[lineSize:] {
			if want := fmt.Sprintf("%010d", next); string(b[:10]) != want || b[lineSize-1] != '\n' {
				t.Fatalf("line %d is %q", next, b[:lineSize])
			}
			next++
		}
		if c.Next == c.End {
			break
		}
		q.Offset = &c.Next
	}
	if next != lines {
		t.Errorf("%d lines are there, %d were written", next, lines)
	}
}
