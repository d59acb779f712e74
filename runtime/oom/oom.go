package oom

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Usual is the score that we take unless we are told another.
const Usual = -900

const file = "/proc/self/oom_score_adj"

// guard is this process's score.
type guard struct {
	mu    sync.Mutex
	f     *os.File
	born  int
	score atomic.Pointer[int] // what a child must be given; nil: it has it already
	own   int
}

var self guard

// Protect gives this process the score want, or nil: Usual, unless it has less
// already. It is called once, at the start; the error says why it cannot be.
func Protect(want *int) error { return self.protect(want) }

// Inherited is the score that a child must be given so that it has what we were
// born with; false when it has that by itself.
func Inherited() (int, bool) { return self.inherited() }

// AsBorn runs f, which starts a process or becomes another program, while we
// have the score that we were born with, and so passes that on. One at a time.
func AsBorn(f func() error) error { return self.asBorn(f) }

// Try says whether Protect can be, and leaves all as it is; born is our score.
func Try() (born int, err error) {
	g := &guard{}
	if err := g.protect(nil); err != nil || g.score.Load() == nil {
		return g.born, err
	}
	defer g.f.Close()
	return g.born, g.write(g.born)
}

func (g *guard) protect(want *int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot protect ourselves from the OOM killer: %w", err)
	}
	g.f = f
	if g.born, err = g.read(); err == nil {
		g.own = Usual
		if want != nil {
			g.own = *want
		}
		if g.own == g.born || want == nil && g.born < g.own {
			return f.Close()
		}
		err = g.write(g.own)
	}
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("cannot protect ourselves from the OOM killer: %w", reason(err))
	}
	g.score.Store(&g.born)
	return nil
}

func (g *guard) inherited() (int, bool) {
	if p := g.score.Load(); p != nil {
		return *p, true
	}
	return 0, false
}

func (g *guard) asBorn(f func() error) error {
	if g.score.Load() == nil {
		return f()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.write(g.born); err != nil {
		return fmt.Errorf("cannot take our protection from the OOM killer off for a child: %w", reason(err))
	}
	defer func() { _ = g.write(g.own) }() // the kernel let us before
	return f()
}

func (g *guard) read() (int, error) {
	var b [16]byte
	n, err := g.f.ReadAt(b[:], 0)
	if n == 0 {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b[:n])))
}

func (g *guard) write(n int) error {
	_, err := g.f.WriteAt([]byte(strconv.Itoa(n)), 0)
	return err
}

// reason is the kernel's errno in words that say what to do.
func reason(err error) error {
	if errors.Is(err, syscall.EACCES) {
		return errors.New("lowering oom_score_adj needs CAP_SYS_RESOURCE, not in a user namespace")
	}
	return err
}
