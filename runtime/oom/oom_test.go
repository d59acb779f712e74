package oom

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fresh is a guard of this process, whose score is as before when the test ends.
func fresh(t *testing.T) *guard {
	t.Helper()
	before := own(t)
	t.Cleanup(func() {
		if err := os.WriteFile(file, []byte(strconv.Itoa(before)), 0); err != nil {
			t.Error(err)
		}
	})
	return &guard{}
}

func own(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return number(t, string(b))
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// child is the score of a process that is started now.
func child(t *testing.T, start func(func() error) error) int {
	t.Helper()
	cmd := exec.Command("/bin/cat", file)
	var out strings.Builder
	cmd.Stdout = &out
	if err := start(cmd.Start); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return number(t, out.String())
}

func plain(f func() error) error { return f() }

// Lowering needs a privilege that this machine may not give; raising is the same
// in every other way.
func TestChildrenHaveWhatWeWereBornWith(t *testing.T) {
	g := fresh(t)
	born := own(t)
	if _, differs := g.inherited(); differs {
		t.Error("a process that is not protected has something to take back")
	}
	want := min(born+300, 1000)
	if err := g.protect(&want); err != nil {
		t.Fatal(err)
	}
	if got := own(t); got != want {
		t.Fatalf("we have %d instead of %d", got, want)
	}
	if n, differs := g.inherited(); !differs || n != born {
		t.Errorf("a child is to be given %d (%v) instead of %d", n, differs, born)
	}
	if got := child(t, plain); got != want {
		t.Errorf("a child had %d by itself: the test shows nothing", got)
	}
	var many sync.WaitGroup
	for range 8 {
		many.Go(func() {
			if got := child(t, g.asBorn); got != born {
				t.Errorf("a child has %d instead of %d", got, born)
			}
		})
	}
	many.Wait()
	if got := own(t); got != want {
		t.Errorf("we have %d afterwards instead of %d", got, want)
	}
	if err := g.asBorn(func() error { return os.ErrClosed }); !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v", err)
	}
	_ = g.f.Close() // the way back is gone: nobody may be started with what is ours alone
	if err := g.asBorn(func() error { t.Error("a child was started with our protection"); return nil }); err == nil {
		t.Error("no error")
	}
}

// Whichever way it goes here, it is whole: protected, or not and said why.
func TestLowering(t *testing.T) {
	g := fresh(t)
	born := own(t)
	err := g.protect(nil)
	switch now := own(t); {
	case err == nil && now != min(born, Usual):
		t.Errorf("we have %d, and were told that we are protected", now)
	case err != nil && now != born:
		t.Errorf("we have %d after %v", now, err)
	case err != nil && !strings.Contains(err.Error(), "CAP_SYS_RESOURCE"):
		t.Errorf("the reason is not named: %v", err)
	}
	if got := child(t, g.asBorn); got != born {
		t.Errorf("a child has %d instead of %d", got, born)
	}
	if own(t) == born && err == nil && born > Usual {
		t.Error("the protection was lost")
	}
}
