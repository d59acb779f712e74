package output

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

// followed waits, with a deadline, until the watch names g.
func followed(t *testing.T, w *Watch, g Grown) {
	t.Helper()
	must(t, w.file.SetReadDeadline(time.Now().Add(5*time.Second)))
	for {
		list, err := w.Wait()
		if err != nil {
			t.Fatalf("waiting for %v: %v", g, err)
		}
		if slices.Contains(list, g) {
			return
		}
	}
}

func TestWatchTellsOfGrowth(t *testing.T) {
	r := newRig(t, Policy{RotateBytes: 100, Keep: 3})
	reader, err := Open(r.dir.path, -1)
	must(t, err)
	defer reader.Close()
	w, err := reader.Watch()
	must(t, err)
	must(t, w.Add("web")) // before there is anything
	q := Query{Program: "web"}
	got := ""
	for i := range 50 {
		line := fmt.Sprintf("line %d\n", i)
		r.say(line)
		followed(t, w, Grown{"web", 0, ""})
		c, err := reader.Read(q)
		must(t, err)
		if got += string(c.Data); !slices.Contains([]string{line}, string(c.Data)) {
			t.Fatalf("after %q comes %q", line, c.Data)
		}
		q.Offset = &c.Next
	}
	r.put("x")
	s := r.dir.Sink("web", 17, "stderr", Policy{})
	_, _, err = s.Drain(r.r, 10)
	must(t, err)
	followed(t, w, Grown{"web", 17, "stderr"})
	must(t, os.RemoveAll(r.file("")))
	followed(t, w, Grown{"web", -1, ""})
	if err := w.Add("../x"); err == nil {
		t.Error("watches ../x")
	}
	must(t, w.Close())
	if _, err := w.Wait(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestWatchForgetsWhatIsRemoved(t *testing.T) {
	r := newRig(t, Policy{})
	w, err := r.dir.Watch()
	must(t, err)
	defer w.Close()
	must(t, w.Add("web"))
	must(t, w.Add("other"))
	w.Remove("web")
	r.say("x\n")
	r.put("x")
	_, _, err = r.dir.Sink("other", 0, "", Policy{}).Drain(r.r, 10)
	must(t, err)
	must(t, w.file.SetReadDeadline(time.Now().Add(5*time.Second)))
	list, err := w.Wait()
	must(t, err)
	for _, g := range list {
		if g.Program == "web" {
			t.Errorf("tells of %v", g)
		}
	}
}

func FuzzInotify(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, '0', '.', 'l', 'o', 'g', 0, 0, 0})
	f.Add([]byte{255, 255, 255, 255, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		w := &Watch{fd: -1, programs: map[int32]string{1: "web"}}
		for _, g := range w.decode(b) {
			if g.Program != "web" || g.Index < -1 {
				t.Errorf("%+v", g)
			}
		}
	})
}
