package control

import (
	"context"

	"github.com/procnanny/procnanny/rpc"
)

// maxLosses is how many losses wait to be told; there are few of them.
const maxLosses = 16

// lose takes note of what the store could not keep. The store's own goroutine
// calls it, perhaps before there is anybody to tell.
func (c *Control) lose(what string) {
	c.log.Error("history was lost", "what", what)
	select {
	case c.losses <- what:
	default:
	}
}

// tellLosses makes events of losses.
func (c *Control) tellLosses(ctx context.Context) {
	for {
		select {
		case what := <-c.losses:
			c.emitLoss(what)
		case <-ctx.Done():
			return
		}
	}
}

func (c *Control) emitLoss(what string) {
	c.emit("store", rpc.Map{{Key: "event", Value: "loss"}, {Key: "detail", Value: what}})
}
