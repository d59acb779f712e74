package reconcile

import (
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// Why policy lets an instance rest, as Instance.Finished.
const (
	finishedDone   = "done"
	finishedGaveUp = "gave up"
)

// Rests reports whether the detail of a state says that policy lets an instance
// rest.
func Rests(detail string) bool { return detail == finishedDone || detail == finishedGaveUp }

// succeeded reports whether an end counts as success. What the kernel could
// not tell, and what never ran, does not.
func succeeded(pol *spec.Policy, x *Exit) bool {
	return !x.Unknown && x.Error == "" && pol.SuccessExit.Has(x.Code, x.Signal)
}

// comesBack reports whether policy restarts after an end that nobody ordered.
// A start that failed comes back unless restarts are off altogether: it has
// neither code nor signal, and a missing file is often there a moment later.
func comesBack(pol *spec.Policy, x *Exit) bool {
	switch pol.Restart.When.Mode {
	case "never":
		return false
	case "failure":
		return !succeeded(pol, x)
	case "exits":
		return x.Error != "" || !x.Unknown && pol.Restart.When.Exits.Has(x.Code, x.Signal)
	}
	return true
}

// delay is how long an instance waits for its next start: delay * factor^n, at
// most max_delay, and then up to jitter of that on top, so that what died
// together does not come back together.
func delay(r *spec.Restart, id InstanceID, attempt int) time.Duration {
	if r.Delay <= 0 {
		return 0 // whatever the factor grows to
	}
	base := float64(r.Delay) * math.Pow(r.Factor, float64(max(attempt, 1)-1))
	if base > float64(r.MaxDelay) {
		base = float64(r.MaxDelay)
	}
	return time.Duration(base + base*r.Jitter*dice(id, attempt))
}

// nextStart is when policy starts it again: the delay counts from the end of
// the main process.
func nextStart(pol *spec.Policy, i *Instance) time.Time {
	return i.LastExit.At.Add(delay(&pol.Restart, i.ID, i.Attempt))
}

// dice is a number from 0 to below 1 that depends on nothing but the instance
// and its attempt: the same history gives the same delays.
func dice(id InstanceID, attempt int) float64 {
	h := fnv.New64a()
	b := append(make([]byte, 0, 64), id.Program...)
	b = append(b, '/')
	b = strconv.AppendInt(b, int64(id.Index), 10)
	b = append(b, '#')
	b = strconv.AppendInt(b, int64(attempt), 10)
	_, _ = h.Write(b) // never fails
	x := h.Sum64()
	x ^= x >> 33 // FNV leaves the high bits of short inputs alike
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

// judge says what follows from an end that nobody ordered. An end is unplanned,
// and so counts for backoff, give_up and flapping, unless it was a success
// that policy lets rest: a process that always ends well and is always
// restarted loops no less than one that crashes.
func (t *turn) judge() {
	i, x, pol := t.i, t.i.LastExit, t.p.policy()
	again := comesBack(pol, x)
	if !again && succeeded(pol, x) {
		i.Finished = finishedDone
		t.calm("done")
		return
	}
	if x.Error == "" && x.Duration >= pol.Restart.MaxDelay.D() {
		i.Attempt = 0 // it ran long enough: a new series
	}
	i.Attempt++
	t.count(x.At, pol.Restart.Flap)
	switch giveUp := int(pol.Restart.GiveUp); {
	case !again:
		i.Finished = finishedDone
	case giveUp > 0 && i.Attempt >= giveUp:
		i.Finished = finishedGaveUp
	default:
		i.StartCause = CauseCrash
	}
}

// count notes an unplanned end and says so once when they become a flapping.
func (t *turn) count(at time.Time, flap spec.Flap) {
	i := t.i
	i.Ends = append(i.Ends, at)
	if n := len(i.Ends) - max(flap.Count, 1); n > 0 {
		i.Ends = append(i.Ends[:0], i.Ends[n:]...)
	}
	if i.Flapping || flap.Count <= 0 || len(i.Ends) < flap.Count || at.Sub(i.Ends[0]) > flap.Within.D() {
		return
	}
	i.Flapping = true
	t.tell(Event{Kind: EventFlapping, Flap: t.judged(at), Detail: strconv.Itoa(flap.Count) + " unplanned ends within " + flap.Within.String()})
}

// judged are the numbers that a verdict of now is judged by.
func (t *turn) judged(at time.Time) *Flapping {
	flap := t.p.policy().Restart.Flap
	out := &Flapping{Ends: slices.Clone(t.i.Ends), Count: flap.Count, Within: flap.Within.D()}
	if len(out.Ends) > 0 {
		out.Window = max(at.Sub(out.Ends[0]), 0)
	}
	return out
}

// calm ends a flapping, once.
func (t *turn) calm(why string) {
	if t.i.Flapping {
		t.i.Flapping = false
		t.tell(Event{Kind: EventStable, Flap: t.judged(t.now), Detail: why})
	}
	t.i.Ends = nil
}
