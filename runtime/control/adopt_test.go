package control

import (
	"runtime"
	"testing"
	"weak"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/spec"
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

// What was found and is not yet desired, or is no more, is looked at without a
// program: nothing follows from what it sets, for it sets nothing.
func TestNobodyDesiresWhatIsNotDefined(t *testing.T) {
	web := &reconcile.InstanceView{Instance: reconcile.Instance{ID: reconcile.InstanceID{Program: "web"}, Run: 5}}
	v := &reconcile.View{Programs: []*reconcile.ProgramView{{Name: "web", Spec: &spec.Program{}, Instances: []*reconcile.InstanceView{web}}}}
	all := func(*reconcile.InstanceView) bool { return true }
	if got := looksOf(v, all); len(got) != 1 || got[0].Run != 5 || got[0].Program != nil {
		t.Errorf("not defined: %+v", got)
	}
	v.Programs[0].Defined = true
	if got := looksOf(v, all); len(got) != 1 || got[0].Program != v.Programs[0].Spec {
		t.Errorf("defined: %+v", got)
	}
}
