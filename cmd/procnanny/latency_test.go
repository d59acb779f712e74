package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procnanny/procnanny/rpc/zmq"
)

// BenchmarkCrash measures with real processes how long it takes from kill(2) of
// a program to its event at a subscriber, and to the first instruction of a
// hook's command (which is date: its own start is in the figure, and given
// beside it as that of the same command started by this process).
func BenchmarkCrash(b *testing.B) {
	if err := bin.need("procnanny-eval", "procnannyd", "procnanny-control"); err != nil {
		b.Fatal(err)
	}
	dir, err := os.MkdirTemp("/dev/shm", "pn")
	if err != nil {
		b.Skip("needs /dev/shm:", err)
	}
	defer os.RemoveAll(dir)
	const config = `programs: web: {
		command: "sleep", args: ["1000"], start: min_uptime: "0s"
		restart: {delay: "0s", jitter: 0, flap: count: 1000000}
		on: crashed: [{run: {command: "/bin/date", args: ["+%s%N"]}}]
	}`
	for _, sub := range []string{"config", "state", "run", "log"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config", "web.cue"), []byte(config), 0o644); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin.dir, "procnannyd"), "--config", dir+"/config", "--state", dir+"/state", "--run", dir+"/run", "--log-dir", dir+"/log")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() }()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		if _, err := os.Stat(dir + "/run/events.sock"); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	sub, err := zmq.Subscribe("ipc://"+dir+"/run/events.sock", []string{"state.web.", "hook."})
	if err != nil {
		b.Fatal(err)
	}
	defer sub.Close()
	time.Sleep(200 * time.Millisecond)
	_ = exec.Command("pkill", "-9", "-P", strconv.Itoa(cmd.Process.Pid), "sleep").Run() // the first event tells a pid

	var toEvent, toHook, alone []time.Duration
	var killed time.Time
	next := func() map[string]any {
		_, v, err := sub.Next(ctx)
		if err != nil {
			b.Fatal(err)
		}
		m, _ := v.(map[string]any)
		return m
	}
	b.ResetTimer()
	for n := 0; n < b.N+2; {
		m := next()
		switch m["event"] {
		case "exited":
			if !killed.IsZero() {
				toEvent = append(toEvent, time.Since(killed))
			}
		case "hook": // its command is done, so what it wrote is there
			if !killed.IsZero() { // else it was the warm-up
				toHook = append(toHook, lastStamp(b, dir).Sub(killed))
			}
			began := time.Now()
			if out, err := exec.Command("/bin/date", "+%s%N").Output(); err == nil {
				alone = append(alone, stamp(b, string(out)).Sub(began))
			}
			time.Sleep(20 * time.Millisecond)
			pid := livingPID(b, cmd.Process.Pid)
			killed = time.Now()
			_ = syscall.Kill(pid, syscall.SIGKILL)
			n++
		}
	}
	b.StopTimer()
	report := func(what string, list []time.Duration) {
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2].Microseconds()), what+"-p50-us")
		b.ReportMetric(float64(list[len(list)*99/100].Microseconds()), what+"-p99-us")
	}
	report("event", toEvent)
	report("hook", toHook)
	report("date-alone", alone)
}

// livingPID is the program's process: the youngest child of the keeper.
func livingPID(b *testing.B, keeper int) int {
	b.Helper()
	out, err := exec.Command("pgrep", "-n", "-P", strconv.Itoa(keeper), "sleep").Output()
	if err != nil {
		b.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		b.Fatal(err)
	}
	return pid
}

func stamp(b *testing.B, text string) time.Time {
	b.Helper()
	ns, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Unix(0, ns)
}

// lastStamp is the newest that the hook's commands wrote, whatever their place.
func lastStamp(b *testing.B, dir string) time.Time {
	b.Helper()
	var newest time.Time
	files, _ := filepath.Glob(dir + "/log/.hook */*.log")
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			b.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
		_, text, _ := strings.Cut(lines[len(lines)-1], " ")
		if at := stamp(b, text); at.After(newest) {
			newest = at
		}
	}
	return newest
}
