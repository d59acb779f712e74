package store

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// bench is a store's two directories and what it said.
type bench struct {
	t      testing.TB
	c      Config
	mu     sync.Mutex
	losses []string
}

func newBench(t testing.TB) *bench {
	b := &bench{t: t}
	dir := testDir(t)
	b.c = Config{StateDir: dir, RunDir: filepath.Join(dir, "run"), BootID: "boot-1", Log: slog.New(slog.DiscardHandler), Lost: b.lost}
	return b
}

// testDir is in memory where there is such a place: an fsync on a busy machine
// takes as long as it likes.
func testDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "store")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// remove takes the files away already now: a worker of the fuzzer is killed, and
// nobody cleans up after it.
func (b *bench) remove() { os.RemoveAll(b.c.StateDir) }

func (b *bench) lost(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.losses = append(b.losses, what)
}

func (b *bench) told() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.losses...)
}

func (b *bench) open() (*Store, Recovered) {
	b.t.Helper()
	s, rec, err := Open(b.c)
	if err != nil {
		b.t.Fatalf("Open: %v", err)
	}
	b.t.Cleanup(func() { s.Close() })
	return s, rec
}

// abandon is what kill -9 leaves of a store: the files as they are. The
// committer stops after what it does now.
func abandon(s *Store) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.aborted.Store(true)
	close(s.closing)
	<-s.done
	s.db.Load().close()
	s.intent.d.close()
	s.j.close()
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

// settled waits until everything is in the database.
func settled(t testing.TB, s *Store) {
	t.Helper()
	eventually(t, "everything is committed", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		q := &s.q
		return len(q.events)+len(q.runs)+len(q.instances)+len(q.programs)+len(q.busy) == 0 && !q.counters && q.bytes == 0
	})
}

func draft(topic string) Draft {
	return Draft{Topic: topic, Time: epoch, Encode: func(seq, prev uint64) []byte {
		return fmt.Appendf(binary.BigEndian.AppendUint64(nil, seq), "%s after %d", topic, prev)
	}}
}

// epoch is recent: what is old is not kept.
var epoch = time.Now().Add(-2 * time.Hour).Round(0)

func id(program string, index int) reconcile.InstanceID {
	return reconcile.InstanceID{Program: program, Index: index}
}

func living(program string, index int, run reconcile.RunID) *reconcile.Instance {
	return &reconcile.Instance{
		ID: id(program, index), State: reconcile.StateRunning, Run: run, PID: 1000 + int(run), Since: epoch.Add(time.Duration(run) * time.Second),
		StartedAt: epoch.Add(time.Duration(run) * time.Second), Starts: int(run), StartCause: reconcile.CauseBoot, Generation: 3,
		Launch: "l", Tuning: "t", By: &spec.Requester{How: "rpc", UID: 7},
	}
}

func exitOf(i *reconcile.Instance, code int) *reconcile.Exit {
	return &reconcile.Exit{
		Code: code, At: i.StartedAt.Add(time.Second), Duration: time.Second, Cause: reconcile.CauseCrashed,
		Run: i.Run, PID: i.PID, Start: i.StartedAt, Generation: i.Generation,
	}
}

// crashed is i after its process ended.
func crashed(i *reconcile.Instance, code int) (*reconcile.Instance, reconcile.Event) {
	v := *i
	v.State, v.LastExit, v.Attempt = reconcile.StateBackoff, exitOf(i, code), v.Attempt+1
	v.Ends = append(v.Ends, v.LastExit.At)
	return &v, reconcile.Event{Kind: reconcile.EventRunEnded, ID: i.ID, Run: i.Run, Exit: v.LastExit}
}

func changed(list ...*reconcile.Instance) reconcile.Batch {
	next := reconcile.RunID(0)
	for _, i := range list {
		next = max(next, i.Run+1)
	}
	return reconcile.Batch{Changed: list, NextRun: next}
}

// checkGapless reads all events and wants the numbers 1 to n.
func checkGapless(t testing.TB, s *Store, n uint64) {
	t.Helper()
	last := map[string]uint64{}
	for since := uint64(0); since < n; {
		events, err := s.Events(since, 997)
		if err != nil || len(events) == 0 {
			t.Fatalf("Events(%d): %d events, error %v; %d are expected", since, len(events), err, n)
		}
		for _, e := range events {
			if e.Seq != since+1 {
				t.Fatalf("after event %d comes %d", since, e.Seq)
			}
			if e.Prev != last[e.Topic] {
				t.Fatalf("event %d: prev of %s is %d, not %d", e.Seq, e.Topic, e.Prev, last[e.Topic])
			}
			since, last[e.Topic] = e.Seq, e.Seq
			if got := binary.BigEndian.Uint64(e.Body); got != e.Seq {
				t.Fatalf("event %d has the body of %d", e.Seq, got)
			}
		}
	}
	if more, _ := s.Events(n, 10); len(more) != 0 {
		t.Fatalf("after the last event %d comes %d", n, more[0].Seq)
	}
}
