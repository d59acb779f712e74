package control

import (
	"context"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/rpc/zmq"
	"github.com/procnanny/procnanny/runtime/store"
)

// BenchmarkEvents is the way of an event from the end of a turn to a subscriber
// and to the disk, as many as it takes: each crash of an instance is a turn's
// part, with its instance, the end of its run and two events. It ends when all
// are in the database and with the subscriber.
func BenchmarkEvents(b *testing.B) {
	dir, err := os.MkdirTemp("/tmp", "pn")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var lost atomic.Int64
	st, _, err := store.Open(store.Config{
		StateDir: dir, RunDir: dir, BootID: "b", Log: slog.New(slog.DiscardHandler), Lost: func(string) { lost.Add(1) },
	})
	if err != nil {
		b.Fatal(err)
	}
	endpoint := "ipc://" + dir + "/e"
	server, err := zmq.Listen(zmq.Config{Events: []string{endpoint}}, nobody{})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	sub, err := zmq.Subscribe(endpoint, []string{"state."})
	if err != nil {
		b.Fatal(err)
	}
	for !server.Subscribed("state.web") {
		time.Sleep(time.Millisecond)
	}
	c := &Control{store: st, log: slog.New(slog.DiscardHandler)}
	c.rec = newRecorder(c)
	c.rec.attach(server)
	var got atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer sub.Close()
		for {
			if _, _, err := sub.NextRaw(ctx); err != nil {
				return
			}
			got.Add(1)
		}
	}()
	sent, cpu := int64(0), processor(b)
	b.ResetTimer()
	for run := reconcile.RunID(1); sent < int64(b.N); {
		var batch reconcile.Batch
		for range turnOf {
			batch = crash(batch, run)
			run++
		}
		batch.NextRun = run
		c.rec.Record(batch)
		c.rec.acks.ends = nil // there is no keeper here
		c.rec.Publish(batch)
		for sent += 2 * turnOf; got.Load() < sent-400; { // libzmq drops above 1000, and learns late what was read
			time.Sleep(20 * time.Microsecond)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); got.Load() < sent && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if err := st.Close(); err != nil { // writes what is left
		b.Fatal(err)
	}
	b.StopTimer()
	cancel()
	<-ended
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64((processor(b)-cpu).Microseconds())/float64(sent), "cpu-us/event")
	if got.Load() != sent || lost.Load() > 0 {
		b.Errorf("%d events of %d came, and the store told %d losses", got.Load(), sent, lost.Load())
	}
}

// processor is what this process, subscriber and all, has had of it.
func processor(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// turnOf is how many crashes there are in a turn.
const turnOf = 32

// crash adds one to a turn.
func crash(b reconcile.Batch, run reconcile.RunID) reconcile.Batch {
	id := reconcile.InstanceID{Program: "web", Index: int(run % 200)}
	now := time.Now()
	x := &reconcile.Exit{Code: 3, At: now, Duration: time.Second, Cause: reconcile.CauseCrashed, Run: run, PID: int(run), Start: now.Add(-time.Second), Generation: 1}
	b.Changed = append(b.Changed, &reconcile.Instance{
		ID: id, State: reconcile.StateBackoff, Since: now, Until: now.Add(time.Second), Run: run, PID: int(run), StartedAt: x.Start, Generation: 1,
		Starts: int(run), Attempt: 3, LastExit: x, StartCause: reconcile.CauseCrash,
	})
	state := reconcile.Event{Kind: reconcile.EventState, ID: id, Run: run, PID: int(run), At: now, Generation: 1, Cause: reconcile.CauseCrashed}
	exited, backoff := state, state
	exited.From, exited.State, exited.Exit = reconcile.StateRunning, reconcile.StateExited, x
	backoff.From, backoff.State, backoff.Detail = reconcile.StateExited, reconcile.StateBackoff, "attempt 3, next start in 2s"
	b.Events = append(b.Events, exited, reconcile.Event{Kind: reconcile.EventRunEnded, ID: id, Run: run, Exit: x, At: now}, backoff)
	return b
}

// nobody answers nothing.
type nobody struct{}

func (nobody) Begin(rpc.Peer, []byte) ([]byte, func(context.Context) []byte) { return nil, nil }
func (nobody) Refused(rpc.Refusal)                                           {}
