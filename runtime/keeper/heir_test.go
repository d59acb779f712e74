package keeper

import (
	"os"
	"strings"
	"testing"
)

// Wherever a daemon's own sockets fit, whose longest name is events.sock, a will can be
// offered.
func TestAWillIsOfferedInALongDirectory(t *testing.T) {
	const longest = 107 // of the path of a socket
	short, err := os.MkdirTemp("/tmp", "pn")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(short) })
	dir := short + "/" + strings.Repeat("x", longest-len("/events.sock")-len(short)-1)
	must(t, os.Mkdir(dir, 0o700))
	if err := (&Will{}).Offer(dir, 0); err == nil || !strings.HasSuffix(err.Error(), "nobody came") {
		t.Errorf("offered to nobody: %v", err)
	}
}
