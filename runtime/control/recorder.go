package control

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/store"
	"github.com/procnanny/procnanny/spec"
)

// recorder writes the engine's turns down and publishes them: it is the
// engine's Recorder, and runs in its turns, one after the other.
type recorder struct {
	c   *Control
	net atomic.Pointer[Transport]
	// mu orders the numbering of events, and what is published.
	mu sync.Mutex
	// next is the seq that is published next; early are numbered events that
	// wait for those before them.
	next  uint64
	early map[uint64]store.Event
	// fields are those of the event that is being encoded.
	fields rpc.Map
	// pending are the written events of this turn, until Publish.
	pending []store.Event
	acks    acks
	// adopting are the facts of what was found, until the engine runs.
	adopting []reconcile.Fact
}

func newRecorder(c *Control) *recorder {
	return &recorder{c: c, early: map[uint64]store.Event{}, fields: make(rpc.Map, 0, usualFields), acks: acks{send: c.cfg.Keeper.Send, log: c.log, behind: func() bool { return c.store.Behind() }}}
}

// attach says where to publish from now on.
func (r *recorder) attach(t Transport) { r.net.Store(&t) }

// traffic is what went over the sockets, once there are some.
func (r *recorder) traffic() rpc.Traffic {
	if t := r.net.Load(); t != nil {
		return (*t).Traffic()
	}
	return rpc.Traffic{}
}

// close ends publishing and answering, if they had begun.
func (r *recorder) close() error {
	if net := r.net.Load(); net != nil {
		return (*net).Close()
	}
	return nil
}

// Record writes a turn down before its actions are carried out.
func (r *recorder) Record(b reconcile.Batch) {
	crashpoint.Here(crashpoint.RecordBegun)
	drafts := make([]store.Draft, 0, len(b.Events))
	for i := range b.Events {
		ev := &b.Events[i]
		if over(ev) {
			r.acks.add(ev.Run, ev.ID)
		}
		if topic := topicFor(ev); topic != "" {
			drafts = append(drafts, r.draft(topic, ev))
		}
	}
	r.pending = append(r.pending, r.number(b, drafts)...)
	crashpoint.Here(crashpoint.RecordWritten)
	if code, ended := r.c.exitWhen.watch(b); ended {
		r.c.log.Info("the program has ended that the daemon ends with", "program", r.c.exitWhen.want.Load().program, "code", code)
		r.c.finish(ending{stop: true, code: code, by: spec.Requester{How: exitWhenKey}})
		if err := r.c.cfg.Keeper.Send([]keeper.Order{{Kind: keeper.OrderStop}}); err != nil { // it is to be so also when we die
			r.c.log.Warn("cannot tell the keeper that everything is to be stopped", "error", err)
		}
	}
}

// over reports whether an event tells that a run has ended, or that nobody is left
// of one whose end was told before: the keeper forgets it only then.
func over(ev *reconcile.Event) bool {
	return ev.Kind == reconcile.EventRunEnded || ev.Kind == reconcile.EventState && ev.From == reconcile.StateStopping
}

// Publish tells others, and the keeper that the ends of runs are known.
func (r *recorder) Publish(reconcile.Batch) {
	r.publish(r.pending)
	r.pending = nil
	r.acks.later()
}

// number has the store write a turn down and number its events.
func (r *recorder) number(b reconcile.Batch, drafts []store.Draft) []store.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.c.store.Record(b, drafts)
	if r.next == 0 && len(events) > 0 {
		r.next = events[0].Seq
	}
	return events
}

// publish sends numbered events in the order of their numbers. A turn of the
// engine acts between numbering and publishing; what others number meanwhile
// waits for it, as subscribers would take it for a gap.
func (r *recorder) publish(events []store.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := make([]rpc.Message, 0, len(events))
	for _, e := range events {
		if e.Seq != r.next {
			r.early[e.Seq] = e
			continue
		}
		for ok := true; ok; e, ok = r.early[r.next] {
			delete(r.early, r.next)
			r.next++
			due = append(due, rpc.Message{Topic: e.Topic, Body: e.Body})
		}
	}
	if net := r.net.Load(); net != nil && len(due) > 0 {
		(*net).Publish(due)
	}
	if len(events) > 0 && r.c.hooks != nil {
		r.c.hooks.Wake()
	}
	if len(r.early) == 0 {
		r.early = map[uint64]store.Event{} // without the room that many needed
	}
}

// emit records and publishes an event that is not the engine's.
func (c *Control) emit(topic string, fields rpc.Map) {
	c.rec.publish(c.rec.number(reconcile.Batch{}, []store.Draft{draft(topic, time.Now(), fields)}))
}

// draft is an event of the core, which is described only while it is encoded, and
// all in the same room: a thousand end at once.
func (r *recorder) draft(topic string, ev *reconcile.Event) store.Draft {
	return store.Draft{Topic: topic, Time: ev.At, Encode: func(seq, prev uint64) []byte {
		fields := describe(r.fields[:0], ev)
		defer clear(fields)
		return encode(rpc.Event{Seq: seq, Prev: prev, Time: ev.At, Topic: topic, Fields: fields})
	}}
}

// draft is an event that the store still has to number.
func draft(topic string, at time.Time, fields rpc.Map) store.Draft {
	return store.Draft{Topic: topic, Time: at, Encode: func(seq, prev uint64) []byte {
		return encode(rpc.Event{Seq: seq, Prev: prev, Time: at, Topic: topic, Fields: fields})
	}}
}

func encode(e rpc.Event) []byte {
	body, err := rpc.EncodeEvent(&e)
	if err != nil { // only our own plain values
		panic(fmt.Sprintf("cannot encode event %s: %v", e.Topic, err))
	}
	return body
}
