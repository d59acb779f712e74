package output

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What was dropped and not yet told is told by the next keeper.
func TestCountOfDroppedOutlivesTheKeeper(t *testing.T) {
	r := full(t, Policy{Drop: true})
	r.say("before\n")
	ballast := filepath.Join(r.dir.path, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 8<<20), 0o640); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	for { // the rest of the file's last page
		r.put("lost line\n")
		r.clock = r.clock.Add(time.Second)
		if _, _, err := r.sink.Drain(r.r, Turn); err != nil {
			break
		}
	}
	for range 3 {
		kept := r.sink.Dropped()
		r.restart(Policy{Drop: true})
		r.put("lost line\n")
		if _, _, err := r.sink.Drain(r.r, Turn); !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		if got := r.sink.Dropped(); got != kept+10 {
			t.Errorf("the next keeper knows of %d dropped bytes, not %d", got, kept+10)
		}
	}
	dropped := r.sink.Dropped()
	r.restart(Policy{Drop: true})
	must(t, os.Remove(ballast))
	r.say("there again\n")
	text := r.content("0.log")
	if !strings.Contains(text, fmt.Sprintf("--- procnanny: %d bytes dropped", dropped)) || strings.Count(text, "---") != 2 {
		t.Errorf("%d bytes were dropped; the file ends %q", dropped, text[max(0, len(text)-200):])
	}
	r.restart(Policy{Drop: true})
	r.say("and again\n")
	if text := r.content("0.log"); strings.Count(text, "---") != 2 || r.sink.Dropped() != 0 {
		t.Errorf("told twice: %q", text[max(0, len(text)-200):])
	}
	c := r.read(Query{TailLines: 2})
	if string(c.Data) != "there again\nand again\n" {
		t.Errorf("read %q", c.Data)
	}
}
