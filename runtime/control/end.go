package control

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/crashpoint"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/spec"
)

// ending is why Run returns: what the keeper shall think of it.
type ending struct {
	stop bool // stop the programs first
	code int  // of the daemon's exit, when there is no err
	by   spec.Requester
	err  error
}

// finish ends Run; the first reason counts.
func (c *Control) finish(e ending) {
	select {
	case c.end <- e:
	default:
	}
}

// serve waits for the end and brings everything down in order. Without a keeper,
// which ends ctx, nothing of that comes about any more, whatever we were at.
func (c *Control) serve(ctx context.Context) error {
	var e ending
	select {
	case e = <-c.end:
	case <-ctx.Done():
	}
	if e.stop && e.err == nil && ctx.Err() == nil {
		e.err = c.stopAll(ctx, e.by)
	}
	if e.err == nil && ctx.Err() == nil {
		c.finishHooks(ctx)
	}
	if why := context.Cause(ctx); why != nil {
		e.err = why
	}
	c.closeSockets(errors.Is(e.err, ErrOrphaned))
	if e.err != nil {
		return e.err
	}
	crashpoint.Here(crashpoint.ShutdownStopped)
	return c.cfg.Keeper.Send([]keeper.Order{{Kind: keeper.OrderShutdown, Code: e.code}})
}

// orphanWait is how long the sockets may take to close when there is something
// more urgent.
const orphanWait = 100 * time.Millisecond

func (c *Control) closeSockets(hurry bool) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		if err := c.rec.close(); err != nil {
			c.log.Warn("cannot close the sockets", "error", err)
		}
	}()
	var late <-chan time.Time
	if hurry {
		late = time.After(orphanWait)
	}
	select {
	case <-closed:
	case <-late:
	}
}

// lastGasp is how long programs may take to vanish after KILL.
const lastGasp = 5 * time.Second

// stopAll stops every program and waits until nobody is left. With a shutdown
// timeout, what is left then is killed.
func (c *Control) stopAll(ctx context.Context, by spec.Requester) error {
	c.log.Info("stopping everything")
	debug.SetGCPercent(stopGC)
	c.store.Ending()
	c.rec.acks.end()
	crashpoint.Here(crashpoint.ShutdownBegun)
	if _, err := c.engine.Command(ctx, reconcile.Command{Kind: reconcile.CommandShutdown, By: by}); err != nil {
		return err
	}
	within := ctx
	if t := c.cfg.Place.ShutdownTimeout; t > 0 {
		var cancel context.CancelFunc
		within, cancel = context.WithTimeout(ctx, t)
		defer cancel()
	}
	v, err := c.engine.Wait(within, nobodyLeft)
	if err == nil || ctx.Err() != nil {
		return err
	}
	c.log.Warn("the shutdown timeout is over: killing what is left", "instances", livingNames(v))
	if err := c.cfg.Keeper.Send(killOrders(v)); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, lastGasp)
	defer cancel()
	if v, err = c.engine.Wait(within, nobodyLeft); err != nil && ctx.Err() == nil {
		c.log.Error("something survives KILL", "instances", livingNames(v))
		return nil
	}
	return err
}

func nobodyLeft(v *reconcile.View) bool {
	for _, p := range v.Programs {
		for _, i := range p.Instances {
			if i.Alive() {
				return false
			}
		}
	}
	return true
}

func livingNames(v *reconcile.View) []string {
	var out []string
	for _, p := range v.Programs {
		for _, i := range p.Instances {
			if i.Alive() {
				out = append(out, i.ID.String())
			}
		}
	}
	return out
}

func killOrders(v *reconcile.View) []keeper.Order {
	var out []keeper.Order
	for _, p := range v.Programs {
		for _, i := range p.Instances {
			if i.Alive() {
				out = append(out, keeper.Order{
					Kind: keeper.OrderKill, Run: uint64(i.Run), Program: i.ID.Program, Index: i.ID.Index, Signal: spec.SIGKILL,
				})
			}
		}
	}
	return out
}
