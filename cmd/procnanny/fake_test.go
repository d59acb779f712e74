package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/procnanny/procnanny/rpc"
)

var update = flag.Bool("update", false, "write golden files again")

// now is the time of every test: 1700086400.
var now = time.Unix(1700086400, 0)

// fakeDaemon answers each method with a fixed reply, and remembers what it was
// asked. It is behind a real socket, because the client knocks first.
type fakeDaemon struct {
	t        *testing.T
	endpoint string
	mu       sync.Mutex
	asked    []request
	replies  map[string]func(args map[string]any) (any, error)
}

type request struct {
	method string
	args   map[string]any
}

func newFake(t *testing.T) *fakeDaemon {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pn")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", dir+"/rpc.sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); os.RemoveAll(dir) })
	return &fakeDaemon{t: t, endpoint: "ipc://" + dir + "/rpc.sock", replies: map[string]func(map[string]any) (any, error){}}
}

// reply sets what a method answers: JSON text.
func (f *fakeDaemon) reply(method, text string) {
	var v any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		f.t.Fatalf("the reply to %s is no JSON: %v", method, err)
	}
	f.on(method, func(map[string]any) (any, error) { return numbers(v), nil })
}

// file sets what a method answers: a file of testdata/replies.
func (f *fakeDaemon) file(method string) {
	raw, err := os.ReadFile(filepath.Join("testdata", "replies", method+".json"))
	if err != nil {
		f.t.Fatal(err)
	}
	f.reply(method, string(raw))
}

func (f *fakeDaemon) refuse(method string, err error) {
	f.on(method, func(map[string]any) (any, error) { return nil, err })
}

// on sets what a method does. It is called with the daemon locked.
func (f *fakeDaemon) on(method string, answer func(args map[string]any) (any, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replies[method] = answer
}

func (f *fakeDaemon) Close() error { return nil }

func (f *fakeDaemon) Call(_ context.Context, method string, args map[string]any, reply any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, request{method, args})
	answer := f.replies[method]
	if answer == nil {
		return rpc.Errorf(rpc.CodeNoSuchMethod, "No such method requested")
	}
	v, err := answer(args)
	*reply.(*any) = v
	return err
}

// last is what was asked last.
func (f *fakeDaemon) last() request {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked) == 0 {
		f.t.Fatal("the daemon was not asked at all")
	}
	return f.asked[len(f.asked)-1]
}

// session is one command line and what came of it.
type session struct {
	out, err strings.Builder
	code     int
}

// client is an app that talks to f; width above 0 makes stdout a terminal.
func (f *fakeDaemon) client(s *session, width int) *app {
	return &app{
		in: strings.NewReader(""), out: &s.out, err: &s.err, now: func() time.Time { return now }, uid: 0,
		getenv: func(k string) string { return map[string]string{"PROCNANNY_CONNECT": f.endpoint, "TERM": "xterm"}[k] },
		dial:   func(string, time.Duration) (rpc.Caller, error) { return f, nil },
		subscribe: func(string, []string) (subscription, error) {
			return nil, errors.New("this daemon publishes nothing")
		},
		terminal: terminal{is: width > 0, size: func() (int, int) { return width, 24 }},
	}
}

func (f *fakeDaemon) run(args ...string) *session {
	s := &session{}
	s.code = run(context.Background(), f.client(s, 0), args)
	return s
}

// onTerminal is run with a terminal of some width.
func (f *fakeDaemon) onTerminal(width int, args ...string) *session {
	s := &session{}
	s.code = run(context.Background(), f.client(s, width), args)
	return s
}

// golden compares text with a file of testdata/golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s (go test -update writes it):\n got:\n%s\nwant:\n%s", name, got, want)
	}
}
