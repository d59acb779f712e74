package examples_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// adapted is a copy of an example with some texts replaced: addresses of
// servers and paths that are the test's own.
func adapted(t *testing.T, file string, replace ...string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(string(raw), replace[i]) {
			t.Fatalf("%s has no %s", file, replace[i])
		}
	}
	path := filepath.Join(t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(path, []byte(strings.NewReplacer(replace...).Replace(string(raw))), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// posted is an event as a server gets it.
type posted struct {
	path, seq, token string
	Event            string `json:"event"`
	Program          string `json:"program"`
	Instance         int    `json:"instance"`
	PID              int    `json:"pid"`
	Cause            string `json:"cause"`
	alive            bool   // its process lived when it came
}

// server keeps what is posted to it.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	got    []posted
	answer func(n int, p posted) int
}

func newServer(t *testing.T, answer func(n int, p posted) int) *server {
	s := &server{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := posted{path: r.URL.Path, seq: r.Header.Get("Procnanny-Seq"), token: r.Header.Get("Authorization") + r.Header.Get("X-Token")}
		raw, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(raw, &p)
		}
		if err != nil {
			t.Errorf("posted %s: %v", raw, err)
		}
		p.alive = p.PID > 0 && syscall.Kill(p.PID, 0) == nil
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got = append(s.got, p)
		w.WriteHeader(s.answer(len(s.got), p))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) posts(path string) (out []posted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.got {
		if p.path == path {
			out = append(out, p)
		}
	}
	return out
}

func (s *server) host() string { return strings.TrimPrefix(s.URL, "http://") }

func TestPageOnACrash(t *testing.T) {
	pages := filepath.Join(t.TempDir(), "pages")
	d := startDaemon(t, adapted(t, "page/page.cue", "/tmp/pages", pages))
	read := func() []string {
		raw, _ := os.ReadFile(pages)
		return strings.Split(strings.TrimSpace(string(raw)), "\n")
	}
	wait(t, "a page of the last crash", func() bool { return strings.Contains(strings.Join(read(), "\n"), "attempt 5") })
	lines := read()
	for n, line := range lines {
		if want := fmt.Sprintf("shaky/0 crashed: code 3, signal none, attempt %d, event ", n+3); !strings.HasPrefix(line, want) {
			t.Errorf("page %d says %q, not %q", n, line, want)
		}
	}
	if len(lines) != 3 {
		t.Errorf("%d pages: %q", len(lines), lines)
	}
	wait(t, "the event of the flapping", func() bool {
		out, _ := d.command(bin+"/procnanny", "hooks", "output", "flapping").Output()
		return strings.Contains(string(out), `"event":"flapping"`) && strings.Contains(string(out), `"ends":[`)
	})
}

func TestOutOfTheLoadBalancer(t *testing.T) {
	s := newServer(t, func(_ int, p posted) int {
		if p.path == "/out" && p.Instance == 1 {
			return http.StatusServiceUnavailable // the stop goes on all the same
		}
		return http.StatusOK
	})
	d := startDaemon(t, adapted(t, "balancer/balancer.cue", "127.0.0.1:8404", s.host()))
	before := d.running("web", 2)
	wait(t, "both are put in", func() bool { return len(s.posts("/in")) == 2 })
	if out, err := d.command(bin+"/procnanny", "restart", "web", "--wait").CombinedOutput(); err != nil {
		t.Fatalf("restart: %v\n%s", err, out)
	}
	after := d.running("web", 2)
	wait(t, "both are put in again", func() bool { return len(s.posts("/in")) == 4 })
	out := s.posts("/out")
	if len(out) != 2 {
		t.Fatalf("taken out: %+v", out)
	}
	for _, p := range out {
		if !p.alive || !slices.Contains(before, p.PID) || slices.Contains(after, p.PID) || p.Cause != "restart" {
			t.Errorf("taken out: %+v; before %v, after %v", p, before, after)
		}
	}
	for _, p := range s.posts("/in") {
		if p.token != "not so secret" || p.Event != "running" {
			t.Errorf("put in: %+v", p)
		}
	}
	history, err := d.command(bin+"/procnanny", "history", "web", "-o", "json").Output()
	if err != nil || strings.Count(string(history), `"answer": "200 OK"`) != 1 || strings.Count(string(history), `"answer": "503 Service Unavailable"`) != 1 {
		t.Errorf("history: %v\n%s", err, history)
	}
}

func TestTriggerARebuild(t *testing.T) {
	s := newServer(t, func(n int, _ posted) int {
		if n == 1 {
			return http.StatusBadGateway // it is tried again
		}
		return http.StatusAccepted
	})
	d := startDaemon(t, adapted(t, "rebuild/rebuild.cue", "127.0.0.1:8405", s.host()))
	wait(t, "two tries", func() bool { return len(s.posts("/build")) == 2 })
	got := s.posts("/build")
	if got[0].seq != got[1].seq || got[0].seq == "" || got[0].Program != "app" || got[0].Cause != "could not start" || got[0].token != "Bearer 0123456789" {
		t.Errorf("posted: %+v", got)
	}
	file := filepath.Join(d.config, "rebuild.cue")
	if err := os.WriteFile(filepath.Join(d.config, "broken.cue"), []byte("programs: app: nice: 77\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	wait(t, "the rejection", func() bool { return len(s.posts("/build")) == 3 })
	if last := s.posts("/build")[2]; last.Event != "rejected" {
		t.Errorf("posted: %+v for %s", last, file)
	}
	out, err := d.command(bin+"/procnanny", "hooks").Output()
	if err != nil || strings.Contains(string(out), "0123456789") || !strings.Contains(string(out), "202 Accepted") {
		t.Errorf("hooks: %v\n%s", err, out)
	}
}

// killControl kills the process that decides, and waits for the next one.
func (d *daemon) killControl() {
	d.t.Helper()
	find := func() string {
		out, _ := exec.Command("pgrep", "-P", fmt.Sprint(d.PID()), "procnanny-contr").Output()
		return strings.TrimSpace(string(out))
	}
	old := find()
	if out, err := exec.Command("kill", "-9", old).CombinedOutput(); err != nil {
		d.t.Fatalf("cannot kill control: %v: %s", err, out)
	}
	wait(d.t, "another control", func() bool { now := find(); return now != "" && now != old })
}

// Whoever follows events goes on doing so when the daemon's control is killed.
func TestFollowersSurviveARestart(t *testing.T) {
	files := []string{"hello/hello.cue"}
	if os.Getuid() == 0 {
		files = append(files, "hello/root/user.cue")
	}
	d := startDaemon(t, files...)
	d.running("hello world", 3)
	for _, c := range clients(t) {
		t.Run(c.name, func(t *testing.T) {
			var out lockedText
			cmd := c.cmd(d, "follow", "state.hello world.1", "1000")
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			more := func(than int) {
				t.Helper()
				wait(t, "an event", func() bool {
					_ = d.command(bin+"/procnanny", "restart", "hello world/1").Run()
					return strings.Count(out.text(), "\n") > than
				})
			}
			more(0)
			d.killControl()
			d.running("hello world", 3)
			more(strings.Count(out.text(), "\n") + 8) // more than what may still have been on its way
		})
	}
}

// lockedText is what a process wrote so far.
type lockedText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
