package control

import (
	"context"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/lean"
)

// leanAfter is how long it must be quiet after desired state has changed before
// memory is given back: what starts has started then. Something that never
// comes to rest does not put it off for more than leanPatience such spans.
const (
	leanAfter    = 2 * time.Second
	leanPatience = 15
)

// The collector's percentages. What lives here is small and lives long; garbage
// comes in bursts, which a change of desired state is: collecting often then
// would cost a quarter of a mass start, and what it leaves is given back anyway.
// Once everything is being stopped, so is all memory.
const (
	burstGC = 100
	quietGC = 50
	stopGC  = 400
)

// trimmer gives back what a start or a new generation needed and nobody needs
// any more, here and in the keeper.
type trimmer struct {
	c    *Control
	kick chan struct{}
	// burst is true while garbage is let grow.
	burst atomic.Bool
}

func newTrimmer(c *Control) *trimmer { return &trimmer{c: c, kick: make(chan struct{}, 1)} }

// later has memory given back once it is quiet.
func (t *trimmer) later() {
	if !t.burst.Swap(true) {
		debug.SetGCPercent(burstGC)
	}
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// run has a timer only after something has changed.
func (t *trimmer) run(ctx context.Context) {
	timer := time.NewTimer(leanAfter)
	timer.Stop()
	seen, waited := uint64(0), 0
	for {
		select {
		case <-t.kick:
			seen, waited = t.c.store.Seq(), 0
			timer.Reset(leanAfter)
		case <-timer.C:
			if now := t.c.store.Seq(); now != seen && waited < leanPatience {
				seen, waited = now, waited+1
				timer.Reset(leanAfter)
				continue
			}
			t.trim()
		case <-ctx.Done():
			return
		}
	}
}

func (t *trimmer) trim() {
	if t.burst.Swap(false) {
		debug.SetGCPercent(quietGC)
	}
	t.c.proc.Trim()
	t.c.cfg.Keeper.Trim()
	if err := lean.Trim(); err != nil {
		t.c.log.Warn("cannot give memory back", "error", err)
	}
	if err := t.c.cfg.Keeper.Send([]keeper.Order{{Kind: keeper.OrderLean}}); err != nil {
		t.c.log.Warn("cannot ask the keeper to give memory back", "error", err)
	}
}
