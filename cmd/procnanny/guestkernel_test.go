package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/runtime/daemontest"
)

func init() {
	roles["glutton"] = glutton
	roles["forker"] = forker
}

// Memory that a program may have, and what a glutton takes, bytes.
const (
	ration = 40 << 20
	feast  = 100 << 20
)

// TestGuest is what is tried on a machine of its own.
func TestGuest(t *testing.T) {
	if os.Getenv(guestVar) == "" {
		t.Skip("it needs a machine of its own: TestOldKernel boots one")
	}
	t.Run("doctor", guestDoctor)
	t.Run("memory", guestMemoryRunsOut)
	t.Run("processes", guestProcessesRunOut)
	t.Run("delegated", guestDelegated)
	t.Run("clock", guestClock)
	t.Run("lateness", guestLateness)
	t.Run("suspend", guestSuspend)
	for _, kind := range kinds {
		if os.Getenv(guestVar) == guestAll {
			t.Run("deaths of "+kind.name, func(t *testing.T) { guestDeaths(t, kind.name) })
		}
	}
}

// guestDeaths: whoever of us dies, no program does. Who outlives its keeper is no
// child of the next one, and this kernel tells only parents how a process ended.
func guestDeaths(t *testing.T, name string) {
	m := newMortalWith(t, mortalOptions{change: frugal})
	w := m.settled(time.Time{})
	for range 10 {
		m.dawdle()
		w = m.dies(name, w)
	}
	m.judge(name == "control" || name == "upgrade")
}

func (m *mortal) dies(name string, w who) who {
	m.t.Helper()
	for _, kind := range kinds {
		if kind.name == name {
			return kind.do(m, w)
		}
	}
	m.t.Fatalf("nobody is called %s", name)
	return w
}

// cheap is what a crasher does, for a machine on which a Go program is dear to
// start: it holds a lock, writes lines, and ends with codeOf its run.
const cheap = `name=$LEDGER/$PROCNANNY_PROGRAM.$PROCNANNY_INSTANCE
exec 9>$name; flock -n 9 || echo $PROCNANNY_RUN_ID > $name.overlap
i=0; while [ $i -lt 300 ]; do echo $PROCNANNY_RUN_ID $i; i=$((i+1)); done
sleep 0.1 9>&-
exit $((PROCNANNY_RUN_ID % 200 + 1))`

// frugal makes crashers cheap.
func frugal(programs map[string]any) {
	for name, v := range programs {
		p := v.(map[string]any)
		if strings.HasPrefix(name, "crasher") {
			p["command"], p["args"] = "sh", []string{"-c", cheap}
			p["env"] = map[string]any{"LEDGER": p["env"].(map[string]any)[ledgerVar]}
			p["restart"] = map[string]any{"delay": "500ms", "factor": 1, "max_delay": "500ms", "jitter": 0}
		}
	}
}

// guestDoctor: what it says of this kernel is so.
func guestDoctor(t *testing.T) {
	var said struct {
		Fit    bool `json:"fit"`
		Checks []struct {
			Name  string `json:"name"`
			State string `json:"state"`
			Found string `json:"found"`
		} `json:"checks"`
	}
	out, err := exec.Command(daemontest.Bin("procnanny"), "doctor", "-o", "json").Output()
	check(t, err)
	check(t, json.Unmarshal(out, &said))
	if !said.Fit {
		t.Error("it says that procnanny cannot run here")
	}
	want := map[string]string{
		"kernel": "ok", "pidfd": "ok", "process identity": "weak", "exit codes of others' children": "weak", "subreaper": "ok",
		"cgroup": "ok", "cgroup.kill": "ok", "cgroup controllers": "ok", "CAP_SYS_RESOURCE": "ok", "OOM killer": "ok", "pipe memory": "ok", "evaluator": "ok",
	}
	for _, c := range said.Checks {
		if w := want[c.Name]; w != "" && w != c.State {
			t.Errorf("%s is %s: %s", c.Name, c.State, c.Found)
		}
		delete(want, c.Name)
	}
	if len(want) > 0 {
		t.Errorf("nothing is said of %v", want)
	}
}

// glutton waits until somebody lays the table, and takes more than it may.
func glutton() {
	table := filepath.Join(os.Getenv(ledgerVar), os.Getenv("PROCNANNY_PROGRAM"))
	for {
		if _, err := os.Stat(table); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	eaten := make([]byte, feast)
	for i := 0; i < len(eaten); i += 4096 {
		eaten[i] = 1
	}
	fmt.Println("ate", len(eaten))
	os.Exit(3)
}

// forker starts processes until it may not.
func forker() {
	started, refused := 0, 0
	for range 60 {
		if err := exec.Command("sleep", "1000").Start(); err != nil {
			refused++
		} else {
			started++
		}
	}
	fmt.Println("started", started, "refused", refused)
	sleeper()
}

// plays is a program that is this test in a role.
func plays(t *testing.T, role string, more map[string]any) map[string]any {
	t.Helper()
	self, err := os.Executable()
	check(t, err)
	p := map[string]any{
		"command": self, "start": map[string]any{"min_uptime": "0s"}, "restart": map[string]any{"when": "never"},
		"env": map[string]any{roleVar: role, ledgerVar: "/run"},
	}
	maps.Copy(p, more)
	return p
}

// call asks for something that must be done.
func (m *mortal) call(method string, args map[string]any, reply any) {
	m.t.Helper()
	check(m.t, m.client.Call(context.Background(), method, args, reply))
}

// seen is instance 0 of a program.
type seen struct {
	PID    int     `msgpack:"pid"`
	State  string  `msgpack:"state"`
	Run    int     `msgpack:"run_id"`
	Starts int     `msgpack:"starts"`
	Uptime float64 `msgpack:"uptime"`
}

func (m *mortal) look(program string) (seen, error) {
	var reply struct {
		Programs map[string]struct {
			Instances map[int]seen `msgpack:"instances"`
		} `msgpack:"programs"`
	}
	err := m.client.Call(context.Background(), "status", map[string]any{"program": program}, &reply)
	return reply.Programs[program].Instances[0], err
}

// comes waits until a program is in a state.
func (m *mortal) comes(program, state string) (s seen) {
	m.t.Helper()
	check(m.t, poll(func() (bool, string) {
		var err error
		s, err = m.look(program)
		return err == nil && s.State == state, fmt.Sprintf("%s: %+v, %v", program, s, err)
	}))
	return s
}

// wrote is what a program has written.
func (m *mortal) wrote(program string) string {
	b, _ := os.ReadFile(filepath.Join(m.dir, "log", program, "0.log")) // it may have written nothing
	return string(b)
}

// writes waits until a program has written something, behind what it had.
func (m *mortal) writes(program, text string, before int) string {
	m.t.Helper()
	out := ""
	check(m.t, poll(func() (bool, string) {
		out = m.wrote(program)[before:]
		return strings.Contains(out, text), fmt.Sprintf("%s wrote %q", program, out)
	}))
	return out
}

// lastRun is how the last run of a program ended.
type lastRun struct {
	Code    int     `msgpack:"exitcode"`
	Signal  int     `msgpack:"exitsignal"`
	Unknown bool    `msgpack:"exit_unknown"`
	Cause   string  `msgpack:"cause"`
	Took    float64 `msgpack:"duration"`
}

func (m *mortal) lastRun(program string) (last lastRun) {
	m.t.Helper()
	check(m.t, poll(func() (bool, string) {
		var reply struct {
			Runs []lastRun `msgpack:"runs"`
		}
		err := m.client.Call(context.Background(), "history", map[string]any{"program": program, "limit": 1}, &reply)
		if err != nil || len(reply.Runs) == 0 || reply.Runs[0].Cause == "" {
			return false, fmt.Sprintf("%s: %+v, %v", program, reply, err)
		}
		last = reply.Runs[0]
		return true, ""
	}))
	return last
}

// leaf is the cgroup of an instance.
func leafOf(t *testing.T, instance string) string {
	t.Helper()
	found, _ := filepath.Glob("/sys/fs/cgroup/procnanny-*/" + instance)
	more, _ := filepath.Glob("/sys/fs/cgroup/*/procnanny-*/" + instance)
	found = slices.DeleteFunc(append(found, more...), func(dir string) bool {
		b, _ := os.ReadFile(dir + "/cgroup.events") // of a former daemon, perhaps
		return len(b) == 0
	})
	if len(found) != 1 {
		t.Fatalf("the cgroups of %s are %v", instance, found)
	}
	return found[0]
}

func limitOf(t *testing.T, instance, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(leafOf(t, instance), file))
	check(t, err)
	return strings.TrimSpace(string(b))
}

// guestMemoryRunsOut: who takes more than its cgroup may have is killed by the
// kernel, alone, and the history names the cause: whether the limit was there at
// the start or came later, and whoever of us was there at its start.
func guestMemoryRunsOut(t *testing.T) {
	limit := map[string]any{"cgroup": map[string]any{"memory_max": ration}}
	child := plays(t, "glutton", limit)
	child["args"] = []string{"-c", `"$0"; exit 5`, child["command"].(string)}
	child["command"] = "sh"
	l := newLoud(t, map[string]any{
		"neighbour": plays(t, "sleeper", nil),
		"late":      plays(t, "glutton", nil),
		"early":     plays(t, "glutton", map[string]any{"instances": 0, "cgroup": limit["cgroup"]}),
		"child":     child,
	}, "--supervised", "no")
	before := l.comes("neighbour", "running")
	l.comes("child", "running")
	l.call("set", map[string]any{"program": "late", "field": "cgroup.memory_max", "value": ration, "wait": true}, nil)
	check(t, poll(func() (bool, string) {
		got := limitOf(t, "late.0", "memory.max")
		return got == strconv.Itoa(ration), "the limit is " + got
	}))
	l.starve("late")
	check(t, os.WriteFile("/run/child", nil, 0o644))
	if r := l.lastRun("child"); r.Cause != "crash" || r.Code != 5 {
		t.Errorf("a child was killed, its parent ended with 5: %+v", r)
	}
	l.call("scale", map[string]any{"program": "early", "instances": 1, "wait": true}, nil)
	w, err := l.ask()
	check(t, err)
	l.call("upgrade", nil, nil)
	l.another(w)
	l.starve("early") // its keeper is another one by now
	l.call("start", map[string]any{"program": "early", "wait": true}, nil)
	if r := l.lastRun("early"); r.Cause != "out of memory" {
		t.Errorf("in the next run, too: %+v", r)
	}
	if now := l.comes("neighbour", "running"); now.PID != before.PID {
		t.Errorf("the neighbour's pid was %d and is %d", before.PID, now.PID)
	}
}

// starve lets a glutton eat.
func (l *loud) starve(program string) {
	l.t.Helper()
	check(l.t, os.WriteFile("/run/"+program, nil, 0o644))
	if r := l.lastRun(program); r.Cause != "out of memory" || r.Signal != int(unix.SIGKILL) {
		l.t.Errorf("%s ended so: %+v", program, r)
	}
}

// guestProcessesRunOut: pids.max binds a program and nobody else, a fork bomb
// ends when it is told to, and limits change on the living process.
func guestProcessesRunOut(t *testing.T) {
	l := newLoud(t, map[string]any{
		"neighbour": plays(t, "sleeper", nil),
		"forker":    plays(t, "forker", map[string]any{"cgroup": map[string]any{"pids_max": 30}}),
		"bomb": map[string]any{
			"command": "sh", "args": []string{"-c", `b() { b | b & }; b; sleep 1000`}, "restart": map[string]any{"when": "never"},
			"cgroup": map[string]any{"pids_max": 150}, "stop": map[string]any{"timeout": "200ms"}, "output": map[string]any{"mode": "null"},
		},
	})
	before := l.comes("neighbour", "running")
	var started, refused int
	_, err := fmt.Sscanf(l.writes("forker", "refused", 0), "started %d refused %d", &started, &refused)
	if err != nil || started == 0 || started >= 30 || refused == 0 {
		t.Errorf("%d were started, %d refused: %v", started, refused, err)
	}
	forker := l.comes("forker", "running")
	l.call("set", map[string]any{"program": "forker", "fields": map[string]any{"cgroup.pids_max": 77, "cgroup.cpu_max": "40%"}, "wait": true}, nil)
	check(t, poll(func() (bool, string) {
		pids, cpu := limitOf(t, "forker.0", "pids.max"), limitOf(t, "forker.0", "cpu.max")
		return pids == "77" && cpu == "40000 100000", "the limits are " + pids + " and " + cpu
	}))
	if now := l.comes("forker", "running"); now.PID != forker.PID {
		t.Errorf("its pid was %d and is %d", forker.PID, now.PID)
	}
	l.call("stop", map[string]any{"targets": []string{"bomb", "forker"}, "wait": true}, nil)
	for _, leaf := range []string{"bomb.0", "forker.0"} {
		if got := limitOf(t, leaf, "cgroup.events"); !strings.Contains(got, "populated 0") {
			t.Errorf("somebody of %s is left: %s", leaf, got)
		}
	}
	if now := l.comes("neighbour", "running"); now.PID != before.PID {
		t.Errorf("the neighbour's pid was %d and is %d", before.PID, now.PID)
	}
}

// guestDelegated: a service manager gives us a cgroup in which we are alone. As
// a cgroup with limits below it must hold nobody, we move, with control, or were
// put below it from the beginning; limits hold, and who comes after us finds all.
func guestDelegated(t *testing.T) {
	const top = "/sys/fs/cgroup/"
	check(t, os.WriteFile(top+"cgroup.subtree_control", []byte("+memory +pids +cpu +io"), 0o644))
	t.Run("and we move", func(t *testing.T) { // once limits are set below it, nobody can be put into the unit itself
		guestUnit(t, top+"unit", "/procnanny-", []string{"control", "keeper", "upgrade", "both"}, top+"unit", top+"unit/procnanny-*/supervisor")
	})
	t.Run("and a part of it", func(t *testing.T) {
		guestUnit(t, top+"parted", "/supervisor", []string{"both", "keeper", "both"}, top+"parted/supervisor")
	})
}

// guestUnit runs a daemon in the first of places that takes it, and lets it die.
func guestUnit(t *testing.T, unit, within string, deaths []string, places ...string) {
	t.Helper()
	check(t, os.MkdirAll(places[0], 0o755))
	t.Cleanup(func() {
		// A daemon that control raised is not our child: it lets go of its lock, by which
		// its end is known, a moment before the kernel has taken it out of its cgroup.
		if err := poll(func() (bool, string) {
			b, err := os.ReadFile(unit + "/cgroup.events")
			return err == nil && strings.Contains(string(b), "populated 0"), fmt.Sprint(string(b), err)
		}); err != nil {
			t.Errorf("somebody is left in the unit: %v", err)
		}
	})
	m := newMortalWith(t, mortalOptions{
		wrap: []string{"sh", "-c", `for d in ` + strings.Join(places, " ") + `; do { echo $$ > $d/cgroup.procs; } 2>/dev/null && exec "$@"; done`, "sh"},
		change: func(programs map[string]any) {
			frugal(programs)
			for _, p := range programs {
				p.(map[string]any)["cgroup"] = map[string]any{"pids_max": 64, "memory_max": 256 << 20}
			}
		},
	})
	w := m.settled(time.Time{})
	for _, name := range deaths {
		m.dawdle()
		w = m.dies(name, w)
	}
	if got := limitOf(t, "writer.0", "pids.max"); got != "64" {
		t.Errorf("the limit is %s", got)
	}
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", w.Keeper.PID))
	check(t, err)
	place := "/sys/fs/cgroup" + strings.TrimPrefix(strings.TrimSpace(string(own)), "0::")
	if !strings.HasPrefix(place, unit+within) {
		t.Errorf("the keeper is in %s", own)
	}
	weight, err := os.ReadFile(place + "/cpu.weight")
	if check(t, err); string(weight) != "1000\n" {
		t.Errorf("its cpu.weight is %s", weight)
	}
	for i := range writers {
		check(t, poll(func() (bool, string) {
			info, err := os.Stat(fmt.Sprintf("%s/log/writer/%d.log", m.dir, i))
			return err == nil && info.Size() > 0, fmt.Sprintf("writer/%d wrote nothing", i)
		}))
	}
	m.judge(false)
}
