package output

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestTail(t *testing.T) {
	r := newRig(t, Policy{RotateBytes: 100, Keep: 100})
	if c := r.read(Query{TailLines: 3}); len(c.Data) != 0 || c.End != 0 {
		t.Errorf("nothing has %+v", c)
	}
	var lines []string
	for i := range 50 {
		line := fmt.Sprintf("line %d\n", i)
		if i%10 == 3 {
			line = "\n"
		}
		if i == 49 {
			line = "unended"
		}
		lines = append(lines, line)
		r.say(line)
	}
	for n := 1; n <= 60; n++ {
		want := strings.Join(lines[max(0, 50-n):], "")
		if c := r.read(Query{TailLines: n}); string(c.Data) != want {
			t.Fatalf("the last %d lines: %q, want %q", n, c.Data, want)
		}
	}
	end := r.read(Query{}).End
	at := end - 9
	if c := r.read(Query{TailLines: 1, Offset: &at}); c.Offset != at {
		t.Errorf("offset goes before tail, not %d", c.Offset)
	}
	at = end + 100
	if c := r.read(Query{Offset: &at}); c.Offset != end || c.Next != end || len(c.Data) != 0 {
		t.Errorf("beyond the end is %+v", c)
	}
}

func TestTailOfLongLines(t *testing.T) {
	r := newRig(t, Policy{})
	long := strings.Repeat("x", 3*tailBlock)
	r.say("first\n" + long + "\n" + long + "\n")
	for n, want := range map[int]int{1: len(long) + 1, 2: 2*len(long) + 2, 3: 2*len(long) + 8} {
		if c := r.read(Query{TailLines: n}); len(c.Data) != want {
			t.Errorf("the last %d lines have %d bytes, not %d", n, len(c.Data), want)
		}
	}
}

func TestPagesJumpGaps(t *testing.T) {
	r := newRig(t, Policy{RotateBytes: 10, Keep: 100})
	for i := range 6 {
		r.say(fmt.Sprintf("%09d\n", i))
	}
	must(t, os.Remove(r.file(fmt.Sprintf("0.log.%020d", 0))))
	must(t, os.Remove(r.file(fmt.Sprintf("0.log.%020d", 20))))
	at := int64(5)
	c := r.read(Query{Offset: &at})
	if c.Offset != 10 || string(c.Data) != "000000001\n" || c.Next != 20 || c.End != 60 {
		t.Errorf("the first page: %d %q %d %d", c.Offset, c.Data, c.Next, c.End)
	}
	c = r.read(Query{Offset: &c.Next, Limit: 15})
	if c.Offset != 30 || string(c.Data) != "000000003\n00000" {
		t.Errorf("the second page: %d %q", c.Offset, c.Data)
	}
	if c := r.read(Query{TailLines: 4}); c.Offset != 10 {
		t.Errorf("the last 4 lines begin at %d", c.Offset)
	}
}

// Readers see a whole stream while it is rotated and pruned under them.
func TestReadWhileRotating(t *testing.T) {
	r := newRig(t, Policy{RotateBytes: 2000, Keep: 5})
	r.dir.now = time.Now
	reader, err := Open(r.dir.path, -1)
	must(t, err)
	defer reader.Close()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for k := range 3 {
		wg.Go(func() { follow(t, reader, k, done) })
	}
	for i := range 5000 {
		r.say(fmt.Sprintf("%09d\n", i))
	}
	close(done)
	wg.Wait()
}

// follow pages through the stream; each page must hold the bytes its offset
// says.
func follow(t *testing.T, d *Dir, k int, done chan struct{}) {
	q := Query{Program: "web", Limit: 500 + k}
	for {
		if k == 2 {
			q.Offset, q.TailLines = nil, 5
		}
		c, err := d.Read(q)
		if err != nil {
			t.Error(err)
			return
		}
		for i, b := range c.Data {
			at := c.Offset + int64(i)
			if want := fmt.Sprintf("%09d\n", at/10)[at%10]; b != want {
				t.Errorf("byte %d of [%d, %d) is %q, not %q", at, c.Offset, c.Next, b, want)
				return
			}
		}
		next := c.Next
		q.Offset = &next
		select {
		case <-done:
			if c.Next == c.End || k == 2 {
				return
			}
		default:
		}
	}
}

// Finding a byte among many files must not compare each file with each record.
func TestManyFilesAreFoundQuickly(t *testing.T) {
	r := newRig(t, Policy{RotateBytes: 10 << 20, Keep: 2000})
	r.say("x\n")
	var b []byte
	const files, each, size = 500, 60, 1 << 20
	for i := range files {
		start := int64(i) * size
		name := r.file(fmt.Sprintf("0.log.%020d", start))
		must(t, os.WriteFile(name, nil, 0o640))
		must(t, os.Truncate(name, size)) // sparse
		for k := range each {
			at, pos := r.clock.Add(time.Duration(i*each+k-files*each)*time.Second), int64(k*size/each)
			b = record{kind: kindTime, time: at.UnixNano(), offset: start + pos, start: start, pos: pos, run: 1, inode: 5}.append(b)
		}
	}
	must(t, os.WriteFile(r.file("0.idx"), b, 0o640))
	best := time.Hour
	for range 5 {
		begin := time.Now()
		c := r.read(Query{Since: r.clock.Add(-time.Minute), Limit: 1000})
		best = min(best, time.Since(begin))
		if want := int64((files-1)*size + size/each); len(c.Data) != 1000 || c.Offset > want || c.Offset < want-2*size/each {
			t.Fatalf("%d bytes from %d on", len(c.Data), c.Offset)
		}
	}
	t.Logf("the first page took %v", best)
	if best > 300*time.Millisecond { // about 10 ms where nobody else works
		t.Errorf("the first page took %v", best)
	}
}

// --since one minute back in much kept output must not read it.
func TestSinceIsQuick(t *testing.T) {
	r := newRig(t, Policy{RotateBytes: 1 << 20, Keep: 1000})
	piece := bytes.Repeat([]byte("0123456789abcde\n"), 4096)
	for range 256 {
		r.clock = r.clock.Add(time.Second)
		r.say(string(piece))
	}
	begin := time.Now()
	c := r.read(Query{Since: r.clock.Add(-time.Minute), Limit: 1000})
	took := time.Since(begin)
	if c.Offset != int64(len(piece)*(256-61)) || len(c.Data) != 1000 {
		t.Errorf("since a minute ago: %d, %d bytes", c.Offset, len(c.Data))
	}
	t.Logf("the first page took %v", took)
	if took > 30*time.Second { // it is not read from the beginning; a busy machine is no fault
		t.Errorf("the first page took %v", took)
	}
}

func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	d, err := Open(dir, -1)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	if err := os.MkdirAll(dir+"/web", 0o755); err != nil {
		b.Fatal(err)
	}
	text := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)
	for i := range 10 {
		if err := os.WriteFile(fmt.Sprintf("%s/web/0.log.%020d", dir, i<<20), text, 0o640); err != nil {
			b.Fatal(err)
		}
	}
	for name, q := range map[string]Query{"page": {Limit: 64 << 10}, "tail": {TailLines: 100}} {
		q.Program = "web"
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := d.Read(q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
