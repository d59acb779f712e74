package control

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/store"
)

// recorder writes the engine's turns down and publishes them: it is the
// engine's Recorder, and runs on its goroutine.
type recorder struct {
	c   *Control
	net atomic.Pointer[Transport]
	// pending are the written events of this turn, until Publish.
	pending []store.Event
	acks    []keeper.Order
	// adopting are the facts of what was found, until the engine runs.
	adopting []reconcile.Fact
}

func newRecorder(c *Control) *recorder { return &recorder{c: c} }

// attach says where to publish from now on.
func (r *recorder) attach(t Transport) { r.net.Store(&t) }

// close ends publishing and answering, if they had begun.
func (r *recorder) close() error {
	if net := r.net.Load(); net != nil {
		return (*net).Close()
	}
	return nil
}

// Record writes a turn down before its actions are carried out.
func (r *recorder) Record(b reconcile.Batch) {
	drafts := make([]store.Draft, 0, len(b.Events))
	for i := range b.Events {
		ev := &b.Events[i]
		if ev.Kind == reconcile.EventRunEnded {
			r.acks = append(r.acks, keeper.Order{Kind: keeper.OrderAck, Run: uint64(ev.Run), Program: ev.ID.Program, Index: ev.ID.Index})
		}
		if topic, fields := describe(ev); topic != "" {
			drafts = append(drafts, draft(topic, ev.At, fields))
		}
	}
	r.pending = append(r.pending, r.c.store.Record(b, drafts)...)
}

// Publish tells others, and the keeper that the ends of runs are known.
func (r *recorder) Publish(reconcile.Batch) {
	r.publish(r.pending)
	clear(r.pending)
	r.pending = r.pending[:0]
	if len(r.acks) == 0 {
		return
	}
	if err := r.c.cfg.Keeper.Send(r.acks); err != nil {
		r.c.log.Warn("cannot acknowledge ends", "error", err)
	}
	r.acks = nil
}

func (r *recorder) publish(events []store.Event) {
	net := r.net.Load()
	if net == nil {
		return
	}
	for _, e := range events {
		(*net).Publish(e.Topic, e.Body)
	}
}

// emit records and publishes an event that is not the engine's.
func (c *Control) emit(topic string, fields rpc.Map) {
	c.rec.publish(c.store.Record(reconcile.Batch{}, []store.Draft{draft(topic, time.Now(), fields)}))
}

// draft is an event that the store still has to number.
func draft(topic string, at time.Time, fields rpc.Map) store.Draft {
	return store.Draft{Topic: topic, Time: at, Encode: func(seq, prev uint64) []byte {
		body, err := rpc.EncodeEvent(&rpc.Event{Seq: seq, Prev: prev, Time: at, Topic: topic, Fields: fields})
		if err != nil { // only our own plain values
			panic(fmt.Sprintf("cannot encode event %s: %v", topic, err))
		}
		return body
	}}
}
