package examples_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

const storm = `
on: crashed: [{name: "count", run: {command: "/bin/sh", args: ["-c", "echo $PROCNANNY_EVENT_RUN_ID $PROCNANNY_EVENT_SEQ >> \(_dir)/hooked"]}}]
programs: shaky: {
	command: "/bin/sh"
	args: ["-c", "echo $PROCNANNY_RUN_ID >> \(_dir)/ran; exit 3"]
	instances: 3
	start: min_uptime: "0s"
	restart: {delay: "150ms", max_delay: "150ms", flap: {count: 3, within: "10s"}}
}
`

// numbersIn counts the first numbers of the lines of a file.
func numbersIn(t *testing.T, file string) map[int]int {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	out := map[int]int{}
	for line := range strings.Lines(string(raw)) {
		first, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(first)
		if err != nil {
			t.Fatalf("%s has %q", file, line)
		}
		out[n]++
	}
	return out
}

// Control is killed again and again while programs crash: every end is in the
// history once, every event reaches who follows once, the restart counters never
// go back, and a hook is run for every crash.
func TestAStormWithKilledControls(t *testing.T) {
	kills := 8
	if n, err := strconv.Atoi(os.Getenv("PROCNANNY_TEST_KILLS")); err == nil {
		kills = n
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "storm.cue")
	if err := os.WriteFile(file, []byte(fmt.Sprintf("_dir: %q\n%s", dir, storm)), 0o644); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, file)
	wait(t, "the daemon", func() bool { states, _ := d.states("shaky"); return len(states) == 3 })
	var followed, said lockedText
	follow := exec.Command(bin+"/procnanny", "events", "-f", "--since", "0", "-o", "json") // for as long as it takes
	follow.Env = d.command("").Env
	follow.Stdout, follow.Stderr = &followed, &said
	defer func() {
		if t.Failed() {
			seen := followed.text()
			t.Logf("the follower said: %s, after %d lines, the last of them %s", said.text(), strings.Count(seen, "\n"), seen[strings.LastIndex(strings.TrimSpace(seen), "\n")+1:])
		}
	}()
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = follow.Process.Kill(); _ = follow.Wait() }()
	starts := 0
	for range kills {
		d.killControl()
		wait(t, "an answer", func() bool { now := d.starts(); ok := now >= starts && now > 0; starts = max(starts, now); return ok })
		before := len(numbersIn(t, dir+"/ran"))
		wait(t, "more crashes", func() bool { return len(numbersIn(t, dir+"/ran")) > before+3 })
	}
	if out, err := d.command(bin+"/procnanny", "stop", "shaky", "--wait").CombinedOutput(); err != nil {
		t.Fatalf("stop: %v\n%s", err, out)
	}
	recorded, crashes := d.recorded(t)
	for run, n := range numbersIn(t, dir+"/ran") {
		if n != 1 || recorded[run] != 1 {
			t.Errorf("run %d ran %d times, and is in the history %d times", run, n, recorded[run])
		}
	}
	wait(t, "all hooks", func() bool {
		hooked := numbersIn(t, dir+"/hooked")
		for run := range crashes {
			if hooked[run] == 0 {
				return false
			}
		}
		return true
	})
	repeats := 0
	for _, n := range numbersIn(t, dir+"/hooked") {
		repeats += n - 1
	}
	t.Logf("%d crashes over %d deaths of control, %d hooks were told twice", len(crashes), kills, repeats)
	var seqs []int
	all, err := d.command(bin+"/procnanny", "events", "--since", "0", "-o", "json").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d events are kept", strings.Count(string(all), "\n"))
	wait(t, "the follower to have seen all of it", func() bool {
		return strings.Count(followed.text(), "\n") >= strings.Count(string(all), "\n")
	})
	for line := range strings.Lines(followed.text()) {
		var e struct {
			Seq int `json:"seq"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			continue // the last line may be half
		}
		seqs = append(seqs, e.Seq)
	}
	if !sort.IntsAreSorted(seqs) || seqs[0] != 1 || seqs[len(seqs)-1] != len(seqs) {
		t.Errorf("%d events followed, from %d to %d", len(seqs), seqs[0], seqs[len(seqs)-1])
	}
}

// starts is the sum of the restart counters; 0 when nobody answers.
func (d *daemon) starts() (sum int) {
	out, err := d.command(bin+"/procnanny", "status", "-o", "json").Output()
	if err != nil {
		return 0
	}
	var reply struct {
		Programs map[string]struct {
			Instances map[int]struct {
				Starts int `json:"starts"`
			} `json:"instances"`
		} `json:"programs"`
	}
	if json.Unmarshal(out, &reply) != nil {
		return 0
	}
	for _, i := range reply.Programs["shaky"].Instances {
		sum += i.Starts
	}
	return sum
}

// recorded counts the runs in the history, and those that crashed.
func (d *daemon) recorded(t *testing.T) (all, crashes map[int]int) {
	t.Helper()
	out, err := d.command(bin+"/procnanny", "history", "shaky", "--limit", "10000", "-o", "json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var reply struct {
		Runs []struct {
			Run      int      `json:"run_id"`
			ExitCode int      `json:"exitcode"`
			Cause    string   `json:"cause"`
			End      *float64 `json:"end"`
		} `json:"runs"`
	}
	if err := json.Unmarshal(out, &reply); err != nil {
		t.Fatal(err)
	}
	all, crashes = map[int]int{}, map[int]int{}
	for _, r := range reply.Runs {
		all[r.Run]++
		switch {
		case r.End == nil:
			t.Errorf("run %d has no end", r.Run)
		case r.Cause == "crash":
			crashes[r.Run]++
			if r.ExitCode != 3 {
				t.Errorf("run %d ended with %d", r.Run, r.ExitCode)
			}
		case r.Cause != "stop":
			t.Errorf("run %d ended by %q", r.Run, r.Cause)
		}
	}
	return all, crashes
}
