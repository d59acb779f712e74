package engine

import (
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// Hand is an engine that is turned by hand, for simulations: what Run does with
// a goroutine, an inbox and a timer, it does when told, at the time of
// Config.Now. So the same calls make the same history, to the byte.
type Hand struct{ loop *loop }

// Witness sees the world as it is just before a fact is applied to it, and just
// before a plan takes effect. It changes nothing.
type Witness interface {
	Fact(w reconcile.World, f reconcile.Fact)
	Plan(w reconcile.World, name string, desired *spec.Program, p reconcile.Plan)
}

// ByHand returns an engine that does nothing until it is turned.
func ByHand(c Config) *Hand { return &Hand{New(c).loop} }

// Facts hands facts over; they belong to the next turn.
func (h *Hand) Facts(facts []reconcile.Fact) { factsMessage(facts).take(h.loop) }

// Command is a turn with a person's command in it.
func (h *Hand) Command(c reconcile.Command) []reconcile.Outcome {
	m := commandMessage{c, make(chan []reconcile.Outcome, 1)}
	m.take(h.loop)
	h.Turn()
	return <-m.reply
}

// Desire is a turn in which d becomes what shall be.
func (h *Hand) Desire(d Desired) {
	desireMessage{d, make(chan struct{})}.take(h.loop)
	h.Turn()
}

// Turn makes one turn.
func (h *Hand) Turn() { h.loop.turn(h.loop.now()) }

// Wake is when the next turn is due; zero is when something happens.
func (h *Hand) Wake() time.Time { return h.loop.wakes.next() }

// World is the world, to look at until the next turn.
func (h *Hand) World() reconcile.World { return h.loop.world }
