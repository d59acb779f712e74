package reconcile

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/procnanny/procnanny/spec"
)

// await notes whom a program waits for now: what it says instead of what it said.
func (w *World) await(name string, old, now *spec.Program) {
	for other := range after(old) {
		w.waiters[other] = slices.DeleteFunc(w.waiters[other], func(n string) bool { return n == name })
		if len(w.waiters[other]) == 0 {
			delete(w.waiters, other)
		}
	}
	for other := range after(now) {
		if w.waiters == nil {
			w.waiters = map[string][]string{}
		}
		w.waiters[other] = append(w.waiters[other], name)
	}
}

func after(p *spec.Program) map[string]string {
	if p == nil {
		return nil
	}
	return p.Start.After
}

// Moved lists the programs, beside names or again, whose turn may have come with
// what was done about names: those that wait for them, however far, and while all
// is being shut down those that they wait for. A caller looks at them after names.
func Moved(w World, names []string) []string {
	if len(w.waiters) == 0 {
		return nil
	}
	out := map[string]bool{}
	todo := slices.Clone(names)
	for len(todo) > 0 {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		next := slices.Clone(w.waiters[name])
		if p := w.Programs[name]; w.ShuttingDown && p != nil {
			next = slices.AppendSeq(next, maps.Keys(after(p.known())))
		}
		for _, n := range next {
			if !out[n] {
				out[n] = true
				todo = append(todo, n)
			}
		}
	}
	return slices.Sorted(maps.Keys(out))
}

// lacks names what start.after says and is not there; empty: nothing is in the
// way of a start. Of a boot nobody knows yet what is there.
func (d *differ) lacks() string {
	if d.asked || d.want == nil || len(d.want.Start.After) == 0 {
		return d.absent
	}
	var names []string
	for other, how := range d.want.Start.After {
		if d.w.Booting || !d.w.there(other, how) {
			names = append(names, other)
		}
	}
	slices.Sort(names)
	d.asked, d.absent = true, joinNames(names)
	return d.absent
}

// joinNames writes names for people; a name that would look like two is quoted.
func joinNames(names []string) string {
	list := slices.Clone(names)
	for n, name := range list {
		if strings.ContainsAny(name, `,"`) {
			list[n] = strconv.Quote(name)
		}
	}
	return strings.Join(list, ", ")
}

// Awaited is the programs that Instance.Waits names.
func Awaited(waits string) (names []string) {
	for rest := waits; rest != ""; rest = strings.TrimPrefix(rest, ", ") {
		name, _, _ := strings.Cut(rest, ", ")
		written := name
		if quoted, err := strconv.QuotedPrefix(rest); err == nil {
			if plain, err := strconv.Unquote(quoted); err == nil {
				name, written = plain, quoted
			}
		}
		names, rest = append(names, name), rest[len(written):]
	}
	return names
}

// there reports whether all of a program that shall be up is so; a program of
// which nothing shall be is not.
func (w *World) there(name, how string) bool {
	p := w.Programs[name]
	if p == nil || p.Spec == nil || p.Target == "" {
		return false
	}
	up, have := 0, p.Instances
	for index := range p.Spec.Instances {
		var i *Instance
		if len(have) > 0 && have[0].ID.Index == index {
			i, have = have[0], have[1:]
		}
		if p.Spec.Admin.IsDown(index) {
			continue
		}
		if i == nil || !i.is(how, &p.Spec.Policy) {
			return false
		}
		up++
	}
	return up > 0
}

// is reports whether an instance is as somebody's start.after wants it.
func (i *Instance) is(how string, pol *spec.Policy) bool {
	if how == spec.AfterDone {
		return i.State == StateExited && i.Finished == finishedDone && i.LastExit != nil && succeeded(pol, i.LastExit)
	}
	return i.State == StateRunning
}

// putOff: it shall start, and has to wait for others first.
func (d *differ) putOff(i *Instance, lack string, cause Cause) {
	if i.State == StateExited && i.Waits == lack && !(d.w.Booting && i.StartCause != cause) {
		return
	}
	d.change(i, Change{Verb: VerbSettle, What: "wait", Reason: "waits for " + lack, Waits: lack, StartCause: cause})
}

// neededBy reports whether a program that waits for name still has a process. In
// a circle, which no configuration has but several at once may make, nobody waits.
func (w *World) neededBy(name string) bool {
	for _, n := range w.waiters[name] {
		p := w.Programs[n]
		if p == nil || !slices.ContainsFunc(p.Instances, (*Instance).Alive) || after(p.known())[name] != spec.AfterRunning {
			continue
		}
		if !slices.Contains(Moved(World{waiters: w.waiters}, []string{n}), n) {
			return true
		}
	}
	return false
}
