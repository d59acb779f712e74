package control

import (
	"runtime"
	"testing"
	"weak"

	"github.com/procnanny/procnanny/runtime/keeper"
)

// TestTheListIsLetGo: what the keeper told of each run at hello is not held once
// it was adopted.
func TestTheListIsLetGo(t *testing.T) {
	runs := make([]keeper.Run, 1000)
	list := weak.Make(&runs[0])
	c := &Control{cfg: Config{Hello: keeper.Hello{PID: 1, Runs: runs}}, rec: &recorder{}}
	runs = nil
	if err := c.adopt(); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	if list.Value() != nil {
		t.Error("the list of what lives is still held")
	}
	if c.cfg.Hello.PID != 1 {
		t.Error("more than the list is gone")
	}
	runtime.KeepAlive(c)
}
