package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// exitsVar sets how many ends TestExitsLeakNothing waits for.
const exitsVar = "PROCNANNY_TEST_EXITS"

// briefs end at once, each in its own way: with and without output, by a code or
// a signal, with somebody left behind, without ever having been.
var briefs = map[string]struct {
	instances int
	command   string
	args      []string
	mode      string
}{
	"true":      {16, "true", []string{}, "merged"},
	"echo":      {16, "echo", []string{"hello"}, "separate"},
	"false":     {12, "false", []string{}, "null"},
	"killed":    {2, "sh", []string{"-c", "kill -9 $$"}, "merged"},
	"orphans":   {2, "sh", []string{"-c", "(sleep 0.01 &); (setsid sleep 0.02 &); exit 3"}, "merged"},
	"forks":     {2, "sh", []string{"-c", "echo a & echo b & wait; exit 4"}, "merged"},
	"leftovers": {1, "sh", []string{"-c", "sleep 1000 & exit 5"}, "merged"},
}

// What ends by the thousand leaves nothing in the keeper or in control: no
// descriptor, thread, zombie, child, cgroup, note, and no memory.
func TestExitsLeakNothing(t *testing.T) {
	t.Parallel()
	want := count(exitsVar, 1500, 500)
	m := newMortalWith(t, mortalOptions{change: plantBriefs})
	w := m.settled(time.Time{})
	m.storm(min(want/3, 5000)) // what is made once, is made now
	before := m.least(w)
	began, ends := time.Now(), m.ends()
	m.storm(want)
	ends, took := m.ends()-ends, time.Since(began)
	m.settled(time.Time{})
	var after holdings
	err := poll(func() (bool, string) {
		after = m.least(w)
		why := after.exceed(before)
		return why == "", why
	})
	check(t, err)
	t.Logf("%d ends in %v; before: %v; after: %v", ends, took.Round(time.Second), before, after)
}

func plantBriefs(programs map[string]any) {
	maps.DeleteFunc(programs, func(name string, _ any) bool { return name != "writer" })
	for name, b := range briefs {
		programs[name] = map[string]any{
			"command": b.command, "args": b.args, "instances": b.instances, "start": map[string]any{"min_uptime": "0s"},
			"output":  map[string]any{"mode": b.mode, "rotate": map[string]any{"size": 10_000, "keep": 2}},
			"restart": map[string]any{"delay": "0s", "factor": 1, "max_delay": "0s", "jitter": 0, "flap": map[string]any{"count": 1_000_000}},
		}
	}
}

// storm has briefs end until there were n more of them, and then no more.
func (m *mortal) storm(n int) {
	m.t.Helper()
	names := slices.Collect(maps.Keys(briefs))
	check(m.t, m.client.Call(context.Background(), "start", map[string]any{"targets": names}, nil))
	for last, until := 0, m.ends()+n; last < until; {
		check(m.t, poll(func() (bool, string) {
			before := last
			last = m.ends()
			return last > before, "nothing ends any more"
		}))
		time.Sleep(untilPause)
	}
	check(m.t, m.client.Call(context.Background(), "stop", map[string]any{"targets": names, "wait": true}, nil))
}

// ends is how often briefs were started.
func (m *mortal) ends() (n int) {
	m.t.Helper()
	var reply struct {
		Programs map[string]struct {
			Instances map[int]struct {
				Starts int `msgpack:"starts"`
			} `msgpack:"instances"`
		} `msgpack:"programs"`
	}
	check(m.t, m.client.Call(context.Background(), "status", nil, &reply))
	for name := range briefs {
		for _, i := range reply.Programs[name].Instances {
			n += i.Starts
		}
	}
	return n
}

// holdings are what our processes hold.
type holdings struct {
	Files, Threads, KiB map[string]int // by process
	Children, Zombies   int            // of the keeper
	Notes, Cgroups      int
}

func (m *mortal) holdings(w who) holdings {
	m.t.Helper()
	h := holdings{Files: map[string]int{}, Threads: map[string]int{}, KiB: map[string]int{}}
	for name, pid := range map[string]int{"keeper": w.Keeper.PID, "control": w.Control.PID} {
		proc := "/proc/" + strconv.Itoa(pid)
		h.Files[name], h.Threads[name], h.KiB[name] = len(list(proc+"/fd")), len(list(proc+"/task")), anonymous(pid)
	}
	for _, task := range list(fmt.Sprintf("/proc/%d/task", w.Keeper.PID)) {
		raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", w.Keeper.PID, task))
		for child := range strings.FieldsSeq(string(raw)) {
			h.Children++
			if pid, _ := strconv.Atoi(child); zombie(pid) {
				h.Zombies++
			}
		}
	}
	h.Notes = len(list(m.dir + "/run/keeper"))
	h.Cgroups = m.cgroups()
	return h
}

// least is what our processes hold once they have given back what a storm needed:
// they do so some seconds after it.
func (m *mortal) least(w who) holdings {
	m.t.Helper()
	h := m.holdings(w)
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until); time.Sleep(10 * untilPause) {
		for name, now := range m.holdings(w).KiB {
			h.KiB[name] = min(h.KiB[name], now)
		}
	}
	return h
}

// list is what a directory has; nothing when it is not there.
func list(dir string) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// cgroups counts those beside the first writer's; none where there are none.
func (m *mortal) cgroups() (n int) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", m.pids["writer/0"]))
	check(m.t, err)
	for line := range strings.Lines(string(raw)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok || filepath.Base(path) != "writer.0" {
			continue
		}
		for _, mount := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
			for _, name := range list(filepath.Dir(mount + path)) {
				if strings.Contains(name, ".") && len(list(filepath.Join(filepath.Dir(mount+path), name))) > 0 {
					n++
				}
			}
			if n > 0 {
				return n
			}
		}
	}
	return n
}

// exceed says what there is more of than before; threads, which Go makes when the
// machine is busy, and memory have some room.
func (h holdings) exceed(before holdings) string {
	room := 16 + runtime.NumCPU()
	for name := range h.Files {
		switch {
		case h.Files[name] > before.Files[name]:
			return fmt.Sprintf("%s has %d descriptors, it had %d", name, h.Files[name], before.Files[name])
		case h.Threads[name] > before.Threads[name]+room:
			return fmt.Sprintf("%s has %d threads, it had %d", name, h.Threads[name], before.Threads[name])
		case h.KiB[name] > before.KiB[name]*5/4+2<<10: // once it is quiet, memory is given back
			return fmt.Sprintf("%s has %d KiB, it had %d", name, h.KiB[name], before.KiB[name])
		}
	}
	if h.Notes > writers {
		return fmt.Sprintf("there are %d notes, and %d programs live", h.Notes, writers)
	}
	if h.Zombies > 0 || h.Children > before.Children || h.Cgroups > before.Cgroups {
		return fmt.Sprintf("there are %+v, there were %+v", h, before)
	}
	return ""
}
