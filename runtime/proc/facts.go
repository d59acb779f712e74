package proc

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/launch"
)

func now() time.Time { return time.Now() }

// clock turns the keeper's times (CLOCK_BOOTTIME, which no one sets) into the
// wall's, as seen now.
type clock struct {
	wall time.Time
	boot int64
}

func (p *Proc) clock() clock {
	wall, boot := p.c.Clock()
	return clock{wall, boot}
}

func machineClock() (time.Time, int64) {
	wall, boot, _ := Clocks()
	return wall, boot
}

// Clocks is the wall's time and CLOCK_BOOTTIME in nanoseconds at one moment, which
// is known to within apart.
func Clocks() (wall time.Time, bootNS int64, apart time.Duration) {
	return atOnce(time.Now, keeper.BootTime)
}

// Two readings of CLOCK_BOOTTIME as close as this, with one of the wall clock
// between them, are of one moment; on a busy machine more than one look may be
// needed. What ended would else seem to end after its successor began.
const (
	atOnceWithin = 50 * time.Microsecond
	atOnceLooks  = 5
)

// atOnce reads two clocks at one moment, as well as it can.
func atOnce(now func() time.Time, bootNS func() int64) (wall time.Time, boot int64, apart time.Duration) {
	apart = math.MaxInt64
	for range atOnceLooks {
		before := bootNS()
		at := now()
		if took := time.Duration(bootNS() - before); took < apart {
			wall, boot, apart = at, before+int64(took/2), took
		}
		if apart <= atOnceWithin {
			break
		}
	}
	return wall, boot, apart
}

func (c clock) at(ns int64) time.Time {
	if ns == 0 {
		return c.wall
	}
	return c.wall.Add(-time.Duration(c.boot - ns)).Round(0)
}

// kinds maps the keeper's facts to the core's. The rest (hello, asked) is not
// about a process.
var kinds = map[keeper.FactKind]reconcile.FactKind{
	keeper.FactStarted:     reconcile.FactStarted,
	keeper.FactStartFailed: reconcile.FactStartFailed,
	keeper.FactExited:      reconcile.FactExited,
	keeper.FactEmptied:     reconcile.FactEmptied,
	keeper.FactTuned:       reconcile.FactTuned,
	keeper.FactPreflight:   reconcile.FactPreflight,
}

// Take turns what the keeper says into facts for the core, in order, and hands
// them on as one.
func (p *Proc) Take(facts []keeper.Fact) {
	c := p.clock()
	out := make([]reconcile.Fact, 0, len(facts))
	var acks []reconcile.RunID
	var outputs []OutputFact
	p.mu.Lock()
	for i := range facts {
		f := &facts[i]
		if n := reconcile.RunID(f.Run); p.disowned[n] {
			if f.Kind == keeper.FactEmptied {
				delete(p.disowned, n)
				acks = append(acks, n)
			}
			continue
		}
		if f.Kind == keeper.FactOutput {
			if o, news := p.outputFact(f); news {
				outputs = append(outputs, o)
			}
			continue
		}
		if kinds[f.Kind] != reconcile.FactUnset && p.note(f) {
			out = append(out, c.fact(f))
		}
	}
	p.mu.Unlock()
	p.Ack(acks...)
	for _, o := range outputs {
		p.c.Output(o)
	}
	if len(out) > 0 {
		p.c.Facts(out)
	}
}

// note keeps what Observe needs, and says whether the fact is for the core.
func (p *Proc) note(f *keeper.Fact) bool {
	n := reconcile.RunID(f.Run)
	switch f.Kind {
	case keeper.FactStarted:
		p.remember(reconcile.InstanceID{Program: f.Program, Index: f.Index}, n).startedNS = f.AtNS
	case keeper.FactStartFailed, keeper.FactEmptied:
		delete(p.runs, n)
	case keeper.FactTuned:
		return !p.ourCorrection(n, f.Refused)
	default:
	}
	return true
}

// ourCorrection reports whether the oldest tune under way is a correction of
// ours: the core did not order it and need not know. The keeper answers in order.
func (p *Proc) ourCorrection(n reconcile.RunID, refused map[string]string) bool {
	r := p.runs[n]
	if r == nil || r.fix == nil || len(r.fix.tunes) == 0 {
		return false
	}
	correction := r.fix.tunes[0]
	r.fix.tunes = r.fix.tunes[1:]
	if correction {
		maps.Copy(r.fix.refused, refused)
	} else if !slices.Contains(r.fix.tunes, false) {
		p.stillHas(r, refused)
		r.fix.asked = nil
	}
	return correction
}

// stillHas notes what the kernel refused to take from a run that no longer sets
// it: the next tune asks for that again, for what it answers is all that is
// pending.
func (p *Proc) stillHas(r *run, refused map[string]string) {
	if r.tuning == nil || len(refused) == 0 {
		return
	}
	has, err := launch.StillHas(*r.tuning, refused)
	if err != nil {
		p.c.Log.Error("cannot tell what a run still has", "instance", r.id.String(), "error", err)
		return
	}
	r.tuning = &has
}

func (c clock) fact(f *keeper.Fact) reconcile.Fact {
	out := reconcile.Fact{
		Kind: kinds[f.Kind], ID: reconcile.InstanceID{Program: f.Program, Index: f.Index}, Run: reconcile.RunID(f.Run),
		At: c.at(f.AtNS), Booted: c.wall.Add(-time.Duration(c.boot)).Round(0), PID: f.PID, Left: f.Left, Step: f.Step, Errno: f.Errno, Reason: f.Reason, Refused: f.Refused,
	}
	switch f.Kind {
	case keeper.FactExited:
		out.Exit = c.exit(f)
	case keeper.FactTuned:
		out.Tuning = f.Digest
	case keeper.FactPreflight:
		out.Launch, out.ID.Index = f.Digest, wholeProgram
	default:
	}
	return out
}

// exit: neither a code nor a signal means that nobody could tell.
func (c clock) exit(f *keeper.Fact) *reconcile.Exit {
	return &reconcile.Exit{
		Code: f.Code, Signal: f.Signal, Core: f.Core, At: c.at(f.AtNS),
		Unknown: f.Unknown || f.Code == -1 && f.Signal == 0,
		CPU:     time.Duration(f.CPUNS), PeakMemory: f.PeakBytes, OutOfMemory: f.OutOfMemory,
	}
}
