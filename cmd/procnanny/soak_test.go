package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/rpc/zmq"
)

const (
	// soakVar is how long TestSoak lasts: 60m, 72h.
	soakVar  = "PROCNANNY_TEST_SOAK"
	soakPace = 200 * time.Millisecond // between the things that somebody does
	// soakLooks is how often it is looked what we hold, and soakJudged how long it
	// must last for what grew meanwhile to say anything.
	soakLooks  = 240
	soakJudged = 5 * time.Minute
	soakMade   = 20 // names that programs have which come and go
)

// TestSoak has people and programs do everything for a long time, over and over:
// what we hold must not grow with it. Without soakVar it only sees to it that the
// load works.
func TestSoak(t *testing.T) {
	t.Parallel()
	long := 3 * time.Second
	if v := os.Getenv(soakVar); v != "" {
		var err error
		long, err = time.ParseDuration(v)
		check(t, err)
	}
	s := newSoak(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := s.subscriber(ctx)
	began := time.Now()
	looks := series{}
	for next := time.Duration(0); time.Since(began) < long && !t.Failed(); s.act() {
		if at := time.Since(began); at >= next {
			looks.add(at, s.look())
			next = at + long/soakLooks
		}
		time.Sleep(soakPace)
	}
	if w := s.settled(time.Time{}); w != s.who {
		t.Errorf("somebody of us was replaced: %+v, it was %+v", w, s.who)
	}
	t.Logf("%v, %d things done, %d events told, %d runs:\n%s", long, s.n, told.Load(), s.runs(), looks.table())
	if long >= soakJudged {
		for _, why := range looks.grown() {
			t.Error(why)
		}
	}
	if told.Load() == 0 {
		t.Error("nothing was told")
	}
}

// soak is a daemon that much happens to.
type soak struct {
	*mortal
	who  who
	n    int
	made [soakMade]bool
	page int64 // the last event that was asked for
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	s := &soak{mortal: newMortalWith(t, mortalOptions{change: func(programs map[string]any) {
		frugal(programs)
		maps.DeleteFunc(programs, func(name string, _ any) bool { return name == "crasher3" || name == "crasher4" })
		for _, p := range programs {
			p.(map[string]any)["output"] = map[string]any{"rotate": map[string]any{"size": 100 << 10, "keep": 3}}
		}
		for _, name := range []string{"herd", "edited", "changed"} {
			programs[name] = map[string]any{"command": "sleep", "args": []string{"100000"}, "start": map[string]any{"min_uptime": "0s"}}
		}
		programs["flaps"] = map[string]any{"command": "false"}
	}})}
	var err error
	s.client, err = zmq.Dial("ipc://"+s.dir+"/run/rpc.sock", 10*time.Minute) // whoever measures beside us may freeze us
	check(t, err)
	t.Cleanup(func() { s.client.Close() })
	s.who = s.settled(time.Time{})
	return s
}

// subscriber listens all the time; told is how much it heard.
func (s *soak) subscriber(ctx context.Context) (told *atomic.Int64) {
	told = new(atomic.Int64)
	sub, err := zmq.Subscribe("ipc://"+s.dir+"/run/events.sock", nil)
	check(s.t, err)
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(done)
		defer sub.Close()
		for {
			if _, _, err := sub.NextRaw(ctx); err != nil {
				return
			}
			told.Add(1)
		}
	}()
	s.t.Cleanup(func() { cancel(); <-done })
	return told
}

// call asks for something that must be done, sooner or later: on a machine that is
// stopped for a while, or very busy, a configuration may not be judged in time.
func (s *soak) call(method string, args map[string]any, reply any) {
	s.t.Helper()
	check(s.t, poll(func() (bool, string) {
		err := s.client.Call(context.Background(), method, args, reply)
		return err == nil, fmt.Sprint(method, " ", args, ": ", err)
	}))
}

// acts are what people do, each in its turn, by the number of the turn.
var acts = []func(*soak, int){
	(*soak).scaled, (*soak).edit, (*soak).comesAndGoes, (*soak).changed, (*soak).reads, (*soak).visits,
}

func (s *soak) act() {
	s.t.Helper()
	acts[s.n%len(acts)](s, s.n/len(acts))
	s.n++
}

func (s *soak) scaled(n int) {
	s.call("scale", map[string]any{"program": "herd", "instances": rand.IntN(6)}, nil)
	if n%10 == 9 {
		s.call("restart", map[string]any{"targets": []string{"herd", "edited"}}, nil)
	}
}

// edit saves a new generation: one that touches nobody, one that touches one.
func (s *soak) edit(n int) {
	p := s.programs["edited"].(map[string]any)
	if n%2 == 0 {
		p["restart"] = map[string]any{"give_up": n + 1}
	} else {
		p["env"] = map[string]any{"EDIT": fmt.Sprint(n)}
	}
	s.configure()
	if n%20 == 19 {
		check(s.t, unix.Kill(s.who.Keeper.PID, unix.SIGHUP))
	}
}

// comesAndGoes has a program that no file knows made, and one forgotten.
func (s *soak) comesAndGoes(n int) {
	if i := n % soakMade; !s.made[i] {
		s.call("create", map[string]any{"program": fmt.Sprint("made-", i), "command": "sh", "args": []string{"-c", "echo $$; sleep 2; exit 1"}, "instances": 2}, nil)
		s.made[i] = true
	}
	if i := (n + soakMade/2) % soakMade; s.made[i] {
		s.call("delete", map[string]any{"program": fmt.Sprint("made-", i), "wait": true}, nil)
		s.made[i] = false
	}
}

func (s *soak) changed(n int) {
	switch n % 4 {
	case 0:
		s.call("set", map[string]any{"program": "changed", "fields": map[string]any{"nice": n%19 + 1, "start.min_uptime": fmt.Sprint(n%100, "ms")}, "reason": "soak"}, nil)
	case 1:
		s.call("stop", map[string]any{"targets": []string{"changed", "flaps"}}, nil)
	case 2:
		s.call("start", map[string]any{"targets": []string{"changed", "flaps"}}, nil)
	case 3:
		s.call("reset", map[string]any{"program": "changed"}, nil)
		err := s.client.Call(context.Background(), "set", map[string]any{"program": "changed", "field": "nonsense", "value": n}, nil)
		if refused := (*rpc.Error)(nil); !errors.As(err, &refused) {
			s.t.Errorf("nonsense was set: %v", err)
		}
	}
}

// reads asks for all that can be asked for.
func (s *soak) reads(int) {
	one := map[string]any{"program": "crasher0"}
	for method, args := range map[string]map[string]any{
		"status": nil, "overrides": nil, "generations": nil, "plan": nil, "export": nil, "hooks": nil,
		"history": one, "why": one, "logs": {"program": "crasher0", "instance": 0, "tail": 100},
	} {
		s.call(method, args, nil)
	}
	var page struct {
		Events []struct {
			Seq int64 `msgpack:"seq"`
		} `msgpack:"events"`
	}
	s.call("events", map[string]any{"since": s.page, "limit": 1000}, &page)
	for _, e := range page.Events {
		s.page = e.Seq
	}
}

// visits is somebody who comes, asks, listens and goes, and one who only knocks.
func (s *soak) visits(int) {
	client, err := zmq.Dial("ipc://"+s.dir+"/run/rpc.sock", 10*time.Minute)
	check(s.t, err)
	check(s.t, client.Call(context.Background(), "status", nil, nil))
	check(s.t, client.Close())
	sub, err := zmq.Subscribe("ipc://"+s.dir+"/run/events.sock", []string{"output.writer.", "state."})
	check(s.t, err)
	ctx, cancel := context.WithTimeout(context.Background(), untilTimeout)
	defer cancel()
	_, _, err = sub.NextRaw(ctx)
	check(s.t, err)
	check(s.t, sub.Close())
	if c, err := net.Dial("unix", s.dir+"/run/rpc.sock"); err == nil {
		c.Close()
	}
}

// runs is how many there were of all programs that are there.
func (s *soak) runs() (n int) {
	var reply struct {
		Programs map[string]struct {
			Instances map[int]struct {
				Starts int `msgpack:"starts"`
			} `msgpack:"instances"`
		} `msgpack:"programs"`
	}
	s.call("status", nil, &reply)
	for _, p := range reply.Programs {
		for _, i := range p.Instances {
			n += i.Starts
		}
	}
	return n
}

// look says what we hold.
func (s *soak) look() map[string]float64 {
	s.t.Helper()
	asked := time.Now()
	s.call("status", nil, nil)
	h := s.holdings(s.who)
	v := map[string]float64{
		"status, ms": float64(time.Since(asked).Microseconds()) / 1000, "zombies": float64(h.Zombies), "children": float64(h.Children), "notes": float64(h.Notes), "cgroups": float64(h.Cgroups),
	}
	for name, pid := range map[string]int{"keeper": s.who.Keeper.PID, "control": s.who.Control.PID} {
		v[name+" memory, KiB"], v[name+" descriptors"], v[name+" threads"] = float64(h.KiB[name]), float64(h.Files[name]), float64(h.Threads[name])
		if in, err := peek(pid); err == nil {
			v[name+" heap, KiB"], v[name+" goroutines"] = float64(in.marked)/1024, float64(in.goroutines)
		}
	}
	for _, dir := range []string{"run", "state"} {
		files, bytes := tree(filepath.Join(s.dir, dir))
		v[dir+" files"], v[dir+" directory, KiB"] = float64(files), float64(bytes)/1024
	}
	return v
}

// tree is how much is below a directory.
func tree(dir string) (files, bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it has gone meanwhile
		}
		files++
		if info, err := d.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	})
	return files, bytes
}
