package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc/zmq"
)

// TestInitOfAMachine: procnannyd is the first process of a machine, not of a
// container only. Its one program judges it, and ends it by its own code, as
// exit_when says; with its first process a machine ends.
func TestInitOfAMachine(t *testing.T) {
	kernel(t)
	t.Parallel()
	config, err := json.Marshal(map[string]any{
		"exit_when": "judge",
		"programs": map[string]any{
			"judge": map[string]any{
				"command": guestDir + "/guest", "args": []string{"-test.v", "-test.timeout=3m", "-test.run=^TestGuestUnderInit$"},
				"env":     map[string]any{guestVar: "1", "PROCNANNY_TEST_BIN": guestDir},
				"restart": map[string]any{"when": "never"}, "output": map[string]any{"mode": "inherit"},
			},
			"steady": map[string]any{"command": "sleep", "args": []string{"10000"}, "start": map[string]any{"min_uptime": "0s"}},
			"orphans": map[string]any{
				"command": "sh", "args": []string{"-c", "(sleep 0.01 & sleep 0.01 & sleep 0.01 &); exit 1"},
				"restart": map[string]any{"delay": "500ms", "factor": 1, "max_delay": "500ms"},
			},
		},
	})
	check(t, err)
	m := boot(t, newGuestDir(t), plan{
		Run:   []string{"%s/procnannyd", "--config", "/run/config/p.json", "--state", "/run/p/state", "--run", "/run/p/run", "--log-dir", "/run/p/log"},
		Files: map[string]string{"/run/config/p.json": string(config)}, Init: true,
	})
	said := strings.Join(m.over(), "\n")
	for _, want := range []string{"--- PASS: TestGuestUnderInit", "Attempted to kill init! exitcode=0x00000000"} {
		if !strings.Contains(said, want) {
			t.Errorf("the guest did not say %q:\n%s", want, said)
		}
	}
}

// TestGuestUnderInit is a program of a machine whose first process is procnannyd.
func TestGuestUnderInit(t *testing.T) {
	if os.Getenv(guestVar) == "" {
		t.Skip("it needs a machine of its own: TestInitOfAMachine boots one")
	}
	m := &mortal{t: t, dir: "/run/p"}
	var err error
	m.client, err = zmq.Dial("ipc:///run/p/run/rpc.sock", untilTimeout)
	check(t, err)
	steady := m.comes("steady", "running")
	w, err := m.ask()
	if check(t, err); w.Keeper.PID != 1 {
		t.Fatalf("the keeper is %d", w.Keeper.PID)
	}
	check(t, unix.Kill(1, unix.SIGKILL)) // the kernel protects it
	check(t, unix.Kill(w.Control.PID, unix.SIGKILL))
	w = m.another(w)
	m.call("upgrade", nil, nil)
	if w = m.another(w); w.Keeper.PID != 1 {
		t.Errorf("the keeper is %d", w.Keeper.PID)
	}
	if now := m.comes("steady", "running"); now.PID != steady.PID {
		t.Errorf("a program had pid %d and has %d", steady.PID, now.PID)
	}
	check(t, poll(func() (bool, string) {
		s, err := m.look("orphans")
		return err == nil && s.Run > 3, fmt.Sprintf("%+v, %v", s, err)
	}))
	check(t, poll(func() (bool, string) {
		left := zombies()
		return len(left) < 3, fmt.Sprint("zombies: ", left) // those of this moment
	}))
}

// another waits until another control answers.
func (m *mortal) another(w who) (now who) {
	m.t.Helper()
	check(m.t, poll(func() (bool, string) {
		var err error
		now, err = m.ask()
		return err == nil && now.Control.PID != w.Control.PID, fmt.Sprintf("%+v, %v", now, err)
	}))
	return now
}

// zombies are the dead children of the first process that it has not reaped.
func zombies() (list []int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && zombie(pid) {
			list = append(list, pid)
		}
	}
	return list
}
