package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc/zmq"
	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/runtime/place"
)

// pointsVar asks for all points, not only the first one of each change: "all", or
// names between commas.
const pointsVar = "PROCNANNY_TEST_CRASHPOINTS"

// crossing is what brings the daemon through the points of one. It may be made
// again; what it leads to must come in the end, whoever died meanwhile.
type crossing struct {
	do   func(*walker) error
	then func(*walker) bool
}

// crossings are by Step.Change, or by a point's name where that needs another.
// Those of no change are passed all the time, because of the crashers.
var crossings = map[string]crossing{
	"stop":                      {do: restartScaled, then: (*walker).scaledRuns},
	"tune":                      {do: (*walker).setScore, then: (*walker).hasScore},
	"scale":                     {do: (*walker).scale, then: (*walker).isScaled},
	"reload":                    {do: (*walker).edit, then: (*walker).isEdited},
	"override":                  {do: (*walker).setScore, then: (*walker).hasScore},
	"control.reset.kept":        {do: (*walker).reset, then: (*walker).scaledRuns},
	"rollback":                  {do: (*walker).rollback, then: (*walker).scaledRuns},
	"upgrade":                   {do: func(w *walker) error { return w.call("upgrade", nil, nil) }},
	"keeper.exit.noted":         {do: (*walker).pauseControl},
	"control.journal.rewritten": {do: killControl},
	"control.journal.replaced":  {do: killControl},
	"keeper.control.died":       {do: killControl},
	"keeper.control.forked":     {do: killControl},
	"keeper.control.listed":     {do: killControl},
	"keeper.control.holds":      {do: killControl},
	"control.build.begun":       {do: killControl},
	"control.build.opened":      {do: killControl},
	"control.build.done":        {do: killControl},
	"control.adopt.done":        {do: killControl},
	"control.ready.done":        {do: killControl},
	"keeper.heir.inherits":      {do: killKeeper},
	"keeper.heir.adopted":       {do: killKeeper},
	"control.orphan.notices":    {do: killKeeper},
	"control.orphan.willed":     {do: killKeeper},
}

// walker takes one daemon from point to point.
type walker struct {
	*mortal
	crash string          // crashpoint.Variable
	ctx   context.Context // of what is asked for: who is asked may be about to die
	now   who
	n     int // makes each change another one
}

// One of us dies at each step of each change: programs run on, ends are known,
// and what was asked for comes to be.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	w := newWalker(t)
	todo := pointsToWalk()
	for _, p := range todo {
		w.cross(p)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d points", len(todo))
	w.judge(false) // at some points both are dead
}

func newWalker(t *testing.T) *walker {
	t.Helper()
	crash := t.TempDir()
	sleeper := func() map[string]any {
		return map[string]any{"command": "sleep", "args": []string{"100000"}, "start": map[string]any{"min_uptime": "0s"}}
	}
	m := newMortalWith(t, mortalOptions{env: []string{crashpoint.Variable + "=" + crash}, change: func(programs map[string]any) {
		programs["scaled"], programs["edited"] = sleeper(), sleeper()
		programs["writer"].(map[string]any)["output"] = map[string]any{"rotate": map[string]any{"size": 4000, "keep": 10000}}
		programs["crasher0"].(map[string]any)["on"] = map[string]any{"crashed": []any{map[string]any{"run": map[string]any{"command": "true"}}}}
	}})
	w := &walker{mortal: m, crash: crash, ctx: context.Background()}
	w.now = w.settled(time.Time{})
	return w
}

// pointsToWalk are the points of the running daemon, in order of the table.
func pointsToWalk() (list []crashpoint.Point) {
	all, seen := crashpoint.All(), map[string]bool{}
	for _, p := range slices.Sorted(maps.Keys(all)) {
		s, wish := all[p], os.Getenv(pointsVar)
		if s.Change == "shutdown" {
			continue
		}
		if wish == "all" || wish == "" && !seen[s.Change] || slices.Contains(strings.Split(wish, ","), s.Name) {
			list = append(list, p)
		}
		seen[s.Change] = true
	}
	return list
}

// cross has somebody die at p and waits until all is well again.
func (w *walker) cross(p crashpoint.Point) {
	w.t.Helper()
	step := crashpoint.All()[p]
	c, ok := crossings[step.Name]
	if !ok {
		c = crossings[step.Change]
	}
	w.n++
	began := time.Now()
	check(w.t, crashpoint.Arm(w.crash, p))
	if err := w.reach(p, c.do); err != nil {
		w.t.Error(err)
		return
	}
	reached := time.Since(began)
	w.recovered(step)
	if c.do != nil && c.then != nil {
		err := poll(func() (bool, string) {
			err := c.do(w)
			return err == nil, fmt.Sprintf("%s: cannot do it: %v", step.Name, err)
		})
		if err == nil {
			err = poll(func() (bool, string) { return c.then(w), step.Name + ": it does not come to be" })
		}
		if err != nil {
			w.t.Error(err)
			return
		}
	}
	w.t.Logf("%-26s reached after %v, well after %v", step.Name, reached.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	w.dawdle()
}

// reach does what leads to p until somebody has died there.
func (w *walker) reach(p crashpoint.Point, do func(*walker) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	w.ctx = ctx
	done := make(chan error, 1)
	go func() {
		var err error // who was to answer may be dead
		for again := do != nil; again; again = err != nil && crashpoint.Armed(w.crash, p) && ctx.Err() == nil {
			err = do(w)
			select {
			case <-ctx.Done():
			case <-time.After(untilPause):
			}
		}
		done <- err
	}()
	err := poll(func() (bool, string) { return !crashpoint.Armed(w.crash, p), "nobody came to " + p.String() })
	cancel()
	if why := <-done; err != nil {
		err = fmt.Errorf("%w: %w", err, cmp.Or(why, errors.New("it was done all the same")))
	}
	w.ctx = context.Background()
	return err
}

// recovered waits until others answer, the same ones twice, and the writers are
// who they were.
func (w *walker) recovered(step crashpoint.Step) {
	w.t.Helper()
	var last who
	free := 0 // looks at which nobody held the lock
	err := poll(func() (bool, string) {
		if holder, _ := place.Holder(w.dir + "/run"); holder != 0 {
			free = 0
		} else if free++; free == 2 { // keeper and control are dead: somebody starts the daemon
			w.start()
		}
		now, err := w.ask()
		same := err == nil && now == last && (now.Control.PID != w.now.Control.PID || now.Keeper.PID != w.now.Keeper.PID)
		last = now
		return same, fmt.Sprintf("%s: nobody answers: %v", step.Name, err)
	})
	if err != nil {
		w.t.Error(err)
		return
	}
	w.now = last
	if w.mortal.pids == nil { // a new life
		check(w.t, poll(func() (bool, string) { return len(w.pids("writer")) == writers, "the writers do not run" }))
	}
	w.took = append(w.took, 0)
	client, err := zmq.Dial("ipc://"+w.dir+"/run/rpc.sock", untilTimeout)
	check(w.t, err)
	w.client.Close()
	w.client = client // the old one may have asked who is dead
	w.settled(time.Time{})
}

// call asks once and does not wait for somebody who died.
func (w *walker) call(method string, args map[string]any, reply any) error {
	client, err := zmq.Dial("ipc://"+w.dir+"/run/rpc.sock", untilTimeout)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(w.ctx, untilTimeout)
	defer cancel()
	return client.Call(ctx, method, args, reply)
}

func killControl(w *walker) error { return unix.Kill(w.now.Control.PID, unix.SIGKILL) }
func killKeeper(w *walker) error  { return unix.Kill(w.now.Keeper.PID, unix.SIGKILL) }

func restartScaled(w *walker) error {
	return w.call("restart", map[string]any{"program": "scaled"}, nil)
}

// pauseControl lets an end wait for its acknowledgement until the keeper is dead.
func (w *walker) pauseControl() error {
	if err := unix.Kill(w.now.Control.PID, unix.SIGSTOP); err != nil {
		return err
	}
	_ = poll(func() (bool, string) { return !crashpoint.Armed(w.crash, crashpoint.ExitNoted), "" })
	return unix.Kill(w.now.Control.PID, unix.SIGCONT)
}

// pids are the living processes of a program.
func (w *walker) pids(program string) (pids []int) {
	var reply struct {
		Programs map[string]struct {
			Instances map[int]struct {
				PID   int    `msgpack:"pid"`
				State string `msgpack:"state"`
			} `msgpack:"instances"`
		} `msgpack:"programs"`
	}
	if w.call("status", map[string]any{"program": program}, &reply) != nil {
		return nil
	}
	for _, i := range reply.Programs[program].Instances {
		if i.State == "running" && i.PID != 0 {
			pids = append(pids, i.PID)
		}
	}
	return pids
}

func (w *walker) scaledRuns() bool { return len(w.pids("scaled")) > 0 }

// setScore changes what every user may change, to and fro, on a living process.
func (w *walker) setScore() error {
	return w.call("set", map[string]any{"program": "scaled", "field": "oom_score_adj", "value": 5 * w.n}, nil)
}

// hasScore asks the kernel.
func (w *walker) hasScore() bool {
	pids := w.pids("scaled")
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
		if err != nil || strings.TrimSpace(string(b)) != strconv.Itoa(5*w.n) {
			return false
		}
	}
	return len(pids) > 0
}

func (w *walker) scale() error {
	for _, n := range []int{3, 1} {
		if err := w.call("scale", map[string]any{"program": "scaled", "instances": n, "wait": true}, nil); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) isScaled() bool { return len(w.pids("scaled")) == 1 }

func (w *walker) edit() error {
	w.programs["edited"].(map[string]any)["instances"] = 1 + w.n%3
	w.configure()
	return nil
}

func (w *walker) isEdited() bool { return len(w.pids("edited")) == 1+w.n%3 }

// reset takes away an override that it has made.
func (w *walker) reset() error {
	return errors.Join(w.setScore(), w.call("reset", map[string]any{"program": "scaled"}, nil))
}

// rollback pins the generation before the last one.
func (w *walker) rollback() error {
	if err := w.edit(); err != nil {
		return err
	}
	var reply struct {
		Generations []struct {
			Number int `msgpack:"generation"`
		} `msgpack:"generations"`
	}
	if err := w.call("generations", nil, &reply); err != nil {
		return err
	}
	n := len(reply.Generations)
	if n < 2 {
		return errors.New("there is but one generation")
	}
	return w.call("rollback", map[string]any{"generation": reply.Generations[n-2].Number}, nil)
}

// Who dies while everything is being stopped: it is stopped all the same, and
// can be started again.
func TestCrashPointsOfShutdown(t *testing.T) {
	t.Parallel()
	w := newWalker(t)
	for _, p := range []crashpoint.Point{crashpoint.ShutdownBegun, crashpoint.ShutdownStopped, crashpoint.ShutdownTold} {
		name := crashpoint.All()[p].Name
		check(t, crashpoint.Arm(w.crash, p))
		lived := map[int]string{} // by pid, when it began: it may soon be another's
		for _, pid := range w.mortal.pids {
			lived[pid] = startOf(pid)
		}
		check(t, unix.Kill(w.now.Keeper.PID, unix.SIGTERM))
		check(t, poll(func() (bool, string) {
			if crashpoint.Armed(w.crash, p) {
				return false, "nobody came to " + name
			}
			return unlocked(w.dir + "/run/lock"), name + ": the daemon does not end"
		}))
		for pid, start := range lived {
			if startOf(pid) == start && !zombie(pid) {
				t.Errorf("%s: a program lives on, pid %d", name, pid)
			}
		}
		w.mortal.pids = nil
		w.start()
		w.recovered(crashpoint.All()[p])
	}
	if list, _ := filepath.Glob(w.dir + "/ledger/*.overlap"); len(list) > 0 {
		t.Errorf("two copies at once: %v", list)
	}
}

// startOf is when a process began, as the kernel counts; empty is that it is gone.
func startOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	i := bytes.LastIndexByte(b, ')')
	if err != nil || i < 0 {
		return ""
	}
	f := strings.Fields(string(b[i+1:]))
	return f[22-3]
}

// unlocked reports whether nobody of a daemon lives. To look for the one who is named
// in the lock is not enough: control holds it too, and may be about to raise another.
func unlocked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil
}
