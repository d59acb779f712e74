package watch

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// starvedMost bounds how often its deadline an evaluation may take on a machine
// that does not let it run.
const starvedMost = 12

// clock ends an evaluation that takes too long. Time in which it was ready to
// run and had no processor is not its own: a busy machine makes no file bad.
type clock struct {
	began  time.Time
	limit  time.Duration
	timer  *time.Timer
	starve func() time.Duration
}

// watchClock calls end, from another goroutine, when the process has had limit.
func watchClock(limit time.Duration, pid int, end func()) *clock {
	c := &clock{began: time.Now(), limit: limit, starve: func() time.Duration { return starved(pid) }}
	c.timer = time.AfterFunc(limit, func() {
		if left := c.left(time.Since(c.began)); left > 0 {
			c.timer.Reset(left)
			return
		}
		end()
	})
	return c
}

// left is how much time there still is after so much.
func (c *clock) left(passed time.Duration) time.Duration {
	if passed >= starvedMost*c.limit {
		return 0
	}
	return c.limit - (passed - min(passed, c.starve()))
}

func (c *clock) stop() { c.timer.Stop() }

// starved is how long the threads of a process were ready to run and did not, by
// the kernel's count (/proc/PID/task/TID/schedstat, the second number, in ns); 0
// when it does not say.
func starved(pid int) time.Duration {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var sum time.Duration
	for _, file := range files {
		b, err := os.ReadFile(file)
		if f := bytes.Fields(b); err == nil && len(f) > 1 {
			ns, _ := strconv.ParseInt(string(f[1]), 10, 64)
			sum += time.Duration(ns)
		}
	}
	return sum
}
