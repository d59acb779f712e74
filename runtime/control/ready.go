package control

import (
	"context"
	"fmt"

	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/runtime/keeper"
)

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
