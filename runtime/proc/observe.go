package proc

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/runtime/launch"
	"github.com/procnanny/procnanny/spec"
)

// Look is a living run that shall be observed.
type Look struct {
	ID  reconcile.InstanceID
	Run reconcile.RunID
	PID int
	// Program is what is desired; nil while nobody does: it is being removed, or
	// was found and nothing was desired yet.
	Program *spec.Program
}

// Observe asks the kernel about living runs and judges drift. What is gone, or
// whose pid is another's by now, has no observation.
func (p *Proc) Observe(list []Look) []reconcile.Observation {
	out := make([]reconcile.Observation, 0, len(list))
	var orders []keeper.Order
	before := p.seen
	p.seen = sightings{}
	for _, l := range list {
		got, ok := p.look(l)
		if !ok {
			continue
		}
		got = p.seen.once(got, before)
		o := reconcile.Observation{ID: l.ID, Run: l.Run, Observed: got, Output: p.outputState(l.ID)}
		if l.Program != nil {
			var tune []keeper.Order
			o.Drift, tune = p.judge(l, got)
			orders = append(orders, tune...)
		}
		out = append(out, o)
	}
	p.send(append(orders, p.outputs(list)...))
	return out
}

// Foretell says why the kernel will refuse what want sets for the living process
// pid, by key, as far as that can be known before it is tried.
func Foretell(pid int, want spec.Tuning) map[string]string { return launch.Foretell(pid, want) }

// sightings are what the last look saw, by what it is: a thousand processes are
// mostly alike, and what the kernel says of them is in memory once.
type sightings map[string]map[string]json.RawMessage

// once returns what equals got: of this look, or of the one before.
func (s sightings) once(got map[string]json.RawMessage, before sightings) map[string]json.RawMessage {
	var text []byte
	for _, key := range launch.Keys() {
		text = append(append(append(text, key...), got[key]...), 0)
	}
	if same, ok := s[string(text)]; ok {
		return same
	}
	if same, ok := before[string(text)]; ok {
		got = same
	}
	s[string(text)] = got
	return got
}

// Desired is to be told of each change of what is desired, with all runs: a changed
// output policy holds from the next write on, and what an adopted run was tuned
// to is known.
func (p *Proc) Desired(list []Look) {
	p.recognize(list)
	p.send(p.outputs(list))
}

// recognize learns what adopted runs were tuned to, if that is what their
// programs still say: the record has only a digest.
func (p *Proc) recognize(list []Look) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range list {
		r := p.runs[l.Run]
		if l.Program == nil || r == nil || r.tuned == "" {
			continue
		}
		if r.tuning == nil && l.Program.Tuning.Digest() == r.tuned {
			r.tuning = &l.Program.Tuning
			if r.fix != nil {
				p.stillHas(r, r.fix.before)
			}
		}
		r.tuned = "" // once is enough: a program that has changed does not change back
	}
}

// outputs tell the keeper the output policy of those runs for which it was told
// another one.
func (p *Proc) outputs(list []Look) []keeper.Order {
	var orders []keeper.Order
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range list {
		r := p.runs[l.Run]
		if l.Program == nil || r == nil {
			continue
		}
		if want := outputOf(l.Program); r.output != want {
			r.output = want
			orders = append(orders, keeper.Order{Kind: keeper.OrderOutput, Run: uint64(l.Run), Program: l.ID.Program, Index: l.ID.Index, Output: &want})
		}
	}
	return orders
}

// look reads a process between two looks at who it is.
func (p *Proc) look(l Look) (map[string]json.RawMessage, bool) {
	before, err := startTicks(l.PID)
	if err != nil || !p.isRun(l, before) {
		return nil, false
	}
	dir := ""
	if l.Program != nil && l.Program.Cgroup != nil {
		dir, _ = launch.CgroupDir(l.PID) // empty: its values are not there
	}
	got, err := launch.Read(l.PID, dir)
	if err != nil {
		return nil, false
	}
	after, err := startTicks(l.PID)
	return got, err == nil && after == before
}

// ticks are what /proc counts in: USER_HZ, which is 100 on every architecture
// that we build for.
const tick = 10 * time.Millisecond

// startSlack is how long a process may have existed before its exec was noted.
const startSlack = 10 * time.Second

// isRun reports whether a process that began at ticks is the run. The first
// look must fit the time at which the keeper started it; later ones must be
// equal to the first.
func (p *Proc) isRun(l Look, ticks uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.runs[l.Run]
	if r == nil {
		return false // ended meanwhile, or never started by us
	}
	if r.startTicks == 0 && r.startedNS > 0 {
		age := time.Duration(r.startedNS) - time.Duration(ticks)*tick
		if age < -tick || age > startSlack {
			return false
		}
	}
	if r.startTicks == 0 {
		r.startTicks = ticks
	}
	return r.startTicks == ticks
}

// startTicks is field 22 of /proc/PID/stat; the name before may contain
// anything, even parentheses.
func startTicks(pid int) (uint64, error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	text := string(raw)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const starttime = 22 - 3 // the fields after the name begin with the third
	if len(fields) <= starttime {
		return 0, fmt.Errorf("cannot parse /proc/%d/stat", pid)
	}
	return strconv.ParseUint(fields[starttime], 10, 64)
}

// judge says how a run drifted, and corrects what it may: each key once.
func (p *Proc) judge(l Look, got map[string]json.RawMessage) (map[string]string, []keeper.Order) {
	if l.Program.Drift == "ignore" {
		return nil, nil
	}
	found := launch.Drift(l.Program.Tuning, got)
	var tune []keeper.Order
	if l.Program.Drift != "report" {
		tune = p.correct(l, found)
	}
	maps.Copy(found, identityDrift(l.Program.Identity, got))
	maps.Copy(found, p.placeDrift(l))
	return found, tune
}

// placeDrift is only reported: a process that has left its cgroup has the right to.
func (p *Proc) placeDrift(l Look) map[string]string {
	if id := l.Program.Identity; !p.contained.Load() || id.Switch && id.UID != 0 {
		return nil // another user cannot
	}
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(l.PID) + "/cgroup")
	if err != nil {
		return nil
	}
	_, path, _ := strings.Cut("\n"+string(raw), "\n0::")
	path, _, _ = strings.Cut(path, "\n")
	if path == "" || strings.Contains(path+"/", "/"+keeper.LeafName(l.ID.Program, l.ID.Index)+"/") {
		return nil
	}
	return map[string]string{"cgroup": "it has left its cgroup and is in " + path}
}

// correct takes out of found what it orders to be corrected, and adds to the
// rest why a correction was refused.
func (p *Proc) correct(l Look, found map[string]string) []keeper.Order {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.runs[l.Run]
	if r == nil || len(found) == 0 {
		return nil
	}
	fix := r.fixes()
	if len(fix.tunes) > 0 { // the tune under way may settle it
		return nil
	}
	var keys []string
	for key := range found {
		if !fix.corrected[key] {
			keys = append(keys, key)
			fix.corrected[key] = true
		} else if why := fix.refused[key]; why != "" {
			found[key] += " (" + why + ")"
		}
	}
	if len(keys) == 0 {
		return nil
	}
	slices.Sort(keys)
	for _, key := range keys {
		p.c.Log.Info("correcting drift", "instance", l.ID.String(), "pid", l.PID, "drift", found[key])
		delete(found, key)
	}
	fix.tunes = append(fix.tunes, true)
	tuning := launch.Pick(l.Program.Tuning, keys)
	return []keeper.Order{{
		Kind: keeper.OrderTune, Run: uint64(l.Run), Program: l.ID.Program, Index: l.ID.Index,
		Tuning: &tuning, Digest: l.Program.Tuning.Digest(),
	}}
}

// identityDrift is only reported: nobody can give a process another user.
func identityDrift(id spec.Identity, got map[string]json.RawMessage) map[string]string {
	out := map[string]string{}
	if !id.Switch {
		return out
	}
	for key, want := range map[string]uint32{"uid": id.UID, "gid": id.GID} {
		if raw, ok := got[key]; ok && string(raw) != strconv.FormatUint(uint64(want), 10) {
			out[key] = fmt.Sprintf("%s is %s, should be %d", key, raw, want)
		}
	}
	return out
}
