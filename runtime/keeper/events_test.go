package keeper

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/procnanny/procnanny/spec"
)

// What was kept open of a cgroup that somebody removed and made again says nothing
// about the new one.
func TestLeafThatSomebodyMadeAgain(t *testing.T) {
	r := startRig(t, testConfig{})
	if r.hello.Contain != "cgroup" {
		t.Skip("no cgroup v2 that we may write to:", r.hello.Degraded)
	}
	own, err := ownCgroup()
	must(t, err)
	leaf := filepath.Join(own, baseName(r.c.Dir), leafName(instanceKey{"web", 0}))
	r.next(FactEmptied, r.begin(0, "exit 0").Run)
	must(t, os.Remove(leaf))
	must(t, os.Mkdir(leaf, 0o755))
	leaves := r.begin(0, brood).Run
	pid := grandchild(r)
	r.send(Order{Kind: OrderSignal, Run: leaves, Signal: spec.SIGTERM})
	if f := r.next(FactExited, leaves); f.Code != 3 || f.Left < 1 || !alive(pid) {
		t.Errorf("it left somebody: %+v", f)
	}
	r.send(Order{Kind: OrderKill, Run: leaves, Signal: spec.SIGKILL})
	r.next(FactEmptied, leaves)
	if alive(pid) {
		t.Error("the grandchild lives after FactEmptied")
	}
}
