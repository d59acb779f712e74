package control

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/engine"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/store"
)

// inert is what an engine stands on where nothing is to come of what it orders.
type inert struct{}

func (inert) Do([]reconcile.Order)    {}
func (inert) Record(reconcile.Batch)  {}
func (inert) Publish(reconcile.Batch) {}

// talk is a conversation with a keeper of which only the socket is there.
func talk(t *testing.T) (*keeper.Conn, *os.File) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "keeper")
	defer ours.Close()
	hello, err := keeper.AppendFact(nil, &keeper.Fact{Kind: keeper.FactHello, Hello: &keeper.Hello{Version: keeper.Version, PID: os.Getpid()}})
	if err == nil {
		_, err = theirs.Write(hello)
	}
	if err != nil {
		t.Fatal(err)
	}
	conn, _, err := keeper.Connect(ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, theirs
}

// A keeper that dies while everything is being stopped leaves nobody who could stop
// anything: control goes on at once to whoever takes over, and does not wait.
func TestAKeeperThatDiesWhileAllIsStopped(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	st, _, err := store.Open(store.Config{StateDir: t.TempDir(), RunDir: t.TempDir(), BootID: "b", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	w := reconcile.NewWorld()
	w.NextRun, w.Booting = 2, false
	id := reconcile.InstanceID{Program: "web"}
	w.Programs["web"] = &reconcile.Program{Name: "web", Instances: []*reconcile.Instance{{ID: id, State: reconcile.StateRunning, Run: 1, PID: 1}}}
	conn, theirs := talk(t)
	c := &Control{cfg: Config{Keeper: conn}, store: st, log: log, end: make(chan ending, 1)}
	c.rec = newRecorder(c)
	c.engine = engine.New(engine.Config{Executor: inert{}, Recorder: inert{}, World: w})
	go c.engine.Run(t.Context())
	kept, lost := context.WithCancelCause(t.Context())
	go c.receive(kept, lost)
	c.finish(ending{stop: true})
	served := make(chan error, 1)
	go func() { served <- c.serve(kept) }()
	stopping := func(v *reconcile.View) bool { return v.Program("web").Instances[0].State == reconcile.StateStopping }
	if _, err := c.engine.Wait(t.Context(), stopping); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	if err := <-served; !errors.Is(err, ErrOrphaned) {
		t.Errorf("the end is told as %v", err)
	}
}
