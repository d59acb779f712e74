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

// Whatever leaves room for instances without what is kept open leaves some with it.
func TestReserved(t *testing.T) {
	for limit, want := range map[uint64]uint64{
		0: 1280, 1024: 1280, 1280: 1280, 1281: 1280, 1300: 1281, 1536: 1296, 4096: 1456, 20000: 1536, 1 << 20: 1536,
	} {
		if got := Reserved(limit); got != want {
			t.Errorf("of %d descriptors %d are the keeper's own, not %d", limit, got, want)
		}
	}
}
