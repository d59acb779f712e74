package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// defaultWait is how long `wait` waits when no timeout is given.
const defaultWait = 60 * time.Second

// verdict is how far a picture is from what a request asked for: nothing is
// left to wait for when both are empty.
type verdict struct {
	waiting []string // for each thing that is not there yet, what it does
	failed  []string // for each thing that will not get there, why
}

func (v *verdict) wait(format string, args ...any) {
	v.waiting = append(v.waiting, fmt.Sprintf(format, args...))
}

func (v *verdict) fail(format string, args ...any) {
	v.failed = append(v.failed, fmt.Sprintf(format, args...))
}

func (v *verdict) decided() bool { return len(v.failed) > 0 || len(v.waiting) == 0 }

// some joins the first few.
func some(list []string) string {
	const few = 3
	if len(list) <= few {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(list[:few], "; "), len(list)-few)
}

// await waits, if the request says so, until judge has decided. judge must be
// a pure function: it is called from whoever waits for pictures.
func (c *Call) await(ctx context.Context, judge func(*View) verdict) error {
	if !c.Args.Bool("wait") {
		return nil
	}
	limit := c.Args.Duration("timeout", defaultWait)
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	v, err := c.Backend.Wait(waiting, func(v *View) bool { d := judge(v); return d.decided() })
	if v == nil {
		v = c.Backend.View()
	}
	d := judge(v)
	switch {
	case len(d.failed) > 0:
		return Errorf(CodeFailed, "%s", some(d.failed))
	case len(d.waiting) == 0:
		return nil
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return Errorf(CodeTimeout, "not there after %v: %s", limit, some(d.waiting))
	}
	return err
}

// awaitInstances waits for each of ids; one judges a single instance, which is
// nil when it is not in the world.
func (c *Call) awaitInstances(ctx context.Context, ids []reconcile.InstanceID, one func(*verdict, reconcile.InstanceID, *ProgramView, *InstanceView)) error {
	return c.await(ctx, func(v *View) (d verdict) {
		for _, id := range ids {
			p := v.Program(id.Program)
			var i *InstanceView
			if p != nil {
				i = p.Instance(id.Index)
			}
			one(&d, id, p, i)
		}
		return d
	})
}

// judgeStopped: down, and nobody left.
func judgeStopped(d *verdict, id reconcile.InstanceID, _ *ProgramView, i *InstanceView) {
	switch {
	case i == nil || i.Down && !i.Alive() && i.State != reconcile.StateBackoff:
	case !i.Down:
		d.fail("%v was started again meanwhile", id)
	default:
		d.wait("%v is %v", id, i.State)
	}
}

// judgeUp: running, in a run not older than from[id].
func judgeUp(from map[reconcile.InstanceID]reconcile.RunID) func(*verdict, reconcile.InstanceID, *ProgramView, *InstanceView) {
	return func(d *verdict, id reconcile.InstanceID, p *ProgramView, i *InstanceView) {
		switch {
		case p == nil || !p.Defined || i == nil && id.Index >= desired(p):
			d.fail("%v was removed meanwhile", id)
		case i == nil:
			d.wait("%v is new", id)
		case i.Down:
			d.fail("%v was stopped meanwhile", id)
		case p.Held != "":
			d.fail("%v is held: %s", id, p.Held)
		case i.Waits != "":
			waitOn(d, i)
		case i.Run < from[id] || i.Cycle:
			d.wait("%v is still in its old run, %v", id, i.State)
		default:
			judgeRun(d, i)
		}
	}
}

// judgeRun: the run that was asked for is good, or did what it was to do.
func judgeRun(d *verdict, i *InstanceView) {
	switch {
	case i.State == reconcile.StateRunning || i.Finished == finishedDone && !failed(i):
	case i.State == reconcile.StateBackoff || i.Finished != "":
		d.fail("%v %s", i.ID, endText(i.LastExit))
	default:
		waitOn(d, i)
	}
}

// waitOn: it is on its way.
func waitOn(d *verdict, i *InstanceView) {
	if i.Waits != "" {
		d.wait("%v waits for %s (start.after)", i.ID, i.Waits)
		return
	}
	d.wait("%v is %v", i.ID, i.State)
}

// failed reports whether a run that nobody starts again ended badly.
func failed(i *InstanceView) bool {
	return i.LastExit != nil && (i.LastExit.Cause.Crash() || i.LastExit.Error != "")
}

// finishedDone is Instance.Finished of one that ended as it should.
const finishedDone = "done"

// runsFrom says which run is good enough for each of ids: the living one when
// fresh is false, else the next.
func runsFrom(v *View, ids []reconcile.InstanceID, fresh bool) map[reconcile.InstanceID]reconcile.RunID {
	from := make(map[reconcile.InstanceID]reconcile.RunID, len(ids))
	for _, id := range ids {
		p := v.Program(id.Program)
		if p == nil {
			continue
		}
		i := p.Instance(id.Index)
		switch {
		case i == nil:
		case !fresh && (i.State == reconcile.StateRunning || i.State == reconcile.StateStarting):
			from[id] = i.Run
		default:
			from[id] = i.Run + 1
		}
	}
	return from
}

// endText says how a run ended.
func endText(e *reconcile.Exit) string {
	switch {
	case e == nil:
		return "ended"
	case e.Error != "" && e.Cause == reconcile.CauseLost:
		return "ended unseen: " + e.Error
	case e.Error != "":
		return "could not start: " + e.Error
	case e.Unknown:
		return "ended; how, the kernel could not tell"
	case e.Signal != 0 && e.Core:
		return "was ended by signal " + e.Signal.String() + " and left a core"
	case e.Signal == spec.SIGKILL && e.Cause == reconcile.CauseCrashed: // nobody here sent it
		return "was ended by signal KILL from outside"
	case e.Signal != 0:
		return "was ended by signal " + e.Signal.String()
	}
	return fmt.Sprintf("ended with code %d", e.Code)
}
