package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/rpc/zmq"
)

func init() { roles["scribe"] = scribe }

// scribe writes numbered lines that begin with its run's number.
func scribe() {
	run := os.Getenv("PROCNANNY_RUN_ID")
	for i := 0; ; i++ {
		fmt.Println(run, i)
		time.Sleep(5 * time.Millisecond)
	}
}

// usualCuts is how many times the power is cut when machineVar does not say.
const usualCuts = 2

// The disk, and what its file system takes at once, bytes.
const (
	diskSize  = 192 << 20
	blockSize = 4096
)

// TestPowerCuts cuts the power of a machine whose people change things all the
// time, and lets it boot again: what they were told was done is so, no number is
// given out again, and what programs wrote is whole up to some point.
func TestPowerCuts(t *testing.T) {
	kernel(t)
	cuts := usualCuts
	if n, err := strconv.Atoi(machineWish("cuts")); err == nil {
		cuts = n
	}
	t.Parallel()
	dir := newGuestDir(t)
	disk := filepath.Join(dir, "disk")
	check(t, os.WriteFile(disk, nil, 0o600))
	check(t, os.Truncate(disk, diskSize))
	mkfs := exec.Command("mkfs.ext4", "-q", "-F", disk)
	mkfs.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := mkfs.CombinedOutput(); err != nil {
		t.Skipf("cannot make a file system: %v: %s", err, out)
	}
	l := &promises{t: t, acked: map[string]string{}, tried: map[string][]string{}}
	p := plan{
		Run:   []string{"%s/guest", "-test.v", "-test.timeout=3m", "-test.run=^TestGuestUnderPowerCuts$"},
		Files: map[string]string{"/run/config/p.json": cutConfig(t)},
	}
	for n := range cuts + 1 {
		p.Env = []string{firstVar + "=" + strconv.Itoa(l.number+1)}
		m := boot(t, dir, p, disk)
		m.until("BEGIN")
		if n < cuts { // some changes at least, and then whenever it comes
			m.until(fmt.Sprintf("ACK book %d", l.number+4+rand.IntN(8)))
			time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		}
		m.cut()
		said, _ := m.lines()
		l.judge(n, said)
		if t.Failed() {
			t.Fatalf("boot %d said:\n%s", n, m.text())
		}
	}
	t.Logf("%d cuts: %d changes were acknowledged, %d tries cut off", cuts, l.count, l.cutOff)
}

const firstVar = "PROCNANNY_TEST_FIRST"

// crashes is a crasher that costs little to start.
const crashes = `i=0; while [ $i -lt 20 ]; do echo $PROCNANNY_RUN_ID $i; i=$((i+1)); done; sleep 0.1; exit 3`

func cutConfig(t *testing.T) string {
	t.Helper()
	p := func(role string, more map[string]any) map[string]any {
		p := map[string]any{
			"command": guestDir + "/guest", "env": map[string]any{roleVar: role, ledgerVar: "/run"}, "start": map[string]any{"min_uptime": "0s"},
			"restart": map[string]any{"delay": "300ms", "factor": 1, "max_delay": "300ms"}, "output": map[string]any{"rotate": map[string]any{"size": 50_000, "keep": 1000}},
		}
		maps.Copy(p, more)
		return p
	}
	b, err := json.Marshal(map[string]any{"programs": map[string]any{
		"scribe": p("scribe", nil), "crasher": p("", map[string]any{"command": "sh", "args": []string{"-c", crashes}}), "toggle": p("sleeper", nil), "book": p("sleeper", map[string]any{"instances": 0}),
	}})
	check(t, err)
	return string(b)
}

// promises are what a guest was told.
type promises struct {
	t      *testing.T
	number int
	count  int
	cutOff int
	acked  map[string]string
	tried  map[string][]string // since it was acknowledged last
}

// judge reads what a guest said: TRY and ACK of changes, HAS of what it found
// after the boot, at most once of each key and before the first change.
func (l *promises) judge(boot int, said []string) {
	l.t.Helper()
	has := map[string]string{}
	begun := false
	for _, line := range said {
		f := strings.Fields(line)
		switch {
		case strings.Contains(line, "--- FAIL"):
			l.t.Errorf("in the guest: %s", line)
		case line == "BEGIN":
			begun = true
			l.compare(boot, has)
		case len(f) != 3:
		case f[0] == "HAS":
			has[f[1]] = f[2]
		case f[0] == "TRY":
			l.tried[f[1]] = append(l.tried[f[1]], f[2])
		case f[0] == "ACK":
			l.acked[f[1]], l.tried[f[1]] = f[2], nil
			l.count++
		}
	}
	if !begun {
		l.t.Errorf("boot %d did not come to its changes", boot)
	}
	l.number = atoi(cmp.Or(append(l.tried["book"], l.acked["book"])...))
	for _, values := range l.tried {
		l.cutOff += len(values)
	}
}

// compare holds what is there against what was acknowledged, or tried since.
func (l *promises) compare(boot int, has map[string]string) {
	l.t.Helper()
	for key, want := range l.acked {
		got := cmp.Or(has[key], "gone")
		if key == "seq" || key == "run" { // the first new one after the boot
			if atoi(got) <= atoi(want) {
				l.t.Errorf("boot %d: the first new %s is %s, and %s was given out before", boot, key, got, want)
			}
			continue
		}
		if got != want && !slices.Contains(l.tried[key], got) {
			l.t.Errorf("boot %d: %s is %q; %q was acknowledged, %q tried since", boot, key, got, want, l.tried[key])
		}
		if l.acked[key] = got; got == "gone" {
			delete(l.acked, key)
		}
	}
	l.tried = map[string][]string{}
}

func atoi(s string) int { n, _ := strconv.Atoi(s); return n }

// TestGuestUnderPowerCuts is what the machine of TestPowerCuts does, until it
// has no power.
func TestGuestUnderPowerCuts(t *testing.T) {
	if os.Getenv(guestVar) == "" || os.Getenv(firstVar) == "" {
		t.Skip("it needs a machine whose power is cut: TestPowerCuts has one")
	}
	if _, err := os.Stat(guestDisk + "/lost+found"); err != nil {
		t.Fatalf("there is no disk: %v", err)
	}
	p := &powered{mortal: &mortal{t: t, dir: "/run/p", stderr: os.Stdout}}
	check(t, os.MkdirAll(p.dir, 0o755))
	p.args = []string{"--config", "/run/config/p.json", "--state", guestDisk + "/state", "--run", p.dir + "/run", "--log-dir", guestDisk + "/log"}
	var err error
	p.client, err = zmq.Dial("ipc://"+p.dir+"/run/rpc.sock", untilTimeout)
	check(t, err)
	p.start()
	p.comes("scribe", "running")
	p.has()
	for _, program := range []string{"scribe", "crasher"} {
		p.judgeLines(program)
	}
	if t.Failed() {
		return
	}
	fmt.Println("BEGIN")
	for n := atoi(os.Getenv(firstVar)); ; n++ {
		p.change(n)
	}
}

// powered is a daemon on a machine whose power is cut.
type powered struct {
	*mortal
	seq int64 // of the last event that was seen
}

// has says what there is after a boot.
func (p *powered) has() {
	p.t.Helper()
	var reply struct {
		Overrides []struct {
			Program string `msgpack:"program"`
			Field   string `msgpack:"field"`
			Value   any    `msgpack:"value"`
		} `msgpack:"overrides"`
	}
	p.call("overrides", nil, &reply)
	toggle := "up"
	for _, o := range reply.Overrides {
		switch {
		case o.Program == "book":
			fmt.Println("HAS book", strings.TrimSuffix(fmt.Sprint(o.Value), "ms"))
		case o.Program == "toggle":
			toggle = "down"
		}
	}
	fmt.Println("HAS toggle", toggle)
	for name := range p.programs() {
		if strings.HasPrefix(name, "made-") {
			fmt.Println("HAS", name, "there")
		}
	}
	booted := float64(time.Now().UnixMilli()-bootClock()) / 1000
	first := int64(0)
	p.events(func(seq int64, at float64) {
		if at >= booted && first == 0 {
			first = seq
		}
	})
	fmt.Println("HAS seq", first)
	fmt.Println("HAS run", p.comes("scribe", "running").Run)
}

// programs are those that status shows, with their first instance.
func (p *powered) programs() map[string]seen {
	p.t.Helper()
	var reply struct {
		Programs map[string]struct {
			Instances map[int]seen `msgpack:"instances"`
		} `msgpack:"programs"`
	}
	p.call("status", nil, &reply)
	list := map[string]seen{}
	for name, program := range reply.Programs {
		list[name] = program.Instances[0]
	}
	return list
}

// events visits the events that were not seen yet.
func (p *powered) events(visit func(seq int64, at float64)) {
	p.t.Helper()
	for more := true; more; {
		var page struct {
			Events []struct {
				Seq  int64   `msgpack:"seq"`
				Time float64 `msgpack:"time"`
			} `msgpack:"events"`
			More bool `msgpack:"more"`
		}
		p.call("events", map[string]any{"since": p.seq, "limit": 5000}, &page)
		for _, e := range page.Events {
			p.seq = e.Seq
			visit(e.Seq, e.Time)
		}
		more = page.More
	}
}

// judgeLines: what a program wrote begins with its first line, and of each run's
// lines none is missing but the last ones, where the power was cut.
func (p *powered) judgeLines(program string) {
	p.t.Helper()
	wrote, last := map[int]int{}, 0
	for _, line := range p.output(program + "/0") {
		// ext4 may have kept the size of what was appended to a block, and not its
		// bytes: then there are NULs in their place.
		text := bytes.ReplaceAll(line, []byte{0}, nil)
		if len(line)-len(text) >= blockSize {
			p.t.Errorf("%s: %d bytes that nobody wrote follow line %d of run %d", program, len(line)-len(text), wrote[last]-1, last)
			return
		}
		if len(text) == 0 { // nothing was on the disk
			continue
		}
		run, n, ok := nextLine(string(text), last, wrote)
		if !ok {
			p.t.Errorf("%s: %q follows line %d of run %d", program, line, wrote[last]-1, last)
			return
		}
		last = run
		wrote[run] = n + 1
	}
}

// change is the change with a number: it says what it tries, and what was
// acknowledged.
func (p *powered) change(n int) {
	p.t.Helper()
	ask := func(key, value, method string, args map[string]any) {
		p.t.Helper()
		fmt.Println("TRY", key, value)
		p.call(method, args, nil)
		fmt.Println("ACK", key, value)
	}
	text := strconv.Itoa(n)
	ask("book", text, "set", map[string]any{"program": "book", "field": "start.min_uptime", "value": text + "ms", "reason": text})
	switch n % 4 {
	case 0:
		ask("toggle", "down", "stop", map[string]any{"program": "toggle"})
	case 1:
		ask("toggle", "up", "start", map[string]any{"program": "toggle"})
	case 2:
		name := "made-" + text
		ask(name, "there", "create", map[string]any{"program": name, "command": "sleep", "args": []string{"1000"}, "instances": n % 3})
		if old := fmt.Sprint("made-", n-16); p.programs()[old] != (seen{}) {
			ask(old, "gone", "delete", map[string]any{"program": old})
		}
	case 3:
		p.events(func(int64, float64) {})
		fmt.Println("ACK seq", p.seq)
		fmt.Println("ACK run", max(p.programs()["scribe"].Run, p.programs()["crasher"].Run))
	}
}
