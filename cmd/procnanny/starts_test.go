package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/runtime/daemontest"
)

func init() { roles["flash"] = flash }

const (
	// startsVar sets how many starts TestOneCopyAtMost makes.
	startsVar = "PROCNANNY_TEST_STARTS"
	flashes   = 4 // programs that live short, each with as many instances
)

// count is how often something is done: what a variable says, else the usual, and
// less of it where time is short.
func count(variable string, usual, short int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil {
		return n
	}
	if testing.Short() {
		return short
	}
	return usual
}

// flash holds the lock of its instance for a moment, or now and then for longer,
// so that somebody who lives on unknown to us is in the way of the next one. What
// starts is written down.
func flash() {
	lock := hold()
	started, err := os.OpenFile(filepath.Join(os.Getenv(ledgerVar), "started"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		os.Exit(251)
	}
	fmt.Fprintf(started, "%s.%s %s\n", os.Getenv("PROCNANNY_PROGRAM"), os.Getenv("PROCNANNY_INSTANCE"), os.Getenv("PROCNANNY_RUN_ID"))
	life := time.Duration(rand.IntN(20)) * time.Millisecond
	if rand.IntN(20) == 0 {
		life *= 20
	}
	time.Sleep(life)
	runtime.KeepAlive(lock)
	os.Exit(rand.IntN(2))
}

// Programs that end at once and are started again without a pause, while control,
// the keeper or both are killed: never do two copies of one live at a time, and no
// run is started twice.
func TestOneCopyAtMost(t *testing.T) {
	t.Parallel()
	want := count(startsVar, 200, 100)
	m := newMortalWith(t, mortalOptions{change: func(programs map[string]any) {
		one := programs["crasher0"].(map[string]any)
		for i := range crashers {
			delete(programs, fmt.Sprintf("crasher%d", i))
		}
		one["instances"] = flashes
		one["env"].(map[string]any)[roleVar] = "flash"
		one["restart"] = map[string]any{"delay": "0s", "factor": 1, "max_delay": "0s", "jitter": 0, "flap": map[string]any{"count": 1_000_000}}
		for i := range flashes {
			programs[fmt.Sprintf("flash%d", i)] = one
		}
	}})
	w := m.settled(time.Time{})
	for n := 0; n < want; n = m.started() {
		m.dawdle()
		w = kinds[[]int{0, 0, 1, 1, 3}[rand.IntN(5)]].do(m, w)
	}
	if out, err := exec.Command(daemontest.Bin("procnanny"), "--run", m.dir+"/run", "stop", "--all", "--wait").CombinedOutput(); err != nil {
		t.Fatalf("cannot stop: %v\n%s", err, out)
	}
	if overlaps, _ := filepath.Glob(m.dir + "/ledger/*.overlap"); len(overlaps) > 0 {
		t.Errorf("two copies at once: %v", overlaps)
	}
	raw, err := os.ReadFile(m.dir + "/ledger/started")
	check(t, err)
	seen := map[string]bool{}
	for line := range strings.Lines(string(raw)) {
		if seen[line] {
			t.Errorf("%s was started twice", strings.TrimSpace(line))
		}
		seen[line] = true
	}
	t.Logf("%d starts, %d deaths", len(seen), m.deaths)
}

// started is how many starts of flashes there were.
func (m *mortal) started() int {
	raw, err := os.ReadFile(m.dir + "/ledger/started")
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	return bytes.Count(raw, []byte("\n"))
}
