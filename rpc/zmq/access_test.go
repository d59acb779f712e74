package zmq

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/procnanny/procnanny/rpc"
)

// askVariable makes the test binary a client: it asks every method at the
// endpoint, and prints a line of JSON for each.
const askVariable = "PROCNANNY_TEST_ASK"

// askAll prints what each method says to us.
func askAll(endpoint string) {
	c, err := Dial(endpoint, long/3)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	for _, m := range rpc.Methods() {
		answer := map[string]string{"method": m.Name, "code": "done"}
		err := c.Call(context.Background(), m.Name, nil, nil)
		if refused, ok := errors.AsType[*rpc.Error](err); ok {
			answer["code"] = string(refused.Code)
		} else if err != nil {
			answer["code"] = err.Error()
		}
		line, _ := json.Marshal(answer)
		fmt.Println(string(line))
	}
}

// actor asks every method and returns the code of each.
type actor struct {
	name        string
	read, admin bool
	ask         func(t *testing.T) map[string]string
}

// TestWhoMayDoWhat asks every method of the table as everybody who can come
// near a daemon, over real sockets; none gets more than the table says. The
// backend has nothing but a picture, so what is let through ends otherwise than
// with forbidden.
func TestWhoMayDoWhat(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	const owner, group, member = 4001, 4002, 4003
	reach := uint32(4009) // who is in it may open the socket
	endpoint := endpointIn(t)
	path := strings.TrimPrefix(endpoint, "ipc://")
	k := newKeyDir(t)
	admin, reader, stranger := newKey(t), newKey(t), newKey(t)
	k.allow(k.line("admin", admin, "a") + k.line("read", reader, "r"))
	s, refused := listenTelling(t, Config{RPC: []string{endpoint, "tcp://127.0.0.1:*"}, Group: &reach, Keys: k.keys()}, rpc.Rights{
		Own: owner, Group: new(uint32(group)), Groups: func(uid uint32) []uint32 {
			return map[uint32][]uint32{member: {1, group}}[uid]
		},
	})
	if err := os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755); err != nil { // a test's own directory lets nobody in
		t.Fatal(err)
	}
	tcp := s.Endpoints()[1]
	byKey := func(keys *ClientKeys, patience time.Duration) func(*testing.T) map[string]string {
		return func(t *testing.T) map[string]string { return askWith(t, tcp, keys, patience) }
	}
	const brief = time.Second // for those that shall wait in vain
	actors := []actor{
		{"root", true, true, as(endpoint, 0, 0)},
		{"the daemon's own uid", true, true, as(endpoint, owner, 1)},
		{"the admin group, primary", true, true, as(endpoint, 5001, group)},
		{"the admin group, supplementary", true, true, as(endpoint, member, 5002)},
		{"another uid", true, false, as(endpoint, 5003, 5003)},
		{"another uid whose number ends like root's", true, false, as(endpoint, 10000, 10000)},
		{"a peer of ZMTP 1.0", false, false, rawV1(path)},
		{"a peer that says it is root in its READY", true, false, forged(endpoint, 5004)},
		{"an admin's key", true, true, byKey(k.as(admin), long)},
		{"a reader's key", true, false, byKey(k.as(reader), long)},
		{"a key that is not allowed", false, false, byKey(k.as(stranger), long)},
		{"another server's key", false, false, byKey(&ClientKeys{Own: admin, Server: stranger.Public}, brief)},
		{"no key", false, false, byKey(nil, brief)},
		{"ZMTP 1.0 over TCP", false, false, rawV1(strings.TrimPrefix(tcp, "tcp://"))},
		{"a browser's request", false, false, browser(strings.TrimPrefix(tcp, "tcp://"))},
	}
	checks := 0
	for _, a := range actors {
		codes := a.ask(t)
		for _, m := range rpc.Methods() {
			want := a.read
			if m.Access == rpc.AccessAdmin {
				want = a.admin
			}
			code, asked := codes[m.Name]
			if got := asked && code != "forbidden" && code != "none"; got != want || !asked {
				t.Errorf("%s: %s ended with %q, and may it? %t", a.name, m.Name, code, want)
			}
			checks++
		}
	}
	t.Logf("%d methods as %d actors: %d checks", len(rpc.Methods()), len(actors), checks)
	for _, want := range []func(rpc.Refusal) bool{
		func(r rpc.Refusal) bool {
			return r.Act == rpc.ActMethod && r.Method == "stop" && r.Peer.UID == 5003 && r.Peer.PID > 0
		},
		func(r rpc.Refusal) bool { return r.Act == rpc.ActMethod && r.Method == "stop" && r.Peer.UID == 5004 },
		func(r rpc.Refusal) bool { return r.Act == rpc.ActRequest && !r.Peer.Known },
		func(r rpc.Refusal) bool { return r.Act == rpc.ActMethod && r.Peer.Key == reader.Public },
		func(r rpc.Refusal) bool { return r.Act == rpc.ActConnect && r.Peer.Key == stranger.Public },
		func(r rpc.Refusal) bool { return r.Act == rpc.ActConnect && strings.Contains(r.Why, "no CURVE key") },
		func(r rpc.Refusal) bool {
			return r.Act == rpc.ActConnect && strings.Contains(r.Why, "does not speak ZMTP 3")
		},
	} {
		waitUntil(t, "each kind of refusal is told", refused.have(want))
	}
}

// as runs a client with other credentials; it may always open the socket.
func as(endpoint string, uid, gid uint32) func(*testing.T) map[string]string {
	return func(t *testing.T) map[string]string {
		return clientAs(t, askVariable+"="+endpoint, uid, gid)
	}
}

func clientAs(t *testing.T, env string, uid, gid uint32) map[string]string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=none")
	cmd.Env = []string{env, "GORACE=atexit_sleep_ms=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: []uint32{4009}}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as uid %d: %v\n%s", uid, err, out)
	}
	codes := map[string]string{}
	for line := bufio.NewScanner(bytes.NewReader(out)); line.Scan(); {
		var answer struct{ Method, Code string }
		if err := json.Unmarshal(line.Bytes(), &answer); err != nil {
			t.Fatalf("as uid %d: %s", uid, line.Text())
		}
		codes[answer.Method] = answer.Code
	}
	return codes
}

// each asks every method, all at once.
func each(ask func(method string) (code string)) map[string]string {
	codes := map[string]string{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, m := range rpc.Methods() {
		asking.Go(func() {
			code := ask(m.Name)
			mu.Lock()
			defer mu.Unlock()
			codes[m.Name] = code
		})
	}
	asking.Wait()
	return codes
}

// askWith asks every method with keys; no answer is none.
func askWith(t *testing.T, endpoint string, keys *ClientKeys, patience time.Duration) map[string]string {
	t.Helper()
	return each(func(method string) string {
		code, err := ask(t, endpoint, keys, method, patience)
		if err != nil {
			return "none"
		}
		return cmp.Or(string(code), "done")
	})
}

// rawV1 speaks ZMTP 1.0, which has no metadata.
func rawV1(address string) func(*testing.T) map[string]string {
	return func(t *testing.T) map[string]string {
		return rawAll(t, address, func(request []byte) []byte {
			return append([]byte{1, 0, 1, 1, 0xff, 0, 0, 0, 0, 0, 0, 0, byte(len(request) + 1), 0}, request...)
		})
	}
}

// browser sends a request in the body of a POST, as a web page can.
func browser(address string) func(*testing.T) map[string]string {
	return func(t *testing.T) map[string]string {
		return rawAll(t, address, func(request []byte) []byte {
			body := append([]byte{1, 0, 1, 1, byte(len(request) + 1), 0}, request...)
			return append(fmt.Appendf(nil, "POST /%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", strings.Repeat("x", 70), len(body)), body...)
		})
	}
}

// rawAll sends each method on a connection of its own, made by wrap, and reads
// until the answer or the end.
func rawAll(t *testing.T, address string, wrap func([]byte) []byte) map[string]string {
	t.Helper()
	return each(func(method string) string {
		request, err := rpc.EncodeRequest(method, nil)
		if err != nil {
			t.Error(err)
		}
		got := rawExchange(t, address, wrap(request))
		switch {
		case bytes.Contains(got, []byte("forbidden")):
			return "forbidden"
		case bytes.Contains(got, []byte("error")) || bytes.Contains(got, []byte("danced")) || len(got) > 200:
			return "done"
		}
		return "none"
	})
}

// rawExchange writes bytes and returns what came until the answer, the end of
// the connection, or a moment of silence.
func rawExchange(t *testing.T, address string, bytesOut []byte) (got []byte) {
	t.Helper()
	network := "unix"
	if strings.Contains(address, ":") {
		network = "tcp"
	}
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer conn.Close()
	if _, err := conn.Write(bytesOut); err != nil {
		return nil // it was ended meanwhile
	}
	buf := make([]byte, 4096)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := conn.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil || bytes.Contains(got, []byte("forbidden")) {
			return got
		}
	}
}
