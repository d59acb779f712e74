package control

import (
	"testing"
	"time"
)

// A disk that was full for hours takes the files soon after there is room; files
// that nobody can judge are not evaluated for ever.
func TestWhatCannotBeKeptIsTriedForAsLongAsItTakes(t *testing.T) {
	var last time.Duration
	for tries := range 1000 {
		after, ok := nextTry(tries, true)
		if !ok || after < last || after > 30*time.Second {
			t.Fatalf("after %d tries: %v, %v", tries, after, ok)
		}
		last = after
	}
	if _, ok := nextTry(mostTries-1, false); !ok {
		t.Errorf("fewer than %d tries", mostTries)
	}
	if _, ok := nextTry(mostTries, false); ok {
		t.Errorf("more than %d tries", mostTries)
	}
}
