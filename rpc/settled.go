package rpc

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// changed is what a request changed: of each program the keys, with dots into
// maps; nil is any. What went wrong before since is forgiven: it may come right.
type changed struct {
	keys  map[string][]string
	since time.Time
}

// one is a change of one program.
func one(program string, since time.Time, keys ...string) changed {
	return changed{map[string][]string{program: keys}, since}
}

// awaitSettled waits until the programs of a change are as desired.
func (c *Call) awaitSettled(ctx context.Context, what changed) error {
	names := sortedKeys(what.keys)
	digests := map[*spec.Program]spec.Digest{} // of the programs that were judged: they are dear
	return c.await(ctx, func(v *View) (d verdict) {
		for _, name := range names {
			p := v.Program(name)
			if p == nil {
				continue
			}
			if digests[p.Spec] == "" {
				digests[p.Spec] = p.Spec.Launch.Digest()
			}
			judgeSettled(&d, p, digests[p.Spec], what)
		}
		return d
	})
}

// judgeSettled: every instance that shall be is there with today's launch and
// tuning, and no other is.
func judgeSettled(d *verdict, p *ProgramView, launch spec.Digest, what changed) {
	if p.Held != "" {
		d.fail("%s is held: %s", p.Name, p.Held)
		return
	}
	n := desired(p)
	for index := range n {
		i := p.Instance(index)
		switch {
		case i == nil:
			d.wait("%s is new", idText(p.Name, index))
		case i.Down:
			if i.Alive() {
				d.wait("%v is %v", i.ID, i.State)
			}
		case i.Launch != launch || i.Cycle || i.Rolling:
			judgeComing(d, i, what.since)
		case i.State == reconcile.StateBackoff && (i.LastExit == nil || i.LastExit.At.Before(what.since)):
			d.wait("%v is %v", i.ID, i.State)
		case i.Finished == finishedDone: // nothing else is to come
			judgeDone(d, i, what.since)
		default:
			judgeRun(d, i)
			judgeTuned(d, i, what.keys[p.Name])
		}
	}
	for _, i := range p.Instances {
		if i.ID.Index >= n {
			d.wait("%v is %v, on its way out", i.ID, i.State)
		}
	}
}

// judgeDone: what it came to before is no matter of this change.
func judgeDone(d *verdict, i *InstanceView, since time.Time) {
	if e := i.LastExit; failed(i) && !e.At.Before(since) {
		d.fail("%v %s", i.ID, endText(e))
	}
}

// judgeComing: on its way to today's launch, unless its start failed.
func judgeComing(d *verdict, i *InstanceView, since time.Time) {
	if e := i.LastExit; i.State == reconcile.StateBackoff && e != nil && e.Error != "" && !e.At.Before(since) {
		d.fail("%v %s", i.ID, endText(e))
		return
	}
	waitOn(d, i)
}

// judgeTuned: the kernel has what was changed, and was asked whether it has. What
// it refused before is another matter.
func judgeTuned(d *verdict, i *InstanceView, keys []string) {
	if i.Tune != reconcile.TuneSettled {
		d.wait("the kernel has not confirmed the change of %v", i.ID)
		return
	}
	for _, refused := range sortedKeys(i.Pending) {
		if keys == nil || slices.ContainsFunc(keys, func(key string) bool { return meets(key, refused) }) {
			d.fail("%v: %s %s", i.ID, refused, i.Pending[refused])
		}
	}
}

// meets reports whether a key that was changed, and an attribute that the kernel
// refused, are about the same.
func meets(key, refused string) bool {
	path := refused
	switch {
	case slices.Contains(spec.Keys(), refused) || strings.Contains(refused, "."):
	case cgroupKeys()[refused]:
		path = "cgroup." + refused
	default:
		path = "limits." + refused
	}
	return key == path || strings.HasPrefix(key, path+".") || strings.HasPrefix(path, key+".")
}

// cgroupKeys are the members of cgroup: what is refused is told without it.
var cgroupKeys = sync.OnceValue(func() map[string]bool {
	out := map[string]bool{}
	for field := range reflect.TypeFor[spec.Cgroup]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		out[name] = true
	}
	return out
})

// underway reports whether p is not yet, or cannot be, what the files say: they may
// have been saved, and taken, just before somebody said apply.
func underway(p *ProgramView) bool {
	n := desired(p)
	if p.Held != "" || len(p.Instances) != n {
		return true
	}
	launch := p.Spec.Launch.Digest()
	return slices.ContainsFunc(p.Instances, func(i *InstanceView) bool {
		switch {
		case i.ID.Index >= n:
			return true
		case i.Down:
			return false
		case i.State == reconcile.StateStarting && i.StartCause != reconcile.CauseCrash:
			return true
		}
		return i.State == reconcile.StateNew || i.Rolling || len(i.Pending) > 0 || i.Alive() && (i.Launch != launch || i.Tune != reconcile.TuneSettled)
	})
}
