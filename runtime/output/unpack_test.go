package output

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// packOld compresses all put aside files, as somebody's cron job would.
func packOld(t *testing.T, r *rig) int {
	t.Helper()
	list, err := filepath.Glob(r.file("0.log.0*"))
	must(t, err)
	n := 0
	for _, name := range list {
		if !strings.HasSuffix(name, ".gz") {
			if out, err := exec.Command("gzip", name).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			n++
		}
	}
	return n
}

func needGzip(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("gzip"); err != nil {
		t.Skip("no gzip here")
	}
}

// Files that somebody compressed are read by offset, tail and time as they were
// before, and are removed when it is their turn.
func TestCompressedFilesAreRead(t *testing.T) {
	needGzip(t)
	for _, stamps := range []bool{false, true} {
		p := Policy{RotateBytes: 1000, Keep: 10, Timestamps: stamps}
		r := newRig(t, p)
		var all []string
		say := func(n int) {
			for range n {
				line := strings.Repeat(string(rune('a'+len(all)%26)), 20+len(all)%50) + "\n"
				all = append(all, line)
				r.clock = r.clock.Add(time.Second)
				r.say(line)
			}
		}
		say(100)
		text := func() string { return strings.Join(all, "") }
		before := r.all()
		if n := packOld(t, r); n < 3 {
			t.Fatalf("%d files were put aside", n)
		}
		if got := r.all(); got != before || !strings.HasSuffix(text(), got) {
			t.Errorf("timestamps %v: read %s, before %s", stamps, short(got), short(before))
		}
		for _, at := range []int64{int64(len(text()) - len(before)), int64(len(text())) - 3000, int64(len(text())) - 1500} {
			c := r.read(Query{Offset: &at, Limit: 100})
			if want := text()[at:][:len(c.Data)]; c.Offset != at || string(c.Data) != want || len(c.Data) == 0 {
				t.Errorf("timestamps %v: at %d: %d %q, want %q", stamps, at, c.Offset, c.Data, want)
			}
		}
		if c := r.read(Query{TailLines: 60, Limit: 20}); string(c.Data) != all[40][:20] {
			t.Errorf("timestamps %v: 60 lines ago: %q, want %q", stamps, c.Data, all[40])
		}
		if c := r.read(Query{Since: r.clock.Add(-50 * time.Second), Limit: 10}); !strings.HasPrefix(all[49], string(c.Data)) {
			t.Errorf("timestamps %v: 50 s ago: %q, want %q", stamps, c.Data, all[49])
		}
		// Others follow, also after a restart; the oldest go.
		r.restart(p)
		say(150)
		r.want(text()[len(text())-len(r.all()):])
		packOld(t, r)
		r.restart(p)
		say(20)
		r.want(text()[len(text())-len(r.all()):])
		if list, _ := filepath.Glob(r.file("0.log.*")); len(list) > p.Keep {
			t.Errorf("%d old files are kept: %v", len(list), list)
		}
	}
}

// The newest file of all may be a compressed one, and the index may be gone.
func TestCompressedFileIsTheLast(t *testing.T) {
	needGzip(t)
	r := newRig(t, Policy{RotateBytes: 100, Keep: 10})
	text := strings.Repeat("123456789\n", 25)
	r.say(text)
	packOld(t, r)
	must(t, exec.Command("rm", r.file("0.log"), r.file("0.idx")).Run())
	r.want(text[:200])
	r.restart(Policy{RotateBytes: 100, Keep: 10})
	r.say("goes on\n")
	if c := r.read(Query{TailLines: 1}); string(c.Data) != "goes on\n" || c.Offset != 200 {
		t.Errorf("%d %q", c.Offset, c.Data)
	}
}

// What only looks like one of ours is an error that names it, and harms nothing.
func TestBrokenCompressedFile(t *testing.T) {
	r := newRig(t, Policy{RotateBytes: 100, Keep: 10})
	r.say(strings.Repeat("123456789\n", 25))
	must(t, exec.Command("mv", r.file("0.log.00000000000000000000"), r.file("0.log.00000000000000000000.gz")).Run())
	if _, err := r.dir.Read(Query{Program: "web"}); err == nil || !strings.Contains(err.Error(), "0.log.00000000000000000000.gz") {
		t.Errorf("%v", err)
	}
	at := int64(100)
	if c := r.read(Query{Offset: &at}); len(c.Data) != 150 {
		t.Errorf("%q", c.Data)
	}
}
