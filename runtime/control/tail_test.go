package control

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/procnanny/procnanny/runtime/output"
	"github.com/procnanny/procnanny/runtime/place"
)

// fickle is a transport to which somebody subscribes as long as they want.
type fickle struct {
	topics
	wanted bool
}

func (f *fickle) Subscribed(string) bool { return f.wanted }

// Who no longer wants the output of a loud program is not read for: neither what
// was left for later, nor, when somebody comes again, what was written meanwhile.
func TestUnwantedOutputIsNotRead(t *testing.T) {
	dir := t.TempDir()
	logs, err := output.Open(dir, -1)
	if err != nil {
		t.Fatal(err)
	}
	net := &fickle{wanted: true}
	c := &Control{cfg: Config{Place: place.Daemon{LogDir: dir}}, log: slog.New(slog.DiscardHandler), logs: logs, rec: &recorder{}}
	c.rec.attach(net)
	tl := newTail(c)
	if tl.watch, err = logs.Watch(); err != nil {
		t.Fatal(err)
	}
	defer tl.watch.Close()
	tl.follow([]string{"web"})
	file := filepath.Join(dir, "web", "0.log")
	if err := os.WriteFile(file, make([]byte, 2*tailBurst*tailChunk), 0o640); err != nil {
		t.Fatal(err)
	}
	tl.grew(output.Grown{Program: "web"})
	if len(net.got) != tailBurst || len(tl.left) != 1 {
		t.Fatalf("published %d chunks, left %d streams for later", len(net.got), len(tl.left))
	}
	net.wanted = false
	tl.follow(nil)
	tl.goOn()
	if len(tl.at)+len(tl.left) != 0 {
		t.Errorf("nobody wants it, and it was read to %v", tl.at)
	}
	if err := os.WriteFile(file, make([]byte, 3*tailBurst*tailChunk), 0o640); err != nil {
		t.Fatal(err)
	}
	net.wanted, net.got = true, nil
	tl.follow([]string{"web"})
	tl.grew(output.Grown{Program: "web"})
	if len(net.got) != 0 {
		t.Errorf("published %d chunks from before somebody came again", len(net.got))
	}
}
