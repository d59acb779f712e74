package control

import (
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/runtime/keeper"
)

// origins are what a keeper's origin is called in its event.
var origins = map[string]string{keeper.OriginDeath: "replaced", keeper.OriginUpgrade: "upgraded"}

// emitKeeper tells, once, that another keeper holds the programs now.
func (c *Control) emitKeeper() {
	h := c.cfg.Hello
	if name := origins[h.Origin]; h.First && name != "" {
		c.emit("keeper", rpc.Map{{Key: "event", Value: name}, {Key: "pid", Value: h.PID}, {Key: "version", Value: h.Release}})
	}
}
