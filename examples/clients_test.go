package examples_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// client is one of the example clients: how to call it and what it prints.
type client struct {
	name    string
	command []string
	// status and fizzle are what must be in its output.
	status, fizzle string
}

func clients(t *testing.T) []client {
	t.Helper()
	return []client{
		{
			// The two outputs of the first README of 2011, in its order of keys.
			name:    "ruby",
			command: []string{"ruby", "clients/ruby/client.rb"},
			status: `^\{"programs"=>\{"hello world"=>\{"command"=>"/usr/bin/env", "args"=>\["sh", "-c", ".*"\], "uid"=>\d+, "gid"=>\d+, ` +
				`"nice"=>5, "ionice"=>6, "active"=>true, "instances"=>\{0=>\{"pid"=>\d+, "state"=>"running", "exitcode"=>0, "exitsignal"=>0, "admin_state"=>"up"`,
			fizzle: `^\{"error"=>"No such method requested", "request"=>\{"request"=>"fizzle"\}`,
		},
		{
			name:    "python",
			command: []string{"/usr/bin/python3", "clients/python/client.py"},
			status:  `^\{'programs': \{'hello world': \{'command': '/usr/bin/env', 'args': .*'instances': \{0: \{'pid': \d+, 'state': 'running'`,
			fizzle:  `^\{'error': 'No such method requested', 'request': \{'request': 'fizzle'\}`,
		},
		{
			name:    "node",
			command: []string{"node", nodeClient(t)},
			status:  `^\{"programs":\{"hello world":\{"command":"/usr/bin/env","args":.*"instances":\{"0":\{"pid":\d+,"state":"running"`,
			fizzle:  `^\{"error":"No such method requested","request":\{"request":"fizzle"\}`,
		},
		{
			name:    "go",
			command: []string{goClient},
			status:  `programs:map\[hello world:map\[active:true args:\[sh -c .*\] command:/usr/bin/env .*state:running`,
			fizzle:  `error:No such method requested request:map\[request:fizzle\]`,
		},
	}
}

// nodeClient is the Node client with its libraries beside it: those that
// `npm ci` put there, or a copy of our own when the tree is not ours to write.
func nodeClient(t *testing.T) string {
	t.Helper()
	const dir = "clients/node"
	if _, err := os.Stat(dir + "/node_modules/.package-lock.json"); err == nil {
		return dir + "/client.mjs"
	}
	tmp := t.TempDir()
	copyFiles(t, tmp, dir+"/client.mjs", dir+"/package.json", dir+"/package-lock.json", dir+"/.npmrc")
	npm := exec.Command("npm", "ci", "--no-audit", "--no-fund")
	npm.Dir = tmp
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("cannot install the Node client's libraries: %v\n%s", err, out)
	}
	return tmp + "/client.mjs"
}

func (c client) cmd(d *daemon, args ...string) *exec.Cmd {
	return d.command(c.command[0], append(c.command[1:len(c.command):len(c.command)], args...)...)
}

// expect runs the client and holds its output against a pattern; the exit code
// tells a refusal.
func (c client) expect(t *testing.T, d *daemon, code int, pattern string, args ...string) {
	t.Helper()
	cmd := c.cmd(d, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("cannot run the client (make setup-test installs what it needs): %v", err)
	}
	// Ruby 3.4 prints maps with spaces around the arrow.
	text := strings.ReplaceAll(string(out), " => ", "=>")
	if got := cmd.ProcessState.ExitCode(); got != code || !regexp.MustCompile(pattern).MatchString(text) {
		t.Errorf("%v: expected exit %d and %s, found exit %d and\n%s", args, code, pattern, got, text)
	}
}

func TestClients(t *testing.T) {
	files := []string{"hello/hello.cue"}
	if os.Getuid() == 0 {
		files = append(files, "hello/root/user.cue")
	}
	d := startDaemon(t, files...)
	for i, c := range clients(t) {
		t.Run(c.name, func(t *testing.T) {
			before := d.running("hello world", 3)
			c.expect(t, d, 0, c.status, "status")
			c.expect(t, d, 1, c.fizzle, "fizzle")
			c.expect(t, d, 0, "danced.*[tT]rue", "dance")
			c.expect(t, d, 1, "Message is missing 'program' field", "restart")

			c.expect(t, d, 0, "results.*hello world.*0.*[tT]rue", "restart", "program=hello world", "instance=0")
			wait(t, "another pid of hello world/0, and the same of the others", func() bool {
				_, now := d.states("hello world")
				return len(now) == 3 && now[0] != before[0] && now[1] == before[1] && now[2] == before[2]
			})

			nap := fmt.Sprintf("nap %d", i)
			c.expect(t, d, 0, "created.*"+nap, "create", "program="+nap, "command=sleep", `args=["3600"]`)
			d.running(nap, 1)
			c.follow(t, d)
		})
	}
}

// follow expects two state events. The subscription takes a moment to arrive,
// so there is an event every now and then until the client has seen enough.
func (c client) follow(t *testing.T, d *daemon) {
	t.Helper()
	var out strings.Builder
	cmd := c.cmd(d, "follow", "state.hello world.1", "2")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var err error
	wait(t, "two events", func() bool {
		_ = d.command(bin+"/procnanny", "restart", "hello world/1").Run()
		select {
		case err = <-done:
			return true
		default:
			return false
		}
	})
	if lines := strings.Count(out.String(), "\n"); err != nil || lines != 2 || strings.Count(out.String(), "hello world") < 2 {
		t.Errorf("expected two events of hello world, found %v and\n%s", err, out.String())
	}
	d.running("hello world", 3)
}
