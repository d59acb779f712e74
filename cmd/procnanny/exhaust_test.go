package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/rpc/zmq"
	"github.com/procnanny/procnanny/runtime/daemontest"
)

// attack is how many connections somebody opens who may, where the daemon may
// have fewer descriptors. It is what ended a plain libzmq.
const (
	attack   = 1113
	fewFiles = "1024"
)

// TestDescriptorsAreExhausted: no program notices, and the daemon answers again
// as soon as the attack is over.
func TestDescriptorsAreExhausted(t *testing.T) {
	d := daemontest.New(t)
	check(t, os.WriteFile(d.Dir+"/config/web.json", []byte(`{"programs": {"web": {"command": "sleep", "args": ["1000"], "instances": 5}}}`), 0o644))
	d.Wrap = []string{"prlimit", "--nofile=" + fewFiles + ":" + fewFiles}
	d.Start()
	endpoint := d.Endpoint()
	before := livingPIDs(t, endpoint, 5)

	var conns []net.Conn
	socket := d.Run() + "/rpc.sock"
	for tries := 0; len(conns) < attack && tries < 4*attack; tries++ {
		if conn, err := net.DialTimeout("unix", socket, time.Second); err == nil {
			conns = append(conns, conn)
		} // it is taken away for moments, or its queue is full
	}
	t.Logf("%d connections were taken", len(conns))
	if len(conns) < 500 {
		t.Errorf("only %d connections: that is no attack", len(conns))
	}
	for _, c := range conns {
		c.Close()
	}
	over := time.Now()
	after := livingPIDs(t, endpoint, 5)
	t.Logf("it answers %v after the end of the attack", time.Since(over))
	if before != after {
		t.Errorf("programs were touched: before %s, after %s", before, after)
	}
}

// livingPIDs waits until n instances of web run, and names their pids and how
// often each was started.
func livingPIDs(t *testing.T, endpoint string, n int) string {
	t.Helper()
	c, err := zmq.Dial(endpoint, time.Second)
	check(t, err)
	defer c.Close()
	var st struct {
		Programs map[string]struct {
			Instances map[int]struct {
				PID   int    `msgpack:"pid"`
				State string `msgpack:"state"`
			} `msgpack:"instances"`
		} `msgpack:"programs"`
	}
	var last error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		st.Programs = nil
		last = c.Call(ctx, "status", nil, &st)
		cancel()
		if last != nil {
			continue
		}
		var out []string
		for index := range n {
			if i := st.Programs["web"].Instances[index]; i.PID > 0 && i.State == "running" {
				out = append(out, fmt.Sprintf("web/%d: %d", index, i.PID))
			}
		}
		if len(out) == n {
			return strings.Join(out, ", ")
		}
	}
	t.Fatalf("the daemon has not %d running instances within a minute: %v", n, last)
	return ""
}
