package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/rpc/zmq"
	"github.com/procnanny/procnanny/runtime/daemontest"
)

const (
	// stopsVar sets how many stops TestStopsLeaveNothing makes, each way.
	stopsVar = "PROCNANNY_TEST_STOPS"
	// markVar is what all processes of a daemon of that test have in common.
	markVar = "PROCNANNY_TEST_MARK"
)

// trees are programs that are hard to end, with how many processes each has at
// least once it is up.
var trees = map[string]struct {
	script string
	size   int
}{
	"plain":     {`exec sleep 1000`, 1},
	"family":    {`sleep 1000 & sleep 1000 & (sleep 1000 & sleep 1000 & wait) & wait`, 6},
	"session":   {`setsid sleep 1000 & sleep 1000 & wait`, 3},
	"orphans":   {`(setsid sh -c 'sleep 1000 & sleep 1000 & wait' &); (sleep 1000 &); exec sleep 1000`, 5},
	"deaf":      {`trap "" TERM; sleep 1000 & (setsid sleep 1000 &); while :; do sleep 0.2; done`, 3},
	"deaf-kids": {`(trap "" TERM; exec sleep 1000) & (trap "" TERM HUP INT; setsid sleep 1000 &); wait`, 3},
	"breeder":   {`while :; do (setsid sleep 0.3 &); sleep 0.02; done`, 3},
	"deserter":  {`(setsid sleep 1000 &); (sleep 1000 &); sleep 0.1 & wait; exec env -u NOBODY sleep 1000`, 3},
}

// copies is how many instances each tree has.
const copies = 2

// Programs that fork, leave their session or the family, ignore TERM or go on
// forking are stopped: when the stop is over, nobody of them is left.
func TestStopsLeaveNothing(t *testing.T) {
	ways := map[string][]string{"cgroup": nil, "sweep": noCgroups}
	for _, way := range slices.Sorted(maps.Keys(ways)) {
		t.Run(way, func(t *testing.T) {
			if way == "sweep" && os.Geteuid() != 0 {
				t.Skip("unmounting needs privilege")
			}
			t.Parallel()
			m := newMortalWith(t, mortalOptions{wrap: ways[way], change: plantTrees})
			rounds := max(1, count(stopsVar, 3*copies*len(trees), copies*len(trees))/(copies*len(trees)))
			for range rounds {
				m.growTrees()
				m.fell()
				if t.Failed() {
					return
				}
			}
			t.Logf("%d stops", rounds*copies*len(trees))
		})
	}
}

// plantTrees puts the trees in place of the crashers.
func plantTrees(programs map[string]any) {
	dir := programs["writer"].(map[string]any)["env"].(map[string]any)[ledgerVar].(string)
	maps.DeleteFunc(programs, func(name string, _ any) bool { return name != "writer" })
	for name, tree := range trees {
		programs[name] = map[string]any{
			"command": "sh", "args": []string{"-c", tree.script}, "instances": copies, "start": map[string]any{"min_uptime": "0s"},
			"env": map[string]any{markVar: dir}, "stop": map[string]any{"timeout": "200ms"},
		}
	}
}

// growTrees starts all and waits until they are whole.
func (m *mortal) growTrees() {
	m.t.Helper()
	names := slices.Collect(maps.Keys(trees))
	check(m.t, m.client.Call(context.Background(), "start", map[string]any{"targets": names, "wait": true}, nil))
	check(m.t, poll(func() (bool, string) {
		size := m.marked()
		for name, tree := range trees {
			for i := range copies {
				if id := name + "/" + strconv.Itoa(i); len(size[id]) < tree.size {
					return false, fmt.Sprintf("%s has %d processes", id, len(size[id]))
				}
			}
		}
		return true, ""
	}))
}

// fell stops all and looks who is left.
func (m *mortal) fell() {
	m.t.Helper()
	names := slices.Collect(maps.Keys(trees))
	check(m.t, m.client.Call(context.Background(), "stop", map[string]any{"targets": names, "wait": true}, nil))
	if left := m.marked(); len(left) > 0 {
		m.t.Errorf("after the stop these are left: %v", left)
		for _, pids := range left {
			for _, pid := range pids {
				raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
				m.t.Logf("%s", raw)
			}
		}
	}
	m.settled(time.Time{})
}

// marked are the living processes with our mark, by instance, whoever their
// parents are.
func (m *mortal) marked() map[string][]int {
	found := map[string][]int{}
	mark := []byte(markVar + "=" + m.dir + "/ledger")
	entries, err := os.ReadDir("/proc")
	check(m.t, err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil || !bytes.Contains(env, mark) || zombie(pid) {
			continue
		}
		id := variable(env, "PROCNANNY_PROGRAM") + "/" + variable(env, "PROCNANNY_INSTANCE")
		found[id] = append(found[id], pid)
	}
	return found
}

func variable(env []byte, name string) string {
	for v := range strings.SplitSeq(string(env), "\x00") {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// keepWeb starts a daemon with one program, and says who keeps it.
func keepWeb(t *testing.T, d *daemontest.Daemon, program map[string]any) (client rpc.Caller, w who) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"programs": map[string]any{"web": program}})
	check(t, err)
	check(t, os.WriteFile(d.Dir+"/config/web.json", b, 0o644))
	d.Start()
	livingPIDs(t, d.Endpoint(), 1)
	client, err = zmq.Dial(d.Endpoint(), time.Minute)
	check(t, err)
	t.Cleanup(func() { client.Close() })
	check(t, client.Call(context.Background(), "version", nil, &w))
	return client, w
}

// A program is stopped as it says also by a control that has only just come, after
// the death of the one before it.
func TestAStopIsAsTheProgramSaysWhoeverDied(t *testing.T) {
	kill := func(t *testing.T, pid int, sig unix.Signal) { check(t, unix.Kill(pid, sig)) }
	for name, die := range map[string]func(*testing.T, who){
		"control, before": func(t *testing.T, w who) {
			kill(t, w.Control.PID, unix.SIGKILL)
			kill(t, w.Keeper.PID, unix.SIGTERM)
		},
		"control, after": func(t *testing.T, w who) {
			kill(t, w.Keeper.PID, unix.SIGTERM)
			kill(t, w.Control.PID, unix.SIGKILL)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := daemontest.New(t)
			said := d.Dir + "/said"
			script := `trap "echo INT >>` + said + `; exit" INT; trap "echo TERM >>` + said + `; exit" TERM; while :; do sleep 0.05; done`
			_, w := keepWeb(t, d, map[string]any{
				"command": "sh", "args": []string{"-c", script}, "stop": map[string]any{"signal": "INT"},
			})
			die(t, w)
			check(t, poll(func() (bool, string) {
				b, _ := os.ReadFile(said)
				return string(b) == "INT\n", fmt.Sprintf("it heard %q", b)
			}))
		})
	}
}

// What ends while control is dead is told as its program says, too.
func TestASuccessThatNobodyHeardOf(t *testing.T) {
	t.Parallel()
	d := daemontest.New(t)
	client, w := keepWeb(t, d, map[string]any{
		"command": "sh", "args": []string{"-c", `trap "exit 3" USR1; while :; do sleep 0.05; done`},
		"success_exit": []int{3}, "restart": map[string]any{"when": "failure"},
	})
	var history struct {
		Runs []struct {
			PID   int    `msgpack:"pid"`
			Code  *int   `msgpack:"exitcode"`
			Cause string `msgpack:"cause"`
		} `msgpack:"runs"`
	}
	ask := func() error {
		return patiently(t.Context(), client, "history", map[string]any{"program": "web"}, &history)
	}
	check(t, ask())
	check(t, unix.Kill(w.Control.PID, unix.SIGSTOP)) // it hears of nothing more
	check(t, unix.Kill(history.Runs[0].PID, unix.SIGUSR1))
	check(t, poll(func() (bool, string) {
		pid := history.Runs[0].PID
		return unix.Kill(pid, 0) != nil, fmt.Sprintf("%d lives", pid)
	}))
	check(t, unix.Kill(w.Control.PID, unix.SIGKILL))
	check(t, poll(func() (bool, string) {
		err := ask()
		r := history.Runs[0]
		return err == nil && len(history.Runs) == 1 && r.Code != nil && *r.Code == 3 && r.Cause == "exit", fmt.Sprintf("%v, %+v", err, history)
	}))
}
