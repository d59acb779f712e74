package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc/zmq"
)

const (
	// againVar sets with how many instances TestStatusAgain kills control: "100,1000".
	againVar    = "PROCNANNY_TEST_AGAIN"
	againDeaths = 20 // of each, when it is asked for
	// generationsKept is how many there are: a daemon keeps the last 20.
	generationsKept = 20
)

// Control is killed: how long until somebody asks for the status and gets all of
// it. What it took is told, not judged: that is for a machine at rest.
func TestStatusAgain(t *testing.T) {
	if v := os.Getenv(againVar); v != "" {
		for size := range strings.SplitSeq(v, ",") {
			n, err := strconv.Atoi(size)
			check(t, err)
			t.Run(size, func(t *testing.T) { statusAgain(t, n, generationsKept, againDeaths) })
		}
		return
	}
	statusAgain(t, 20, 2, 3)
}

func statusAgain(t *testing.T, n, generations, deaths int) {
	m := newMortalWith(t, mortalOptions{change: func(programs map[string]any) {
		for i := range crashers {
			delete(programs, fmt.Sprintf("crasher%d", i))
		}
		for i := range n {
			programs[fmt.Sprintf("sleeper%d", i)] = map[string]any{"command": "sleep", "args": []string{"100000"}, "start": map[string]any{"min_uptime": "0s"}}
		}
	}})
	w := m.settled(time.Time{})
	check(t, poll(func() (bool, string) {
		_, running, err := m.everything()
		return err == nil && running == n+writers, fmt.Sprint(running, err)
	}))
	m.edit(generations)
	var took []time.Duration
	for range deaths {
		time.Sleep(time.Second + time.Duration(rand.IntN(100))*time.Millisecond) // who dies young is started ever more slowly
		check(t, unix.Kill(w.Control.PID, unix.SIGKILL))
		took = append(took, m.again(&w, n+writers))
	}
	m.settled(time.Time{})
	slices.Sort(took)
	t.Logf("%d instances, %d deaths: all of the status again after %v (median), %v (most)",
		n+writers, deaths, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
}

// edit makes generations that touch nobody, as they gather with time.
func (m *mortal) edit(generations int) {
	m.t.Helper()
	for i := range generations {
		m.programs["sleeper0"].(map[string]any)["restart"] = map[string]any{"give_up": i + 1}
		m.configure()
		check(m.t, poll(func() (bool, string) {
			var reply struct {
				Config configState `msgpack:"config"`
			}
			err := m.client.Call(context.Background(), "status", map[string]any{"program": "sleeper0"}, &reply)
			return err == nil && reply.Config.Generation == uint64(i+2), fmt.Sprint(reply.Config, err)
		}))
	}
}

// again waits until another control tells of n running instances.
func (m *mortal) again(w *who, n int) time.Duration {
	m.t.Helper()
	since := time.Now()
	for unix.Kill(w.Control.PID, 0) == nil { // until the keeper has reaped it, it may still take connections
		time.Sleep(100 * time.Microsecond)
	}
	for time.Since(since) < untilTimeout {
		now, running, err := m.everything()
		if err == nil && now.Control.PID != w.Control.PID && running == n {
			*w = now
			return time.Since(since)
		}
		time.Sleep(time.Millisecond)
	}
	m.t.Fatalf("after %v nobody tells of %d instances", untilTimeout, n)
	return 0
}

// everything asks whoever listens for the status, on a connection of its own.
func (m *mortal) everything() (w who, running int, err error) {
	c, err := net.Dial("unix", m.dir+"/run/rpc.sock") // else libzmq would wait and try again
	if err != nil {
		return w, 0, err
	}
	c.Close()
	client, err := zmq.Dial("ipc://"+m.dir+"/run/rpc.sock", askTimeout)
	if err != nil {
		return w, 0, err
	}
	defer client.Close()
	var reply struct {
		Programs map[string]struct {
			Instances map[int]struct {
				PID   int    `msgpack:"pid"`
				State string `msgpack:"state"`
			} `msgpack:"instances"`
		} `msgpack:"programs"`
	}
	if err = client.Call(context.Background(), "status", nil, &reply); err == nil {
		err = client.Call(context.Background(), "version", nil, &w)
	}
	for _, p := range reply.Programs {
		for _, i := range p.Instances {
			if i.PID != 0 && i.State == "running" {
				running++
			}
		}
	}
	return w, running, err
}
