package sim

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/procnanny/procnanny/reconcile"
)

// Journal is what outlives control.
type Journal interface {
	Record(b reconcile.Batch)
	// World is what a control that starts finds.
	World() reconcile.World
	// Reboot is what a boot of the machine makes of it.
	Reboot(at time.Time)
}

// journal keeps in memory what the store keeps in files: the instances, and of
// programs how their roll stands.
type journal struct {
	instances map[reconcile.InstanceID]reconcile.Instance
	programs  map[string]reconcile.Program
	nextRun   reconcile.RunID
	booted    bool // since the last control began
	// older is what a file that is written behind the journal says.
	older   *journal
	records int
}

// behind is how many turns what is written behind the journal may lack.
const behind = 16

// NewJournal returns an empty journal in memory.
func NewJournal() Journal {
	return &journal{instances: map[reconcile.InstanceID]reconcile.Instance{}, programs: map[string]reconcile.Program{}, nextRun: 1}
}

func (j *journal) Record(b reconcile.Batch) {
	if j.records++; j.records%behind == 0 {
		j.older = &journal{instances: maps.Clone(j.instances), programs: maps.Clone(j.programs)}
	}
	for _, i := range b.Changed {
		j.instances[i.ID] = kept(i)
	}
	for _, id := range b.Gone {
		delete(j.instances, id)
	}
	for _, p := range b.Programs {
		remembered := reconcile.Program{Name: p.Name}
		remembered.SetRoll(p.Roll())
		j.programs[p.Name] = remembered
		if len(p.Instances) == 0 {
			delete(j.programs, p.Name)
		}
	}
	j.nextRun = max(j.nextRun, b.NextRun)
}

// kept is a copy that the world does not change any more.
func kept(i *reconcile.Instance) reconcile.Instance {
	v := *i
	v.Ends, v.Pending = slices.Clone(i.Ends), maps.Clone(i.Pending)
	return v
}

func (j *journal) World() reconcile.World {
	w := reconcile.NewWorld()
	w.NextRun = j.nextRun
	for id, i := range j.instances {
		p := w.Programs[id.Program]
		if p == nil {
			r := j.programs[id.Program]
			p = &r
			p.Name = id.Program
			w.Programs[id.Program] = p
		}
		copied := kept(&i)
		p.Instances = append(p.Instances, &copied)
		w.Booting = false
	}
	for _, p := range w.Programs {
		slices.SortFunc(p.Instances, func(a, b *reconcile.Instance) int { return cmp.Compare(a.ID.Index, b.ID.Index) })
	}
	w.Booting = w.Booting || j.booted
	j.booted = false
	return w
}

// forget loses the journal: what was written behind it is all that is left. Run
// ids go on above all that were given out.
func (j *journal) forget() {
	j.instances, j.programs = map[reconcile.InstanceID]reconcile.Instance{}, map[string]reconcile.Program{}
	if j.older != nil {
		j.instances, j.programs = maps.Clone(j.older.instances), maps.Clone(j.older.programs)
	}
}

// Reboot ends what lived, and lets what was finished start again.
func (j *journal) Reboot(at time.Time) {
	j.booted, j.programs = true, map[string]reconcile.Program{}
	for id, i := range j.instances {
		last := i.LastExit
		if i.Alive() && (last == nil || last.Run != i.Run) {
			last = &reconcile.Exit{
				Unknown: true, Code: -1, Cause: reconcile.CauseLost, Error: "the machine was booted", At: at,
				Run: i.Run, PID: i.PID, Start: i.StartedAt, Generation: i.Generation,
			}
			if !i.StartedAt.IsZero() {
				last.Duration = at.Sub(i.StartedAt)
			}
		}
		next := reconcile.Instance{
			ID: id, State: reconcile.StateExited, Since: at, Run: i.Run, PID: i.PID, StartedAt: i.StartedAt, Generation: i.Generation,
			Starts: i.Starts, Attempt: i.Attempt, Ends: i.Ends, Flapping: i.Flapping, LastExit: last,
		}
		if i.Run == 0 {
			next.State = reconcile.StateNew
		}
		j.instances[id] = next
	}
}

// amnesia is a journal that writes each turn down when the next one comes:
// FlawAmnesia.
type amnesia struct {
	Journal
	last *reconcile.Batch
}

func (a *amnesia) Record(b reconcile.Batch) {
	if a.last != nil {
		a.Journal.Record(*a.last)
	}
	for n, i := range b.Changed {
		copied := kept(i)
		b.Changed[n] = &copied
	}
	a.last = &b
}

func (a *amnesia) World() reconcile.World {
	a.last = nil
	return a.Journal.World()
}
