package examples_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/procnanny/procnanny/runtime/daemontest"
)

// TestClientsWithKeys: the same clients over TCP, each with the keys that
// procnanny keygen made, as admin and as reader.
func TestClientsWithKeys(t *testing.T) {
	var dir string
	address := fmt.Sprintf("127.%d.%d.%d", 1+os.Getpid()>>16%250, os.Getpid()>>8&255, 1+os.Getpid()&255%250) // nobody else's: every port is free
	d := startDaemonWith(t, func(at string) []string {
		dir = at
		keygen(t, "server", "--state", dir+"/state")
		for _, role := range []string{"admin", "read"} {
			keygen(t, "client", dir+"/"+role+".key")
			keygen(t, "allow", "--state", dir+"/state", "--role", role, "--name", role, dir+"/"+role+".key.pub")
		}
		return []string{"--listen", "ipc://" + dir + "/run/rpc.sock", "--listen", "tcp://" + address + ":7001", "--events", "tcp://" + address + ":7002"}
	}, "hello/hello.cue")
	d.running("hello world", 3)
	as := func(role string) {
		d.env = []string{
			"PROCNANNY_CONNECT=tcp://" + address + ":7001", "PROCNANNY_EVENTS=tcp://" + address + ":7002",
			"PROCNANNY_KEY=" + dir + "/" + role + ".key", "PROCNANNY_SERVER_KEY=" + dir + "/state/keys/server.pub",
		}
	}
	for _, c := range clients(t) {
		t.Run(c.name, func(t *testing.T) {
			as("read")
			c.expect(t, d, 0, c.status, "status")
			c.expect(t, d, 1, "the key of read may not restart", "restart", "program=hello world", "instance=0")
			as("admin")
			c.expect(t, d, 0, "results.*hello world.*0.*[tT]rue", "restart", "program=hello world", "instance=0")
			c.follow(t, d)
		})
	}
}

func keygen(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(bin+"/procnanny", append([]string{"keygen"}, args...)...)
	cmd.Env = daemontest.Environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("keygen %v: %v\n%s", args, err, out)
	}
}
