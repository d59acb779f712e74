package launch

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// threaded starts a process with several threads; it ends with the test.
func threaded(t *testing.T, change func(r *Request)) Process {
	t.Helper()
	in, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ready, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r := helper(t, "threads")
	if change != nil {
		change(r)
	}
	p := start(t, r, Stdio{In: int(in.Fd()), Out: int(out.Fd()), Err: -1}, -1)
	in.Close()
	out.Close()
	t.Cleanup(func() { hold.Close(); ready.Close() })
	if _, err := ready.Read(make([]byte, 10)); err != nil {
		t.Fatalf("the helper ended: %v", err)
	}
	return p
}

func tids(t *testing.T, pid int) []int {
	t.Helper()
	list, err := os.ReadDir(procPath(pid, "task"))
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, e := range list {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	if len(out) < 2 {
		t.Fatalf("process %d has %d threads", pid, len(out))
	}
	return out
}

func TestTuneReachesEveryThread(t *testing.T) {
	p := threaded(t, nil)
	tuning := spec.Tuning{
		Nice: new(7), IONice: &spec.IONice{Class: "idle"}, Limits: map[string]spec.Limit{"core": {Soft: 1, Hard: 2}, "nofile": {Soft: 50, Hard: 60}},
		CPUs: "0", Sched: &spec.Sched{Policy: "batch"}, OOMScoreAdj: new(300),
	}
	if refused := Tune(p.PID, tuning, ""); len(refused) > 0 {
		t.Fatalf("refused: %v", refused)
	}
	for _, tid := range tids(t, p.PID) {
		nice, _ := niceOf(tid)
		ionice, _ := ioniceOf(tid)
		cpus, _ := cpusOf(tid)
		sched, _ := schedOf(tid)
		if nice != 7 || ionice.Class != "idle" || cpus != "0" || sched.Policy != "batch" {
			t.Errorf("thread %d has nice %d, ionice %v, cpus %s, sched %v", tid, nice, ionice, cpus, sched)
		}
	}
	got, err := Read(p.PID, "")
	if err != nil {
		t.Fatal(err)
	}
	if d := Drift(tuning, got); len(d) > 0 {
		t.Errorf("drift right after: %v", d)
	}
	expect(t, "oom_score_adj", string(got["oom_score_adj"]), "300")
	waitAutogroup(t, p.PID, 7)
	var limits map[string]spec.Limit
	if err := json.Unmarshal(got["limits"], &limits); err != nil || len(limits) != 16 {
		t.Fatalf("limits are %s", got["limits"])
	}
	expect(t, "core", limits["core"], spec.Limit{Soft: 1, Hard: 2})
	expect(t, "nofile", limits["nofile"], spec.Limit{Soft: 50, Hard: 60})
}

// waitAutogroup: an ordinary user's change may have to wait for the kernel.
func waitAutogroup(t *testing.T, pid, nice int) {
	t.Helper()
	end := time.Now().Add(10 * time.Second)
	for {
		line := slurp(t, pid, "autogroup")
		if line == "" || strings.HasSuffix(line, " nice "+strconv.Itoa(nice)) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("autogroup is %q, should have nice %d", line, nice)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Many at once: the kernel lets an ordinary user change one a tenth of a second.
func TestAutogroupsFollowInTheirTime(t *testing.T) {
	var pids []int
	for n := range 4 {
		r := request()
		r.Tuning.Nice = new(n + 1)
		pids = append(pids, sleeper(t, r, -1).PID)
	}
	for n, pid := range pids {
		waitAutogroup(t, pid, n+1)
	}
	for n, pid := range pids {
		if refused := Tune(pid, spec.Tuning{Nice: new(n + 10)}, ""); len(refused) > 0 {
			t.Errorf("refused: %v", refused)
		}
	}
	for n, pid := range pids {
		waitAutogroup(t, pid, n+10)
	}
}

func mayRaise(t *testing.T) bool {
	t.Helper()
	var own unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NPROC, nil, &own); err != nil {
		t.Fatal(err)
	}
	p := threaded(t, nil)
	err := unix.Prlimit(p.PID, unix.RLIMIT_NPROC, &unix.Rlimit{Cur: own.Cur, Max: own.Max + 1}, nil)
	return err == nil
}

// A limit above the hard one is a start error, and a refusal on a living
// process, unless we have CAP_SYS_RESOURCE.
func TestRaisingAHardLimit(t *testing.T) {
	ours := ourNoFile().Max
	want := spec.Limit{Soft: 64, Hard: spec.Size(ours + 1000)}
	set := map[string]spec.Limit{"nofile": want}
	r := request("/bin/cat")
	r.Tuning.Limits = set
	if mayRaise(t) {
		got, err := limitsOf(sleeper(t, r, -1).PID)
		expect(t, "nofile", got["nofile"], want)
		expect(t, "error", err, nil)
		expect(t, "refused", Tune(threaded(t, nil).PID, spec.Tuning{Limits: set}, ""), map[string]string{})
		return
	}
	text := "setting nofile limit to 64:" + strconv.FormatUint(ours+1000, 10) + ": operation not permitted"
	_, err := Start(r, NoStdio, -1)
	if err == nil || err.Error() != text || !errors.Is(err, unix.EPERM) {
		t.Errorf("error is %v, should be %s", err, text)
	}
	if err := Preflight(r); err == nil || err.Error() != text {
		t.Errorf("preflight says %v, should say %s", err, text)
	}
	expect(t, "refused", Tune(threaded(t, nil).PID, spec.Tuning{Limits: set}, ""), map[string]string{"nofile": "needs restart: operation not permitted"})
}

// Lowering below ours needs CAP_SYS_RESOURCE as well.
func TestLoweringOOMScore(t *testing.T) {
	r := request("/bin/true")
	r.Tuning.OOMScoreAdj = new(-1000)
	p, err := Start(r, NoStdio, -1)
	if err == nil {
		p.wait(t)
		return // we may
	}
	expect(t, "error", err.Error(), "setting oom_score_adj to -1000: permission denied")
	expect(t, "refused", Tune(threaded(t, nil).PID, r.Tuning, ""), map[string]string{"oom_score_adj": "needs restart: permission denied"})
}

func TestWhatAnOrdinaryUserMayNot(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may; TestAsOrdinaryUser runs this as another")
	}
	for want, change := range map[string]func(r *Request){
		"setting nice to -5: permission denied":                              func(r *Request) { r.Tuning.Nice = new(-5) },
		"setting sched to fifo 10: operation not permitted":                  func(r *Request) { r.Tuning.Sched = &spec.Sched{Policy: "fifo", Priority: 10} },
		"setting ionice to realtime 0: operation not permitted":              func(r *Request) { r.Tuning.IONice = &spec.IONice{Class: "realtime"} },
		"setting groups to []: operation not permitted":                      func(r *Request) { r.Identity = spec.Identity{UID: 1, GID: 1, Switch: true} },
		"setting the capability bounding set to []: operation not permitted": func(r *Request) { r.Capabilities = &spec.Capabilities{Bounding: []string{}} },
		"setting capabilities: operation not permitted":                      func(r *Request) { r.Capabilities = &spec.Capabilities{Ambient: []string{"net_raw"}} },
	} {
		r := request("/bin/true")
		change(r)
		p, err := Start(r, NoStdio, -1)
		if err == nil {
			p.wait(t)
		}
		if err == nil || err.Error() != want {
			t.Errorf("error is %v, should be %s", err, want)
		}
	}
	// One's own user is no change.
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	r := request("/bin/true")
	r.Identity = spec.Identity{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Switch: true}
	for _, g := range groups {
		r.Identity.Groups = append(r.Identity.Groups, uint32(g))
	}
	run(t, r, NoStdio)
}

// Limits of another user's process can be changed also without
// CAP_SYS_RESOURCE, downwards.
func TestTuneAnotherUsersLimits(t *testing.T) {
	p := sleeper(t, as(t, request(), 65534, 65533, 4), -1)
	tuning := spec.Tuning{Limits: map[string]spec.Limit{"core": {Soft: 0, Hard: 10}}}
	expect(t, "refused", Tune(p.PID, tuning, ""), map[string]string{})
	got, err := limitsOf(p.PID)
	expect(t, "core", got["core"], tuning.Limits["core"])
	expect(t, "error", err, nil)
	raise := Tune(p.PID, spec.Tuning{Limits: map[string]spec.Limit{"core": {Soft: 0, Hard: 11}, "nice": {Soft: 39, Hard: 39}}}, "")
	if len(raise) == 0 {
		return // we have CAP_SYS_RESOURCE
	}
	expect(t, "refused", raise, map[string]string{"core": "needs restart: operation not permitted", "limits.nice": "needs restart: operation not permitted"})
}

// What is foretold comes to pass, whatever this process may do.
func TestForetell(t *testing.T) {
	for name, tuning := range map[string]spec.Tuning{
		"nothing":         {},
		"a lower limit":   {Limits: map[string]spec.Limit{"core": {Soft: 0, Hard: 5}}},
		"the same limit":  {Limits: map[string]spec.Limit{"core": {Soft: 0, Hard: 10}}},
		"a higher limit":  {Limits: map[string]spec.Limit{"core": {Soft: 0, Hard: 11}, "nice": {Soft: 39, Hard: 39}, "nproc": {Soft: 1, Hard: 1}}},
		"a higher nice":   {Nice: new(9)},
		"a lower nice":    {Nice: new(2)},
		"the lowest nice": {Nice: new(-20)},
	} {
		r := request()
		r.Tuning = spec.Tuning{Nice: new(5), Limits: map[string]spec.Limit{"core": {Soft: 0, Hard: 10}}}
		p := sleeper(t, r, -1)
		foretold := Foretell(p.PID, tuning)
		if refused := Tune(p.PID, tuning, ""); !maps.Equal(foretold, refused) {
			t.Errorf("%s: foretold %v, refused %v", name, foretold, refused)
		}
	}
}

func TestTuneOfWhatIsGone(t *testing.T) {
	p, err := Start(request("/bin/true"), NoStdio, -1)
	if err != nil {
		t.Fatal(err)
	}
	p.wait(t)
	if refused := Tune(p.PID, spec.Tuning{Nice: new(3), OOMScoreAdj: new(100), Limits: map[string]spec.Limit{"core": {}}}, ""); len(refused) > 0 {
		t.Errorf("refused: %v", refused)
	}
	if _, err := Read(p.PID, ""); err == nil {
		t.Error("it can be read")
	}
}

func TestCgroupFiles(t *testing.T) {
	dir := t.TempDir()
	for _, f := range cgroupFiles {
		if err := os.WriteFile(filepath.Join(dir, f.file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &spec.Cgroup{
		MemoryMax: new(spec.Size(1000000)), MemoryHigh: new(spec.Size(spec.Unlimited)), CPUMax: "150%", CPUWeight: new(7), PidsMax: new(spec.Size(9)), IOWeight: new(50),
	}
	if err := SetCgroup(dir, c); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"memory.max": "1000000", "memory.high": "max", "cpu.max": "150000 100000", "cpu.weight": "7", "pids.max": "9", "io.weight": "50"} {
		expect(t, file, contents(t, filepath.Join(dir, file)), want)
	}
	expect(t, "refused", Tune(os.Getpid(), spec.Tuning{Cgroup: c}, dir), map[string]string{})
	// As the kernel would show them.
	for file, text := range map[string]string{"memory.max": "999424\n", "io.weight": "default 50\n8:0 100\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := readCgroup(&process{cgroup: dir})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "read", string(raw), `{"memory_max":999424,"memory_high":"unlimited","cpu_max":"150%","cpu_weight":7,"pids_max":9,"io_weight":50}`)
	got := map[string]json.RawMessage{"cgroup": raw}
	if os.Getpagesize() == 4096 {
		expect(t, "drift", Drift(spec.Tuning{Cgroup: c}, got), map[string]string{})
	}
	c.CPUMax, c.PidsMax = "100000 50000", new(spec.Size(10))
	expect(t, "drift", Drift(spec.Tuning{Cgroup: c}, got), map[string]string{
		"cpu_max": "cpu_max is 150000 100000, should be 100000 50000", "pids_max": "pids_max is 9, should be 10",
	})
}

func TestCgroupWithoutController(t *testing.T) {
	dir, _ := testCgroup(t)
	if dir == "" {
		t.Skip("no cgroup v2 that we may make groups in")
	}
	err := SetCgroup(dir, &spec.Cgroup{MemoryMax: new(spec.Size(1 << 30))})
	if err == nil {
		expect(t, "memory.max", strings.TrimSpace(contents(t, filepath.Join(dir, "memory.max"))), "1073741824")
		return // this kernel has it
	}
	want := "setting cgroup memory_max to 1073741824: the memory controller is not there for " + dir + "/memory.max: no such file or directory"
	expect(t, "error", err.Error(), want)
	expect(t, "refused", Tune(os.Getpid(), spec.Tuning{Cgroup: &spec.Cgroup{MemoryMax: new(spec.Size(1 << 30))}}, dir), map[string]string{"memory_max": "needs restart: the memory controller is not there"})
	expect(t, "refused", Tune(os.Getpid(), spec.Tuning{Cgroup: &spec.Cgroup{CPUMax: "50%"}}, ""), map[string]string{"cpu_max": "needs restart: it has no cgroup of its own"})
}

// What is no longer set goes back to what the kernel begins with: without a
// cgroup, or without the controller, it is there already.
func TestCgroupValuesGoBackToNothing(t *testing.T) {
	had := spec.Tuning{Cgroup: &spec.Cgroup{MemoryMax: new(spec.Size(1 << 30)), CPUMax: "50%", CPUWeight: new(50), PidsMax: new(spec.Size(10)), IOWeight: new(50)}}
	back, err := Retune(had, spec.Tuning{})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", t.TempDir()} {
		expect(t, "refused in "+dir, Tune(os.Getpid(), back, dir), map[string]string{})
	}
}
