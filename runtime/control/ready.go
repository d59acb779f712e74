package control

import (
	"context"
	"fmt"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/runtime/keeper"
)

// judgeWait is how long the first answers wait at most for a verdict on the files,
// when programs live already: status is to be back a second after our death.
const judgeWait = 700 * time.Millisecond

// begin, before run, desires the last good generation at once when programs live
// already. The world is told when the files were judged, for what was said to be
// rejected would be said to be ok until then; or when the channel says that this takes
// too long.
func (d *desk) begin(ctx context.Context) (late <-chan time.Time) {
	if d.current.Number == 0 || !d.c.found {
		return nil
	}
	d.config = reconcile.ConfigView{State: "ok"}
	d.settle()
	d.desire(ctx)
	return time.After(judgeWait)
}

// remind tells a recovered world what was desired, for what ended or was being
// stopped while nobody was there to hear of it.
func (d *desk) remind(w reconcile.World) reconcile.World {
	if !d.c.found && d.c.afresh() {
		return w
	}
	said := d.said().With(d.overrides)
	if !d.c.afresh() {
		d.c.exitWhen.wish(said)
	}
	if !d.c.found {
		return w
	}
	return reconcile.Recall(w, said)
}

// afresh is whether the daemon starts: we do not go on for another control or keeper.
func (c *Control) afresh() bool { return c.cfg.Hello.First && c.cfg.Hello.Origin == "" }

// begun tells the world, once, that there is something to be asked about.
func (d *desk) begun(ctx context.Context) {
	if d.ready || d.current.Number == 0 {
		return
	}
	d.ready = true
	d.c.ready(ctx)
}

// ready answers status from now on, and tells whoever started us.
func (c *Control) ready(ctx context.Context) {
	c.resume(ctx)
	if err := c.listen(); err != nil {
		c.finish(ending{err: err})
		return
	}
	crashpoint.Here(crashpoint.ReadyDone)
	if err := c.cfg.Keeper.Send([]keeper.Order{{Kind: keeper.OrderReady}}); err != nil {
		c.log.Warn("cannot tell the keeper that all is ready", "error", err)
	}
}

// refuse ends a start that has nothing good to run.
func (c *Control) refuse(why string) {
	c.finish(ending{err: fmt.Errorf("%w: %s", ErrRefused, why)})
}
