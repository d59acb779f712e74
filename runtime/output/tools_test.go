package output

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bench is a log directory, a sink and a pipe to feed it.
type rig struct {
	*testing.T
	dir    *Dir
	sink   *Sink
	r, w   int
	alarms []string
	clock  time.Time
}

func newRig(t *testing.T, p Policy) *rig { return newRigIn(t, filepath.Join(t.TempDir(), "log"), p) }

func newRigIn(t *testing.T, path string, p Policy) *rig {
	t.Helper()
	d, err := Open(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, dir: d, clock: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)}
	d.OnAlarm(func(a Alarm) { r.alarms = append(r.alarms, a.Err.Error()) })
	d.now = func() time.Time { return r.clock }
	r.sink = d.Sink("web", 0, "", p)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	r.r, r.w = pipe[0], pipe[1]
	t.Cleanup(func() { d.Close(); unix.Close(r.r); unix.Close(r.w) })
	return r
}

// restart is a new process on the same files.
func (r *rig) restart(p Policy) {
	r.Helper()
	path := r.dir.path
	r.dir.Close()
	d, err := Open(path, -1)
	if err != nil {
		r.Fatal(err)
	}
	d.OnAlarm(func(a Alarm) { r.alarms = append(r.alarms, a.Err.Error()) })
	d.now = func() time.Time { return r.clock }
	r.dir, r.sink = d, d.Sink("web", 0, "", p)
}

// put writes to the pipe, and drains it whenever it is full.
func (r *rig) put(data string) {
	r.Helper()
	for len(data) > 0 {
		n, err := unix.Write(r.w, []byte(data))
		if err == unix.EAGAIN {
			r.drain()
			continue
		}
		if err != nil {
			r.Fatal(err)
		}
		data = data[n:]
	}
}

// drain takes all that is in the pipe.
func (r *rig) drain() {
	r.Helper()
	for more := true; more; {
		var err error
		if _, more, err = r.sink.Drain(r.r, Turn); err != nil {
			r.Fatal(err)
		}
	}
}

// say is put and drain.
func (r *rig) say(data string) {
	r.Helper()
	r.put(data)
	r.drain()
}

// in is the number of bytes in the pipe.
func (r *rig) in() int {
	r.Helper()
	n, err := unix.IoctlGetInt(r.r, unix.TIOCINQ)
	if err != nil {
		r.Fatal(err)
	}
	return n
}

func (r *rig) file(name string) string { return filepath.Join(r.dir.path, "web", name) }

func (r *rig) read(q Query) Chunk {
	r.Helper()
	q.Program = "web"
	c, err := r.dir.Read(q)
	if err != nil {
		r.Fatal(err)
	}
	return c
}

// want checks everything kept, page by page.
func (r *rig) want(data string) {
	r.Helper()
	if got := r.all(); got != data {
		r.Errorf("read %s\nwant %s", short(got), short(data))
	}
}

func (r *rig) all() string {
	r.Helper()
	var b strings.Builder
	q := Query{Limit: 1000}
	for {
		c := r.read(q)
		b.Write(c.Data)
		if c.Next >= c.End {
			return b.String()
		}
		q.Offset = &c.Next
	}
}

func short(s string) string {
	if len(s) > 300 {
		s = s[:150] + " ... " + s[len(s)-150:]
	}
	return s
}

func (r *rig) alarmed(part string) {
	r.Helper()
	for _, a := range r.alarms {
		if strings.Contains(a, part) {
			return
		}
	}
	r.Errorf("no alarm says %q: %q", part, r.alarms)
}

func (r *rig) content(name string) string {
	r.Helper()
	b, err := os.ReadFile(r.file(name))
	if err != nil {
		r.Fatal(err)
	}
	return string(b)
}

func (r *rig) names() []string {
	r.Helper()
	list, err := os.ReadDir(filepath.Join(r.dir.path, "web"))
	if err != nil {
		r.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
