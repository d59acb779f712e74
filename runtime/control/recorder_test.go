package control

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/runtime/store"
)

// topics is a transport that keeps what is published.
type topics struct{ got []string }

func (t *topics) Publish(list []rpc.Message) {
	for _, m := range list {
		t.got = append(t.got, m.Topic)
	}
}
func (t *topics) Subscribed(string) bool { return true }
func (t *topics) OnSubscribe(func())     {}
func (t *topics) Traffic() rpc.Traffic   { return rpc.Traffic{} }
func (t *topics) Close() error           { return nil }

// What the desk says while the engine acts has a higher number than the turn's
// own events, and goes out after them.
func TestEventsGoOutInTheOrderOfTheirNumbers(t *testing.T) {
	st, _, err := store.Open(store.Config{
		StateDir: t.TempDir(), RunDir: t.TempDir(), BootID: "b", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	c := &Control{store: st, log: slog.New(slog.DiscardHandler)}
	c.rec = newRecorder(c)
	net := &topics{}
	c.emit("unheard", rpc.Map{{Key: "event", Value: "x"}}) // before anybody can listen
	c.rec.attach(net)
	state := reconcile.Event{Kind: reconcile.EventState, ID: reconcile.InstanceID{Program: "web"}, State: reconcile.StateStarting, At: time.Now()}
	c.rec.Record(reconcile.Batch{Events: []reconcile.Event{state}})
	c.emit("command", rpc.Map{{Key: "event", Value: "x"}})
	if len(net.got) != 0 {
		t.Errorf("%v came before what was numbered first", net.got)
	}
	c.rec.Publish(reconcile.Batch{})
	if want := []string{"state.web.0", "command"}; !slices.Equal(net.got, want) {
		t.Errorf("published %v, not %v", net.got, want)
	}
	if len(c.rec.early) != 0 {
		t.Errorf("%d events are kept", len(c.rec.early))
	}
}

// The keeper forgets a run once nobody is left of it and its end is written down:
// where that comes in two turns, it is told twice, for the first time is too early.
func TestWhatIsOverIsAcknowledged(t *testing.T) {
	st, _, err := store.Open(store.Config{
		StateDir: t.TempDir(), RunDir: t.TempDir(), BootID: "b", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	c := &Control{store: st, log: slog.New(slog.DiscardHandler)}
	c.rec = newRecorder(c)
	id := reconcile.InstanceID{Program: "web"}
	ended := reconcile.Event{Kind: reconcile.EventRunEnded, ID: id, Run: 3, Exit: &reconcile.Exit{Run: 3}, At: time.Now()}
	empty := reconcile.Event{Kind: reconcile.EventState, ID: id, Run: 3, From: reconcile.StateStopping, State: reconcile.StateExited, At: time.Now()}
	begun := reconcile.Event{Kind: reconcile.EventState, ID: id, Run: 3, From: reconcile.StateStarting, State: reconcile.StateRunning, At: time.Now()}
	acks := func(events ...reconcile.Event) int {
		c.rec.acks.ends = nil // they were sent
		c.rec.Record(reconcile.Batch{Events: events})
		return len(c.rec.acks.ends)
	}
	for name, n := range map[string][2]int{
		"the end":        {acks(ended), 1},
		"nobody is left": {acks(empty), 1},
		"both":           {acks(ended, empty), 1},
		"neither":        {acks(begun), 0},
	} {
		if n[0] != n[1] {
			t.Errorf("%s: %d acknowledgements, not %d", name, n[0], n[1])
		}
	}
}
