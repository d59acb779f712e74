package proc

import (
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/spec"
)

// Config is what a Proc stands on.
type Config struct {
	// Send hands orders to the keeper; it does not wait for them.
	Send func([]keeper.Order) error
	// Facts takes what became known. It may wait, and is never called from Do.
	Facts func([]reconcile.Fact)
	// Output hears that output cannot be written, and that it is again; may be
	// nil.
	Output func(OutputFact)
	Log    *slog.Logger
	// Environ is the daemon's own environment, for inherit_env.
	Environ []string
	// SelfUID and SelfGID are who a program without a user runs as; both 0 is
	// who we are.
	SelfUID, SelfGID uint32
	// Clock is the wall's time and CLOCK_BOOTTIME in nanoseconds, at one moment;
	// nil asks the kernel.
	Clock func() (time.Time, int64)
	// Simulated is set where no order is carried out for real: starts are ordered
	// without a request, and no file is read for them.
	Simulated bool
}

// Proc is control's view of living processes. Its methods may be called from
// different goroutines, each from one at a time.
type Proc struct {
	c     Config
	slow  slow
	users *users

	cacheMu sync.Mutex
	cache   map[string]*prepared // by program name

	seen sightings // of Observe alone
	// contained is whether each instance has a cgroup of its own.
	contained atomic.Bool

	mu   sync.Mutex
	runs map[reconcile.RunID]*run
	// disowned are runs that the core is done with and that are not empty yet.
	disowned map[reconcile.RunID]bool
	// faulty is what the keeper said of output that could not be written.
	faulty map[reconcile.InstanceID]map[string]OutputFact
}

// run is what is remembered of a living run.
type run struct {
	id reconcile.InstanceID
	// startedNS is CLOCK_BOOTTIME when it was executed; 0 is not known.
	startedNS int64
	// startTicks is field 22 of /proc/PID/stat, taken at the first look.
	startTicks uint64
	// output is what the keeper was told last.
	output keeper.Output
	// tuning is what the run was started with or tuned to, and what was taken out
	// since and refused to go; nil is not known.
	// Then tuned is its digest, to know it by.
	tuning *spec.Tuning
	tuned  spec.Digest
	// fix is nil until it is tuned: see fixes.
	fix *fixes
}

// fixes are what must be remembered of the tunes of a run. Few are ever tuned, so
// that this is no part of each.
type fixes struct {
	// corrected are the keys whose drift was corrected; each once.
	corrected map[string]bool
	// refused says why a correction was.
	refused map[string]string
	// tunes are the tunes under way, oldest first: true is a correction.
	tunes []bool
	// asked is what the last tune that is no correction asks for, while its answer
	// is not there; nil is none.
	asked *spec.Tuning
	// before is what was pending when we took over.
	before map[string]string
}

func (r *run) fixes() *fixes {
	if r.fix == nil {
		r.fix = &fixes{corrected: map[string]bool{}, refused: map[string]string{}}
	}
	return r.fix
}

// New returns a Proc that knows no process.
func New(c Config) *Proc {
	if c.SelfUID == 0 && c.SelfGID == 0 {
		c.SelfUID, c.SelfGID = uint32(os.Geteuid()), uint32(os.Getegid())
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = machineClock
	}
	p := &Proc{c: c, cache: map[string]*prepared{}, runs: map[reconcile.RunID]*run{}, disowned: map[reconcile.RunID]bool{}, faulty: map[reconcile.InstanceID]map[string]OutputFact{}}
	p.users = newUsers()
	p.slow = slow{pending: map[reconcile.InstanceID][]func() (keeper.Order, error){}}
	return p
}

// send hands orders over. A keeper that is gone is noticed where its facts
// are received, and everything is told anew to the next one.
func (p *Proc) send(orders []keeper.Order) {
	if len(orders) == 0 {
		return
	}
	if err := p.c.Send(orders); err != nil {
		p.c.Log.Error("cannot send orders to the keeper", "orders", len(orders), "error", err)
	}
}

// Do carries orders out, in order for each instance, without waiting. What
// needs a file first goes its own slow way, and what follows for the same
// instance behind it; everything else is one message to the keeper.
func (p *Proc) Do(orders []reconcile.Order) {
	out := make([]keeper.Order, 0, len(orders))
	hosts := sync.OnceValue(p.users.now)
	for _, o := range orders {
		maker, ok := makers[o.Kind]
		if !ok {
			p.c.Log.Error("cannot carry out an order: unknown kind", "kind", o.Kind, "instance", o.ID.String())
			continue
		}
		if p.needsFiles(o, hosts) || p.slow.busy(o.ID) {
			p.later(o, func() (keeper.Order, error) { return maker(p, o) })
			continue
		}
		k, err := maker(p, o)
		if err != nil {
			p.later(o, func() (keeper.Order, error) { return keeper.Order{}, err })
			continue
		}
		out = append(out, k)
	}
	p.send(out)
}

// needsFiles reports whether an order cannot be made without reading a file:
// the program's, or the host's users when those have changed.
func (p *Proc) needsFiles(o reconcile.Order, hosts func() string) bool {
	return executes(o) && !p.c.Simulated && (len(o.Program.EnvFiles) > 0 || named(o.Program) && p.users.doubtful(o.ID.Program, o.Program, hosts()))
}

// executes reports whether an order is about what a start needs.
func executes(o reconcile.Order) bool {
	return (o.Kind == reconcile.ActionStart || o.Kind == reconcile.ActionPreflight) && o.Program != nil
}

// Ack tells the keeper that the ends of runs are recorded: it may forget them.
func (p *Proc) Ack(runs ...reconcile.RunID) {
	orders := make([]keeper.Order, len(runs))
	for i, r := range runs {
		orders[i] = keeper.Order{Kind: keeper.OrderAck, Run: uint64(r)}
	}
	p.send(orders)
}

// outputOf is the part of the output policy that the keeper carries out.
func outputOf(p *spec.Program) keeper.Output {
	o := p.Policy.Output
	return keeper.Output{
		RotateBytes: o.Rotate.Size, Keep: o.Rotate.Keep, Drop: o.OnFull == "drop", Timestamps: o.Timestamps,
		AgeNS: int64(o.Rotate.Age), TotalBytes: o.Rotate.Total,
	}
}

// remember returns what is known of a run, which is new if need be.
func (p *Proc) remember(id reconcile.InstanceID, n reconcile.RunID) *run {
	r := p.runs[n]
	if r == nil {
		r = &run{id: id}
		p.runs[n] = r
	}
	return r
}
