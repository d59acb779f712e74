package store

import (
	"slices"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// image is the world as it was recorded last: what the journal says and the
// database follows. Instances are kept encoded, because the core goes on
// working on its own.
type image struct {
	nextRun   reconcile.RunID
	seq       uint64
	instances map[reconcile.InstanceID][]byte
	programs  map[string][]byte
	// living are the runs without an end: at most one of an instance.
	living map[reconcile.InstanceID]*Run
	topics map[string]uint64 // the last number of each topic
	notes  map[string][]byte
	// booted is when the machine was booted by the wall clock that the times of
	// instances and living runs are of; zero is not known.
	booted time.Time
}

func newImage() *image {
	return &image{
		nextRun: 1, instances: map[reconcile.InstanceID][]byte{}, programs: map[string][]byte{},
		living: map[reconcile.InstanceID]*Run{}, topics: map[string]uint64{}, notes: map[string][]byte{},
	}
}

// ended closes the living run of x, or one that was never seen living. Nobody else
// holds it.
func (m *image) ended(id reconcile.InstanceID, x *reconcile.Exit) *Run {
	r := m.living[id]
	if r == nil || r.Run != x.Run {
		r = &Run{ID: id, Run: x.Run, Start: x.At}
	} else {
		delete(m.living, id)
	}
	r.Exit, r.End = x, x.At // nobody changes an end
	if !x.Start.IsZero() {
		r.Start = x.Start
	}
	if x.PID != 0 {
		r.PID = x.PID
	}
	if x.Generation != 0 {
		r.Generation = x.Generation
	}
	return r
}

// instance takes the newest state of an instance and returns the runs that it
// ends or that begin to live; nil where nothing of a run changed.
func (m *image) instance(i *reconcile.Instance) (ended, living *Run) {
	r := m.living[i.ID]
	if r != nil && i.LastExit != nil && i.LastExit.Run == r.Run {
		ended, r = m.ended(i.ID, i.LastExit), nil
	}
	if !i.Alive() || i.Run == 0 {
		return ended, nil
	}
	if r != nil && r.Run != i.Run { // its end was never told
		ended = m.ended(i.ID, &reconcile.Exit{Unknown: true, Code: -1, At: i.Since, Cause: reconcile.CauseLost, Run: r.Run, PID: r.PID, Start: r.Start})
		r = nil
	}
	if over(i) {
		return ended, nil
	}
	if r == nil {
		r = &Run{ID: i.ID, Run: i.Run, Start: i.Since, StartCause: i.StartCause, Generation: i.Generation, By: clone(i.By)}
		m.living[i.ID] = r
	}
	if i.State == reconcile.StateStopping {
		r.EndBy = clone(i.By)
	}
	if (r.PID == 0 || !r.Start.Equal(i.StartedAt)) && i.PID != 0 && !i.StartedAt.IsZero() { // its exec succeeded, or the clock was set
		r.PID, r.Start = i.PID, i.StartedAt
		return ended, r
	}
	return ended, nil
}

// over reports whether the run of an instance has ended, although the instance may
// be alive still: somebody of its containment is left.
func over(i *reconcile.Instance) bool { return i.LastExit != nil && i.LastExit.Run == i.Run }

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// forget takes an instance out.
func (m *image) forget(id reconcile.InstanceID) {
	delete(m.instances, id)
	delete(m.living, id)
}

// world decodes the image. What cannot be decoded is left out and counted.
func (m *image) world() (w reconcile.World, bad int) {
	w = reconcile.NewWorld()
	w.NextRun = m.nextRun
	for _, raw := range m.instances {
		var i reconcile.Instance
		if unpack(raw, &i) != nil || i.ID.Program == "" || i.State == reconcile.StateUnset {
			bad++
			continue
		}
		p := program(w, i.ID.Program)
		p.Instances = append(p.Instances, &i)
		w.Booting = false // what finished rests until the machine is booted, not until we are
	}
	for name, p := range w.Programs {
		slices.SortFunc(p.Instances, func(a, b *reconcile.Instance) int { return a.ID.Index - b.ID.Index })
		if r, ok := unpackRoll(m.programs[name]); ok {
			p.SetRoll(r)
		}
	}
	return w, bad
}

// unpackRoll reads a roll, also one whose preflight is still a number: that of
// reconcile.PreflightState as it was then.
func unpackRoll(raw []byte) (r reconcile.Roll, ok bool) {
	if raw == nil {
		return r, false
	}
	if unpack(raw, &r) == nil {
		return r, true
	}
	var old struct {
		Target    spec.Digest `json:"target"`
		Preflight uint8       `json:"preflight"`
		Held      string      `json:"held"`
		RetryAt   time.Time   `json:"retry_at"`
		Forced    spec.Digest `json:"forced"`
	}
	states := []reconcile.PreflightState{reconcile.PreflightUnknown, reconcile.PreflightAsked, reconcile.PreflightGood, reconcile.PreflightBad}
	if unpack(raw, &old) != nil || int(old.Preflight) >= len(states) {
		return reconcile.Roll{}, false
	}
	return reconcile.Roll{Target: old.Target, Preflight: states[old.Preflight], Held: old.Held, RetryAt: old.RetryAt, Forced: old.Forced}, true
}

func program(w reconcile.World, name string) *reconcile.Program {
	p := w.Programs[name]
	if p == nil {
		p = &reconcile.Program{Name: name}
		w.Programs[name] = p
	}
	return p
}

// reboot is what a boot of the machine does to a world: nobody lives, what was
// finished may start again, what was counted stays counted.
func (m *image) reboot(w *reconcile.World, booted, now time.Time) (ended []Run) {
	w.Booting = true
	for _, p := range w.Programs {
		p.SetRoll(reconcile.Roll{})
		for _, i := range p.Instances {
			if r := m.living[i.ID]; r != nil || i.Alive() && !over(i) {
				i.LastExit = bootExit(i, r, booted)
				ended = append(ended, *m.ended(i.ID, i.LastExit))
			}
			*i = afterBoot(i, now)
		}
	}
	m.living = map[reconcile.InstanceID]*Run{}
	m.programs = map[string][]byte{}
	return ended
}

func bootExit(i *reconcile.Instance, r *Run, booted time.Time) *reconcile.Exit {
	x := &reconcile.Exit{
		Unknown: true, Code: -1, Cause: reconcile.CauseLost, Error: "the machine was booted", At: booted,
		Run: i.Run, PID: i.PID, Start: i.StartedAt, Generation: i.Generation,
	}
	if r != nil {
		x.Run, x.PID, x.Start = r.Run, r.PID, r.Start
	}
	if x.At.Before(x.Start) {
		x.At = x.Start
	}
	if !x.Start.IsZero() {
		x.Duration = x.At.Sub(x.Start)
	}
	return x
}

func afterBoot(i *reconcile.Instance, now time.Time) reconcile.Instance {
	out := reconcile.Instance{
		ID: i.ID, State: reconcile.StateExited, Since: now, Run: i.Run, PID: i.PID, StartedAt: i.StartedAt, Generation: i.Generation,
		Starts: i.Starts, Attempt: i.Attempt, Ends: i.Ends, Flapping: i.Flapping, LastExit: i.LastExit,
	}
	if i.Run == 0 {
		out.State = reconcile.StateNew
	}
	return out
}
