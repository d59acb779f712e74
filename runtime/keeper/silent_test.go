package keeper

import (
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// notedSink counts what is done with it.
type notedSink struct {
	runs, bytes, closed atomic.Int64
}

func (s *notedSink) Drain(pipe, _ int) (int, bool, error) {
	n, _ := unix.Read(pipe, make([]byte, 100))
	s.bytes.Add(int64(max(n, 0)))
	return max(n, 0), false, nil
}
func (s *notedSink) Delay() time.Duration { return 0 }
func (s *notedSink) Dropped() int64       { return 0 }
func (s *notedSink) Device() uint64       { return 0 }
func (s *notedSink) SetPolicy(Output)     {}
func (s *notedSink) BeginRun(run uint64)  { s.runs.Add(int64(run)) }
func (s *notedSink) EndRun()              {}
func (s *notedSink) Idle()                {}
func (s *notedSink) Close()               { s.closed.Add(1) }

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 30 s: " + what)
		}
	}
}

// A program that says nothing costs no sink; one that does gets its own, with the
// run and for as long as somebody wants it.
func TestSilentProgramsNeedNoSink(t *testing.T) {
	m, err := newMover(slog.New(slog.DiscardHandler), func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer m.stop(time.Second)
	made := make(chan *notedSink, 10)
	m.newSink = func(flowKey, Output) sink {
		s := &notedSink{}
		made <- s
		return s
	}
	in := &instance{instanceKey: instanceKey{program: "web"}}
	begin := func(run uint64) (f *flow, say *os.File) {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
		f = m.flow(&stream{in: in})
		f.begin(run, Output{})
		f.attach(p[0], run)
		return f, os.NewFile(uintptr(p[1]), "stdout")
	}
	end := func(f *flow, say *os.File) {
		say.Close()
		f.end()
		until(t, "the pipe is let go", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return !f.busy && f.pipe < 0
		})
	}

	f, say := begin(1)
	f.setOutput(Output{Keep: 1})
	if !m.rest(30*time.Second) || len(made) > 0 {
		t.Fatal("a silent program has a sink")
	}
	end(f, say)
	if s := <-made; s.closed.Load() != 1 || f.sink != nil { // what a former keeper left might have been there
		t.Error("a program that ended in silence keeps its sink")
	}
	f.forget()

	f, say = begin(7)
	if _, err := say.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	s := <-made
	until(t, "what it said is moved", func() bool { return s.bytes.Load() == 5 })
	end(f, say)
	if s.runs.Load() != 7 || s.closed.Load() != 0 {
		t.Errorf("runs %d, closed %d times", s.runs.Load(), s.closed.Load())
	}
	f.forget()
	until(t, "the sink is closed and the flow forgotten", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return s.closed.Load() == 1 && len(m.leaving) == 0
	})
}

// A flow that is being forgotten is taken on again, as often as somebody changes
// his mind: nobody else may write to the same files.
func TestForgottenFlowIsTakenOnAgain(t *testing.T) {
	m, err := newMover(slog.New(slog.DiscardHandler), func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer m.stop(time.Second)
	in := &instance{instanceKey: instanceKey{program: "web"}}
	f := m.flow(&stream{in: in})
	if !f.acquire(time.Second) {
		t.Fatal("nobody else has it")
	}
	for range 3 {
		f.forget()
		if again := m.flow(&stream{in: in}); again != f {
			t.Error("another one begins before this one is over")
		}
	}
	f.forget()
	f.release()
	until(t, "it is forgotten", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.leaving) == 0 && f.leaving == 0
	})
	if m.flow(&stream{in: in}) == f {
		t.Error("one that is over was taken on again")
	}
}
