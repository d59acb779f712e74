package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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
	"github.com/procnanny/procnanny/runtime/daemontest"
)

func init() {
	roles["talker"] = talker
	roles["ticker"] = ticker
}

const (
	talkVar = "PROCNANNY_TEST_TALK"
	// paceVar is how long a talker rests after each write.
	paceVar = "PROCNANNY_TEST_PACE"
	// outputVar sets how many megabytes TestOutputUnderDeaths writes, and
	// outputDeathsVar how many keepers die in TestOutputUnderDeathsOfTheKeeper.
	outputVar       = "PROCNANNY_TEST_OUTPUT_MB"
	outputDeathsVar = "PROCNANNY_TEST_OUTPUT_DEATHS"
	lineBytes       = 100
)

// talker writes as many numbered lines as it is told, as fast as it can, in
// writes of several sizes, and then is silent.
func talker() {
	lines, _ := strconv.Atoi(os.Getenv(talkVar))
	pace, _ := time.ParseDuration(os.Getenv(paceVar))
	var b []byte
	for i := 1; i <= lines; i++ {
		at := len(b)
		b = strconv.AppendInt(b, int64(i), 10)
		b = append(b, ' ')
		for len(b)-at < lineBytes-1 {
			b = append(b, '.')
		}
		b = append(b, '\n')
		if i%(1+i%41) == 0 || i == lines {
			if _, err := os.Stdout.Write(b); err != nil {
				os.Exit(1)
			}
			b = b[:0]
			time.Sleep(pace)
		}
	}
	time.Sleep(24 * time.Hour)
}

// ticker writes what time it is.
func ticker() {
	for {
		fmt.Println(time.Now().UnixNano())
		time.Sleep(5 * time.Millisecond)
	}
}

// loud is a daemon with programs that write much.
type loud struct {
	*mortal
	log string
}

func newLoud(t *testing.T, programs map[string]any, flags ...string) *loud {
	t.Helper()
	check(t, daemontest.Build())
	dir := daemontest.Dir(t)
	b, err := json.Marshal(map[string]any{"programs": programs})
	check(t, err)
	check(t, os.WriteFile(dir+"/config/p.json", b, 0o644))
	m := &mortal{t: t, dir: dir, args: daemontest.Flags(dir, flags...)}
	m.stderr, err = os.Create(filepath.Join(dir, "stderr"))
	check(t, err)
	t.Cleanup(func() { m.stderr.Close() })
	m.client, err = zmq.Dial("ipc://"+dir+"/run/rpc.sock", 20*time.Second)
	check(t, err)
	t.Cleanup(func() { m.client.Close() })
	t.Cleanup(m.end)
	m.start()
	return &loud{m, dir + "/log"}
}

func talks(t *testing.T, role string, instances, lines int, rotate int) map[string]any {
	t.Helper()
	self, err := os.Executable()
	check(t, err)
	return map[string]any{
		"command": self, "instances": instances, "start": map[string]any{"min_uptime": "0s"},
		"env":    map[string]any{roleVar: role, talkVar: strconv.Itoa(lines), "GORACE": "atexit_sleep_ms=0"},
		"output": map[string]any{"rotate": map[string]any{"size": rotate, "keep": 100_000}},
	}
}

// files are those of an instance in the order of writing.
func (l *loud) files(program string, index int) []string {
	base := filepath.Join(l.log, program, strconv.Itoa(index)+".log")
	old, _ := filepath.Glob(base + ".*")
	return append(old, base)
}

func (l *loud) size(program string, instances int) (n int64) {
	for i := range instances {
		for _, f := range l.files(program, i) {
			if info, err := os.Stat(f); err == nil {
				n += info.Size()
			}
		}
	}
	return n
}

// Forty programs write at full speed, files are put aside all the time, and
// control is killed every second: every line is there once, in order.
func TestOutputUnderDeaths(t *testing.T) {
	const talkers = 40
	megabytes, rotate, every := 12, 50<<10, 300*time.Millisecond
	if n, err := strconv.Atoi(os.Getenv(outputVar)); err == nil {
		megabytes, rotate, every = n, 1<<20, time.Second
	}
	lines := megabytes * 1_000_000 / talkers / lineBytes
	begin := time.Now()
	l := newLoud(t, map[string]any{"talker": talks(t, "talker", talkers, lines, rotate)})
	total := int64(lines) * lineBytes * talkers
	kills := 0
	for deadline := time.Now().Add(time.Duration(60+megabytes/5) * time.Second); kills < 3 || l.size("talker", talkers) < total; kills++ {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d bytes are there", l.size("talker", talkers), total)
		}
		<-time.After(every)
		w, err := l.ask()
		if err != nil {
			continue
		}
		check(t, unix.Kill(w.Control.PID, unix.SIGKILL))
	}
	files := 0
	for i := range talkers {
		files += l.judge(i, lines)
	}
	t.Logf("%d MB in %d files, control killed %d times, %v", total/1_000_000, files, kills, time.Since(begin).Round(time.Millisecond))
}

// The same while the keeper is killed, which moves the output.
func TestOutputUnderDeathsOfTheKeeper(t *testing.T) {
	const talkers = 40
	kills, lines, rotate := 5, 5000, 20<<10
	if n, err := strconv.Atoi(os.Getenv(outputDeathsVar)); err == nil {
		kills, lines, rotate = n, 2000*n, 1<<20
	}
	program := talks(t, "talker", talkers, lines, rotate)
	program["env"].(map[string]any)[paceVar] = "1ms"
	l := newLoud(t, map[string]any{"talker": program}, "--supervised", "no")
	var w who
	err := poll(func() (ok bool, saw string) {
		var err error
		w, err = l.ask()
		return err == nil && l.size("talker", talkers) > 0, fmt.Sprint(err)
	})
	check(t, err)
	under := 0 // while they wrote
	for range kills {
		if l.size("talker", talkers) < int64(lines)*lineBytes*talkers {
			under++
		}
		check(t, unix.Kill(w.Keeper.PID, unix.SIGKILL))
		check(t, poll(func() (bool, string) {
			next, err := l.ask()
			if err != nil || next.Keeper.PID == w.Keeper.PID {
				return false, fmt.Sprint(err)
			}
			w = next
			return true, ""
		}))
		l.dawdle()
	}
	total := int64(lines) * lineBytes * talkers
	for deadline := time.Now().Add(time.Duration(60+kills) * time.Second); l.size("talker", talkers) < total; time.Sleep(untilPause) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d bytes are there", l.size("talker", talkers), total)
		}
	}
	files := 0
	for i := range talkers {
		files += l.judge(i, lines)
	}
	if t.Logf("%d MB in %d files, keeper killed %d times, %d of them while they wrote", total/1_000_000, files, kills, under); under == 0 {
		t.Error("nobody wrote while a keeper died")
	}
}

// judge reads all files of an instance.
func (l *loud) judge(index, lines int) int {
	next := 1
	list := l.files("talker", index)
	for n, name := range list {
		f, err := os.Open(name)
		check(l.t, err)
		sc := bufio.NewScanner(f)
		for ; sc.Scan(); next++ {
			if got, _, _ := bytes.Cut(sc.Bytes(), []byte(" ")); string(got) != strconv.Itoa(next) || len(sc.Bytes()) != lineBytes-1 {
				l.t.Fatalf("talker/%d: file %d of %d: line %d is %.50q", index, n, len(list), next, sc.Text())
			}
		}
		f.Close()
	}
	if next != lines+1 {
		l.t.Errorf("talker/%d has %d lines of %d", index, next-1, lines)
	}
	return len(list)
}

// What is written is at a subscriber's at once, also while another program
// writes at full speed; and nothing of it is lost on the way.
func TestLiveTailIsQuick(t *testing.T) {
	l := newLoud(t, map[string]any{
		"ticker": talks(t, "ticker", 1, 0, 1<<20),
		"talker": talks(t, "talker", 1, 1_000_000, 1<<20),
	})
	check(t, poll(func() (bool, string) {
		out, _ := exec.Command(daemontest.Bin("procnanny"), "--run", l.dir+"/run", "status").CombinedOutput()
		return strings.Count(string(out), " running ") == 2, string(out)
	}))
	sub, err := zmq.Subscribe("ipc://"+l.dir+"/run/events.sock", []string{"output.ticker."})
	check(t, err)
	defer sub.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var late []time.Duration
	next := int64(-1)
	for len(late) < 300 {
		_, event, err := sub.Next(ctx)
		check(t, err)
		now := time.Now().UnixNano()
		m, _ := normal(event).(map[string]any)
		data, _ := m["data"].([]byte)
		if at := number(m["offset"]); next >= 0 && at != next {
			t.Fatalf("a batch begins at %d, the last one ended at %d", at, next)
		}
		next = number(m["offset"]) + int64(len(data))
		for line := range strings.Lines(string(data)) {
			wrote, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
			check(t, err)
			late = append(late, time.Duration(now-wrote))
		}
	}
	slices.Sort(late)
	p50, p99 := late[len(late)/2], late[len(late)*99/100]
	t.Logf("write to subscriber: median %v, 99 %% %v", p50, p99)
	if p50 > 100*time.Millisecond { // 5 ms where nobody else works
		t.Errorf("a line takes %v (median)", p50)
	}
}
