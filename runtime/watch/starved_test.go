package watch

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/spec"
)

func TestTimeWithoutProcessorDoesNotCount(t *testing.T) {
	waited := 7 * time.Second
	c := &clock{limit: 5 * time.Second, starve: func() time.Duration { return waited }}
	for passed, want := range map[time.Duration]time.Duration{
		5 * time.Second:  5 * time.Second, // it has had nothing yet
		9 * time.Second:  3 * time.Second,
		12 * time.Second: 0,
		60 * time.Second: 0,
	} {
		if left := c.left(passed); max(left, 0) != want {
			t.Errorf("after %s, of which it waited %s: %s are left, want %s", passed, waited, left, want)
		}
	}
	waited = time.Hour // more threads than processors count twice
	if left := c.left(59 * time.Second); left <= 0 {
		t.Errorf("a starved one ends before its time: %s", left)
	}
	if left := c.left(60 * time.Second); left > 0 {
		t.Errorf("it may go on for ever: %s", left)
	}
}

// One that sleeps is not starved.
func TestEvaluatorThatHangs(t *testing.T) {
	e := &Evaluator{Path: "/bin/sh", Args: []string{"-c", "exec sleep 1000"}, Deadline: 200 * time.Millisecond}
	result, err := e.Evaluate(context.Background(), spec.Source{Root: "/etc/procnanny"}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Problems) != 1 || !strings.Contains(result.Problems[0].Message, "took longer than 200ms") {
		t.Errorf("got %v, want that it took too long", result.Problems)
	}
}

func TestStarvedReads(t *testing.T) {
	if _, err := os.ReadFile("/proc/self/schedstat"); err != nil {
		t.Skip("this kernel does not count:", err)
	}
	if got := starved(os.Getpid()); got <= 0 {
		t.Errorf("a process with threads has waited %s, want more than nothing", got)
	}
	if got := starved(1 << 30); got != 0 {
		t.Errorf("nobody waited %s", got)
	}
}
