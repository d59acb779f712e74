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

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc/zmq"
	"github.com/procnanny/procnanny/runtime/place"
)

func init() { roles["scribe"] = scribe }

// scribe writes numbered lines that begin with its run's number.
func scribe() {
	run := os.Getenv("PROCNANNY_RUN_ID")
	for i := 0; ; i++ {
		fmt.Println(run, i)
		time.Sleep(20 * time.Millisecond)
	}
}

// usualCuts is how many times the power is cut when machineVar does not say.
const usualCuts = 2 * bootCuts

// The disk, and what its file system takes at once, bytes.
const (
	diskSize  = 96 << 20
	blockSize = 4096
)

const (
	bootCuts   = 15 // are made of what a machine did between two boots; as many disks more has one
	cutChanges = 20 // that it acknowledges at least before it ends
)

// TestPowerCuts cuts the power of a machine whose people change things all the
// time, and lets it boot again: what they were told was done is so, no number is
// given out again, and what programs wrote is whole up to some point. What the
// machine does is written down, and the power is cut afterwards, at many points of
// it, each on a disk of its own, from which one goes on.
func TestPowerCuts(t *testing.T) {
	kernel(t)
	cuts := usualCuts
	if n, err := strconv.Atoi(machineWish("cuts")); err == nil {
		cuts = n
	}
	t.Parallel()
	dir := newGuestDir(t)
	l := &lab{
		t: t, dir: dir, library: loaded(t, dir, "writeback", writebackSource), disk: filepath.Join(dir, "disk"), record: filepath.Join(memoryDir(dir), filepath.Base(dir)+".record"),
		known: &promises{acked: map[string]string{}, tried: map[string][]string{}},
	}
	t.Cleanup(func() { os.Remove(l.record) })
	check(t, os.WriteFile(l.disk, nil, 0o600))
	check(t, os.Truncate(l.disk, diskSize))
	mkfs := exec.Command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", l.disk)
	mkfs.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := mkfs.CombinedOutput(); err != nil {
		t.Skipf("cannot make a file system: %v: %s", err, out)
	}
	for l.count.cuts < cuts && !t.Failed() {
		l.run()
		l.cut(min(bootCuts, cuts-l.count.cuts))
		t.Logf("%d cuts (%d right after an acknowledgement, %d with a write that was torn, %d that lost all that was not flushed): %d times what was acknowledged was there; %d writes and %d flushes",
			l.count.cuts, l.count.acked, l.count.torn, l.count.none, l.count.told, l.count.writes, l.count.flushes)
	}
}

// lab is where a machine is run, and its power cut.
type lab struct {
	t       *testing.T
	dir     string
	library string // has the kernel write down what it does
	disk    string // as it was before the machine ran
	record  string
	steps   []step
	known   *promises // what held when it was booted
	count   struct{ cuts, acked, torn, none, told, writes, flushes int }
}

// run boots the machine on the disk, and lets it do things for a while.
func (l *lab) run() {
	l.t.Helper()
	check(l.t, os.RemoveAll(l.record))
	before, err := os.ReadFile(l.disk)
	check(l.t, err)
	m := bootWith(l.t, l.dir, plan{
		Run:   []string{"%s/guest", "-test.v", "-test.timeout=10m", "-test.run=^TestGuestUnderPowerCuts$"},
		Env:   []string{firstVar + "=" + strconv.Itoa(l.known.number()+1)},
		Files: map[string]string{"/run/config/p.json": cutConfig(l.t)},
	}, hardware{disks: []string{l.disk}, env: []string{l.library, "PROCNANNY_TEST_DISK=" + l.disk, "PROCNANNY_TEST_RECORD=" + l.record}})
	m.until("BEGIN")
	m.until(fmt.Sprintf("ACK book %d", l.known.number()+cutChanges+rand.IntN(cutChanges)))
	m.cut()
	raw, err := os.ReadFile(l.record)
	check(l.t, err)
	l.steps = stepsOf(raw)
	saveDisk(l.t, l.disk, before)
	for _, s := range l.steps {
		switch s.kind {
		case 'W':
			l.count.writes++
		case 'F':
			l.count.flushes++
		}
	}
	if l.count.flushes == 0 {
		l.t.Fatalf("the disk was never told to keep anything: %d steps", len(l.steps))
	}
}

// aCut is a cut of the power: the disk after it, and what was known.
type aCut struct {
	after int // steps
	seed  uint64
	keep  float64
	torn  bool
	known *promises
}

// cuts are n points at which the power is cut: after an acknowledgement, before a
// flush, and anywhere.
func (l *lab) cuts(n int) []*aCut {
	points := map[int][]int{}
	for i, s := range l.steps {
		switch {
		case s.kind == 'F':
			points[1] = append(points[1], i)
		case s.kind == 'C' && bytes.Contains(s.data, []byte("ACK")):
			points[0] = append(points[0], i+1)
		}
	}
	list := make([]*aCut, n)
	for i := range list {
		c := &aCut{after: rand.IntN(len(l.steps)), seed: rand.Uint64(), keep: []float64{0, 0, 0.2, 0.5, 0.8}[rand.IntN(5)], torn: rand.IntN(2) == 0}
		if near := points[i%3]; len(near) > 0 {
			c.after = near[rand.IntN(len(near))]
		}
		if i%3 == 0 {
			l.count.acked++
		}
		if c.keep == 0 {
			l.count.none++
		} else if c.torn {
			l.count.torn++
		}
		c.known = l.known.after(l.steps[:c.after])
		list[i] = c
	}
	l.count.cuts += n
	return list
}

// image is the disk after a cut.
func (l *lab) image(c *aCut) []byte {
	l.t.Helper()
	image, err := os.ReadFile(l.disk)
	check(l.t, err)
	cutDisk(image, l.steps[:c.after], c.keep, c.torn, rand.New(rand.NewPCG(c.seed, 0)))
	return image
}

// cut cuts the power n times, sees to it that all is well after each, and goes on
// from one of them.
func (l *lab) cut(n int) {
	l.t.Helper()
	list := l.cuts(n)
	disks := []string{""}
	for i, c := range list {
		disks = append(disks, filepath.Join(l.dir, fmt.Sprint("disk", i+1)))
		saveDisk(l.t, disks[i+1], l.image(c))
	}
	m := bootWith(l.t, l.dir, plan{
		Run:   []string{"%s/guest", "-test.v", "-test.timeout=10m", "-test.run=^TestGuestAfterPowerCuts$"},
		Env:   []string{imagesVar + "=" + strconv.Itoa(n)},
		Files: map[string]string{"/run/config/p.json": cutConfig(l.t)},
	}, hardware{disks: disks})
	said := m.over()
	m.results(said)
	for i, c := range list {
		l.count.told += len(c.known.acked)
		if held := c.known.compare(said, i+1); len(held) > 0 {
			l.t.Errorf("cut after step %d of %d, seed %d, keeping %v, torn %v:\n%s", c.after, len(l.steps), c.seed, c.keep, c.torn, strings.Join(held, "\n"))
		}
	}
	if l.t.Failed() {
		l.keep(list)
		return
	}
	next := list[rand.IntN(n)]
	saveDisk(l.t, l.disk, l.image(next))
	l.known = next.known
}

// keepVar is a directory for the disks of cuts after which something was wrong.
const keepVar = "PROCNANNY_TEST_KEEP"

func (l *lab) keep(list []*aCut) {
	if dir := os.Getenv(keepVar); dir != "" {
		for i, c := range list {
			saveDisk(l.t, filepath.Join(dir, fmt.Sprint("cut", i+1)), l.image(c))
		}
	}
}

// crashes is a crasher that costs little to start.
const crashes = `i=0; while [ $i -lt 20 ]; do echo $PROCNANNY_RUN_ID $i; i=$((i+1)); done; sleep 0.1; exit 3`

// What tests in guests are told.
const (
	firstVar  = "PROCNANNY_TEST_FIRST"
	imagesVar = "PROCNANNY_TEST_IMAGES"
)

func cutConfig(t *testing.T) string {
	t.Helper()
	p := func(role string, more map[string]any) map[string]any {
		p := map[string]any{
			"command": guestDir + "/guest", "env": map[string]any{roleVar: role, ledgerVar: "/run"}, "start": map[string]any{"min_uptime": "0s"},
			"restart": map[string]any{"delay": "1s", "factor": 1, "max_delay": "1s"}, "output": map[string]any{"rotate": map[string]any{"size": 50_000, "keep": 1000}},
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

// promises are what people were told, by key: TRY and ACK lines of a guest.
type promises struct {
	acked map[string]string
	tried map[string][]string // since it was acknowledged last
}

// number is that of the last change that was tried.
func (p *promises) number() int {
	return atoi(cmp.Or(append(slices.Clone(p.tried["book"]), p.acked["book"])...))
}

// after is what was promised when the steps were done.
func (p *promises) after(steps []step) *promises {
	now := &promises{acked: maps.Clone(p.acked), tried: map[string][]string{}}
	for key, values := range p.tried {
		now.tried[key] = slices.Clone(values)
	}
	var said []byte
	for _, s := range steps {
		if s.kind == 'C' {
			said = append(said, s.data...)
		}
	}
	lines := strings.Split(string(said), "\n")
	for i, line := range lines {
		f := strings.Fields(line)
		switch {
		case len(f) != 3:
		case f[0] == "TRY":
			now.tried[f[1]] = append(now.tried[f[1]], f[2])
		case f[0] == "ACK" && i < len(lines)-1: // the last one is not told to its end
			now.acked[f[1]], now.tried[f[1]] = f[2], nil
		}
	}
	return now
}

// compare holds what a guest found after a cut (HAS lines between CUT and END)
// against what was promised, and keeps what is there: all of it was either
// acknowledged or tried.
func (p *promises) compare(said []string, cut int) (broken []string) {
	has, end := map[string]string{}, fmt.Sprint("END ", cut)
	begin := slices.Index(said, fmt.Sprint("CUT ", cut))
	if begin < 0 || !slices.Contains(said[begin:], end) {
		return []string{"nobody came to its end"}
	}
	for _, line := range said[begin:slices.Index(said, end)] {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "HAS" {
			has[f[1]] = f[2]
		}
	}
	for key, want := range p.acked {
		got := cmp.Or(has[key], "gone")
		switch {
		case key == "seq" || key == "run": // the first new one after the boot
			if atoi(got) <= atoi(want) {
				broken = append(broken, fmt.Sprintf("the first new %s is %s, and %s was given out before", key, got, want))
			}
		case got == want || slices.Contains(p.tried[key], got):
			if p.acked[key] = got; got == "gone" {
				delete(p.acked, key)
			}
		default:
			broken = append(broken, fmt.Sprintf("%s is %q; %q was acknowledged, %q tried since", key, got, want, p.tried[key]))
		}
	}
	for key, values := range p.tried {
		if got, ok := has[key]; ok && slices.Contains(values, got) {
			p.acked[key] = got
		}
	}
	p.tried = map[string][]string{}
	return broken
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
	p := newPowered(t, "/run/p", guestDisk)
	if p.found(); t.Failed() {
		return
	}
	fmt.Println("BEGIN")
	for n := atoi(os.Getenv(firstVar)); ; n++ {
		p.change(n)
	}
}

// TestGuestAfterPowerCuts is what the machine does that was given its disks: of
// each it says what it finds there.
func TestGuestAfterPowerCuts(t *testing.T) {
	n := atoi(os.Getenv(imagesVar))
	if os.Getenv(guestVar) == "" || n == 0 {
		t.Skip("it needs disks of a machine whose power was cut: TestPowerCuts has some")
	}
	for i := 1; i <= n; i++ {
		where, dir := fmt.Sprint("/run/disk", i), fmt.Sprint("/run/p", i)
		check(t, os.Mkdir(where, 0o755))
		check(t, unix.Mount("/dev/ubd"+string(rune('a'+i)), where, "ext4", 0, ""))
		fmt.Println("CUT", i)
		t.Run(strconv.Itoa(i), func(t *testing.T) { newPowered(t, dir, where).found() })
		fmt.Println("END", i)
		check(t, poll(func() (bool, string) {
			err := unix.Unmount(where, 0)
			return err == nil, fmt.Sprint(err)
		}))
	}
}

func newPowered(t *testing.T, dir, disk string) *powered {
	t.Helper()
	p := &powered{mortal: &mortal{t: t, dir: dir}}
	check(t, os.MkdirAll(p.dir, 0o755))
	var err error
	p.stderr, err = os.Create(dir + "/stderr")
	check(t, err)
	t.Cleanup(func() { p.stderr.Close() })
	p.args = []string{"--config", "/run/config/p.json", "--state", disk + "/state", "--run", p.dir + "/run", "--log-dir", disk + "/log"}
	p.client, err = zmq.Dial("ipc://"+p.dir+"/run/rpc.sock", untilTimeout)
	check(t, err)
	t.Cleanup(func() { p.client.Close() })
	t.Cleanup(p.end)
	check(t, poll(func() (bool, string) { // a busy host may take so long that the first one gives up
		if pid, _ := place.Holder(dir + "/run"); pid == 0 {
			p.start()
		}
		_, err := p.ask()
		return err == nil, fmt.Sprint(err)
	}))
	return p
}

// found says what there is after a boot, and judges what programs wrote before.
func (p *powered) found() {
	p.t.Helper()
	p.comes("scribe", "running")
	p.has()
	for _, program := range []string{"scribe", "crasher"} {
		p.judgeLines(program)
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
