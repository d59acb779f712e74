package output

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func (r *rig) index() []record {
	r.Helper()
	b, err := os.ReadFile(r.file("0.idx"))
	if err != nil {
		r.Fatal(err)
	}
	return parseRecords(b)
}

func TestLinesAreDated(t *testing.T) {
	r := newRig(t, Policy{})
	begin := r.clock
	for i := range 100 {
		r.say(fmt.Sprintf("%03d\n", i)) // number i*4, after i*10 ms
		r.clock = r.clock.Add(10 * time.Millisecond)
	}
	if n := len(r.index()); n > 12 {
		t.Errorf("a second of output has %d records", n)
	}
	for i := range 100 {
		at := int64(i * 4)
		c := r.read(Query{Offset: &at, Limit: 4})
		came := begin.Add(time.Duration(i) * 10 * time.Millisecond)
		if len(c.Marks) == 0 || c.Marks[0].Offset > at {
			t.Fatalf("line %d has no date: %v", i, c.Marks)
		}
		if late := came.Sub(c.Marks[0].Time); late < 0 || late >= indexEvery {
			t.Errorf("line %d came %v after its date", i, late)
		}
		from, to := r.read(Query{Since: came}), r.read(Query{Until: came})
		if from.Offset > at || from.Offset < at-40 {
			t.Errorf("since line %d begins at %d", i, from.Offset)
		}
		if to.End <= at || to.End > at+44 {
			t.Errorf("until line %d ends at %d", i, to.End)
		}
	}
	if c := r.read(Query{Since: r.clock.Add(time.Minute)}); len(c.Data) != 0 || c.End != 400 {
		t.Errorf("the future has %q", c.Data)
	}
	if c := r.read(Query{Until: begin.Add(-time.Minute)}); len(c.Data) != 0 {
		t.Errorf("the time before has %q", c.Data)
	}
	c := r.read(Query{Since: begin.Add(200 * time.Millisecond), Until: begin.Add(500 * time.Millisecond), TailLines: 3})
	if c.Next != c.End || len(c.Data) != 12 {
		t.Errorf("the last lines of a span: %q", c.Data)
	}
}

// A pause before a record: what came before it is not of its time.
func TestSinceAfterAPause(t *testing.T) {
	r := newRig(t, Policy{})
	r.say("old\n")
	r.clock = r.clock.Add(time.Hour)
	since := r.clock.Add(-time.Minute)
	r.say("new\n")
	if c := r.read(Query{Since: since}); string(c.Data) != "new\n" {
		t.Errorf("since a minute ago: %q", c.Data)
	}
	if c := r.read(Query{Until: since}); string(c.Data) != "old\n" {
		t.Errorf("until a minute ago: %q", c.Data)
	}
}

func TestRunsAreCutOut(t *testing.T) {
	p := Policy{RotateBytes: 40, Keep: 100}
	r := newRig(t, p)
	want := map[uint64]string{}
	for run := uint64(1); run <= 20; run++ {
		r.sink.BeginRun(run)
		for i := range int(run % 4) { // every fourth says nothing
			line := fmt.Sprintf("run %d line %d\n", run, i)
			want[run] += line
			r.say(line)
			if run%5 == 0 { // the keeper is replaced in the middle of a run
				r.restart(p)
				r.sink.BeginRun(run)
			}
		}
		r.sink.EndRun()
		if run%3 == 0 {
			r.sink.Idle()
		}
	}
	for run := uint64(1); run <= 21; run++ {
		if c := r.read(Query{Run: run}); string(c.Data) != want[run] {
			t.Errorf("run %d said %q, not %q", run, c.Data, want[run])
		}
	}
	if c := r.read(Query{Run: 19, TailLines: 1}); string(c.Data) != "run 19 line 2\n" {
		t.Errorf("the last line of run 19 is %q", c.Data)
	}
}

// A run is found by what is left of it once its first record was thinned away,
// and times before the thinned part lose precision, not bytes.
func TestThinnedIndexStillFindsRunsAndTimes(t *testing.T) {
	records := []record{
		{kind: kindTime, time: 10e9, offset: 100, run: 7},
		{kind: kindCoarse, time: 20e9, offset: 200, run: 7},
		{kind: kindRun, time: 30e9, offset: 300, run: 8},
		{kind: kindTime, time: 40e9, offset: 400, run: 0},
		{kind: kindTime, time: 50e9, offset: 500, run: 9},
	}
	for run, want := range map[uint64][2]int64{7: {100, 300}, 8: {300, 500}, 9: {500, 1<<63 - 1}, 6: {0, 0}} {
		if from, to := runSpan(records, run); from != want[0] || to != want[1] {
			t.Errorf("run %d is [%d, %d)", run, from, to)
		}
	}
	for at, want := range map[int64]int64{5e9: 0, 15e9: 100, 25e9: 200, 30.05e9: 300, 35e9: 400, 60e9: 1<<63 - 1} {
		if from := since(records, at); from != want {
			t.Errorf("since %d s begins at %d, not %d", at/1e9, from, want)
		}
	}
}

func TestClockSetBack(t *testing.T) {
	r := newRig(t, Policy{})
	r.say("a\n")
	r.clock = r.clock.Add(-time.Hour)
	r.dir.now = func() time.Time { return r.clock }
	r.sink.indexed = time.Time{} // in a process the monotonic clock goes on
	r.say("b\n")
	r.clock = r.clock.Add(10 * time.Second)
	r.say("c\n")
	if c := r.read(Query{Since: r.clock.Add(-5 * time.Second)}); string(c.Data) != "c\n" {
		t.Errorf("since 5 s ago: %q", c.Data)
	}
}

func TestTornAndDamagedIndex(t *testing.T) {
	for cut := range recordSize {
		r := newRig(t, Policy{})
		r.say("one\n")
		r.clock = r.clock.Add(time.Second)
		r.say("two\n")
		r.clock = r.clock.Add(time.Second)
		b, err := os.ReadFile(r.file("0.idx"))
		must(t, err)
		damaged := bytes.Clone(b)
		if cut%2 == 0 {
			damaged = b[:len(b)-cut/2]
		} else {
			damaged[cut] ^= 0x10
		}
		must(t, os.WriteFile(r.file("0.idx"), damaged, 0o640))
		r.restart(Policy{})
		r.sink.BeginRun(3)
		r.say("three\n")
		r.want("one\ntwo\nthree\n")
		if c := r.read(Query{Run: 3}); string(c.Data) != "three\n" {
			t.Errorf("cut %d: run 3 is %q", cut, c.Data)
		}
		r.dir.Close()
	}
}

func TestIndexStaysBounded(t *testing.T) {
	r := newRig(t, Policy{})
	r.sink.BeginRun(1)
	r.say("first\n")
	var b []byte
	last := r.index()[len(r.index())-1]
	for i := range indexMax / recordSize {
		b = record{kind: kindTime, time: r.clock.UnixNano() + int64(i)*1e9, offset: 6, start: last.start, run: 1, inode: last.inode}.append(b)
	}
	f, err := os.OpenFile(r.file("0.idx"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.Write(b)
	must(t, err)
	must(t, f.Close())
	r.clock = r.clock.Add(time.Hour * 1000)
	r.sink.BeginRun(2)
	r.say("second\n")
	info, err := os.Stat(r.file("0.idx"))
	must(t, err)
	if info.Size() >= indexMax || info.Size() < indexMax/4 {
		t.Errorf("the index has %d bytes", info.Size())
	}
	if c := r.read(Query{Run: 2}); string(c.Data) != "second\n" {
		t.Errorf("run 2 is %q", c.Data)
	}
	r.restart(Policy{})
	r.say("third\n")
	r.want("first\nsecond\nthird\n")
}

func TestThinKeepsRunsAndEnds(t *testing.T) {
	var all []record
	for i := range indexMax / recordSize {
		k := kindTime
		if i%100 == 0 {
			k = kindRun
		}
		all = append(all, record{kind: k, offset: int64(i * 10), time: int64(i), run: uint64(i / 100)})
	}
	out := thin(all, 0)
	if n := len(out); n > indexMax/recordSize*3/4 {
		t.Fatalf("%d records are left", n)
	}
	if out[len(out)-1] != all[len(all)-1] {
		t.Error("the last record is gone")
	}
	out = thin(all, 100_005)
	if out[0].offset != 100_000 {
		t.Errorf("the first kept byte is 100005, the first record %d", out[0].offset)
	}
}

func FuzzIndex(f *testing.F) {
	good := record{kind: kindRun, time: 1, offset: 20, start: 10, run: 3, inode: 4}.append(nil)
	f.Add(good)
	f.Add(append(append([]byte{}, good...), good[:20]...))
	f.Add(bytes.Repeat([]byte{0}, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		records := parseRecords(b)
		for i, r := range records {
			if r.offset < r.start || r.start < 0 || r.kind >= kinds {
				t.Errorf("record %d is %+v", i, r)
			}
			if again, ok := parseRecord(r.append(nil)); !ok || again != r {
				t.Errorf("%+v came back as %+v", r, again)
			}
		}
		now := time.Unix(0, 5)
		from, to := span(records, Query{Since: now, Until: now, Run: 3})
		if from < 0 || to < 0 {
			t.Errorf("span %d to %d", from, to)
		}
		marks(records, 5, 50)
		thin(records, 7)
	})
}

func FuzzSegmentName(f *testing.F) {
	for _, s := range []string{"0.log.00000000000000000012", "0.stdout.log.09223372036854775807", "0.log.09223372036854775808", "0.log.+0000000000000000001", ".log.00000000000000000000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		base, start, ok := parseSegment(name)
		if ok && (base == "" || start < 0 || stream{base: base}.segment(start) != name) {
			t.Errorf("%q gave %q, %d", name, base, start)
		}
	})
}

// What a reader sees is always a part of the stream, whatever files there are.
func FuzzRead(f *testing.F) {
	f.Add(int64(0), 10, 0, uint64(0), int64(0))
	f.Add(int64(995), 3, 2, uint64(1), int64(3))
	f.Add(int64(-5), -1, 1<<30, uint64(9), int64(1)<<62)
	dir := f.TempDir()
	d, err := Open(dir, -1)
	if err != nil {
		f.Fatal(err)
	}
	must2 := func(name, data string) {
		_ = os.MkdirAll(dir+"/web", 0o755)
		if err := os.WriteFile(dir+"/web/"+name, []byte(data), 0o640); err != nil {
			f.Fatal(err)
		}
	}
	text := strings.Repeat("012345678\n", 100)
	must2("0.log.00000000000000000100", text[100:300]+"appended by somebody")
	must2("0.log.00000000000000000300", text[300:400])
	must2("0.log.00000000000000000600", text[600:900])
	must2("0.log", text[900:])
	f.Fuzz(func(t *testing.T, offset int64, limit, lines int, run uint64, ns int64) {
		for _, q := range []Query{{Offset: &offset}, {TailLines: lines}, {Since: time.Unix(0, ns)}, {Until: time.Unix(0, ns), Offset: &offset}, {Run: run}} {
			q.Program, q.Limit = "web", limit
			c, err := d.Read(q)
			if err != nil {
				t.Fatal(err)
			}
			if c.Offset < 0 || c.Next != c.Offset+int64(len(c.Data)) || c.Next > c.End || c.End > 1000 {
				t.Fatalf("%+v: %d %d %d", q, c.Offset, c.Next, c.End)
			}
			if string(c.Data) != text[c.Offset:c.Next] {
				t.Fatalf("%+v: %q", q, c.Data)
			}
		}
	})
}
