package watch

import (
	"os/exec"
	"testing"
)

// What a child says beyond the bound is swallowed, whichever way os/exec copies it.
func TestHeadIsBounded(t *testing.T) {
	const room, said = 100, 1 << 20
	h := &head{room: room}
	cmd := exec.Command("head", "-c", "1048576", "/dev/zero")
	cmd.Stdout = h
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if got := h.kept.Len(); got != room {
		t.Errorf("kept %d bytes of %d, not %d", got, said, room)
	}
}
