package reconcile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/procnanny/procnanny/spec"
)

// pastLen bounds how many earlier desired programs a Program remembers.
const pastLen = 4

// version is a program as it was desired once.
type version struct {
	spec           *spec.Program
	launch, tuning spec.Digest
}

// edit is what differs between two programs, as keys and in words.
type edit struct {
	keys   []string
	reason string
}

// words remembers the edits of one look at a program: instances that were
// started alike differ alike.
type words struct {
	launchOf, tuningOf spec.Digest
	launchEdit         *edit
	tuningEdit         *edit
	scaled             string
	// replaceOf is what replaceEdit is about: launch and tuning.
	replaceOf   [2]spec.Digest
	replaceEdit *edit
}

// replaced is how an instance's process differs from the one that takes its
// place, which brings the new tuning too.
func (v *words) replaced(d *differ, i *Instance) *edit {
	e := v.launch(d, i.Launch)
	if i.Tuning == "" || i.Tuning == d.to.tuning {
		return e
	}
	if of := [2]spec.Digest{i.Launch, i.Tuning}; v.replaceEdit == nil || v.replaceOf != of {
		t := v.tuning(d, i.Tuning)
		v.replaceOf, v.replaceEdit = of, &edit{keys: slices.Concat(e.keys, t.keys), reason: e.reason + ", " + t.reason}
	}
	return v.replaceEdit
}

// launch is how what was launched as old differs from what is desired.
func (v *words) launch(d *differ, old spec.Digest) *edit {
	if v.launchEdit == nil || v.launchOf != old {
		v.launchOf, v.launchEdit = old, compare(d.version(func(x version) bool { return x.launch == old }), d.want, spec.CostProcess)
	}
	return v.launchEdit
}

// tuning is how the tuning old differs from what is desired.
func (v *words) tuning(d *differ, old spec.Digest) *edit {
	if v.tuningEdit == nil || v.tuningOf != old {
		v.tuningOf, v.tuningEdit = old, compare(d.version(func(x version) bool { return x.tuning == old }), d.want, spec.CostLive)
	}
	return v.tuningEdit
}

// version finds an earlier desired program; nil when it is not remembered.
func (d *differ) version(is func(version) bool) *spec.Program {
	if d.p.Spec != nil && is(version{d.p.Spec, d.p.Target, d.p.tuning}) {
		return d.p.Spec
	}
	for _, v := range d.p.past {
		if is(v) {
			return v.spec
		}
	}
	return nil
}

// compare says what differs between two programs among the keys whose change
// costs what.
func compare(old, now *spec.Program, what spec.Cost) *edit {
	if old == nil || now == nil {
		return &edit{reason: "started under an earlier configuration"}
	}
	a, b := fields(old), fields(now)
	e := &edit{}
	var parts []string
	for _, key := range keysOf(what, a, b) {
		x, y := a[key], b[key]
		if bytes.Equal(x, y) {
			continue
		}
		e.keys = append(e.keys, key)
		parts = append(parts, key+differs(key, x, y))
	}
	e.reason = strings.Join(parts, ", ")
	return e
}

// keysOf lists the keys of one cost in the order of the struct fields, those of
// maps of attributes one by one, as "limits.nofile".
func keysOf(what spec.Cost, a, b map[string]json.RawMessage) []string {
	var keys []string
	for _, k := range spec.KeyCosts() {
		if k.Cost != what {
			continue
		}
		inner := merged(k.Key, a, b)
		if len(inner) == 0 {
			inner = []string{k.Key}
		}
		keys = append(keys, inner...)
	}
	if what == spec.CostProcess {
		keys = append(keys, "output.mode", "identity")
	}
	return keys
}

// differs says in words how one key differs. What may be long, and env, which
// may be secret, is not quoted.
func differs(key string, x, y json.RawMessage) string {
	a, b := scalar(x), scalar(y)
	if a == "" || b == "" || key == "env" {
		return " changed"
	}
	return " " + a + " -> " + b
}

// scalar is a short JSON scalar as it is written, or empty.
func scalar(raw json.RawMessage) string {
	const most = 48
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return "unset"
	case raw[0] == '{' || raw[0] == '[' || len(raw) > most:
		return ""
	}
	return string(raw)
}

// startWords says why an instance starts.
func (d *differ) startWords(i *Instance, cause Cause) string {
	switch cause {
	case CauseBoot:
		return "boot"
	case CauseScale:
		return d.scaleWords()
	case CauseCrash:
		if i.LastExit != nil {
			return "it ended: " + i.LastExit.Words()
		}
	case CauseCommand:
		return "asked for"
	case CauseConfig:
		if i.State == StateNew {
			return "new program"
		}
		if d.changed(i) {
			return d.words.launch(d, i.Launch).reason
		}
		return "defined again"
	default:
	}
	return string(cause)
}

// stopWords says why an instance is stopped, and which keys made it so.
func (d *differ) stopWords(i *Instance, cause Cause) (reason string, keys []string) {
	switch cause {
	case CauseReplaced:
		e := d.words.replaced(d, i)
		return e.reason, e.keys
	case CauseScaledDown:
		if d.p.Spec == nil || d.p.Spec.Instances == d.want.Instances {
			return "scaled down", nil
		}
		return "scaled down: " + d.scaleWords(), []string{"instances"}
	case CauseRemoved:
		return "no longer defined", nil
	case CauseRestart:
		return "asked for", nil
	case CauseStop:
		return "stopped", nil
	default:
	}
	return string(cause), nil
}

// scaleWords says how the desired count differs from the one before.
func (d *differ) scaleWords() string {
	if d.words.scaled == "" {
		now := d.want.Instances
		d.words.scaled = fmt.Sprintf("instances %d", now)
		if old := d.p.Spec; old != nil && old.Instances != now {
			d.words.scaled = fmt.Sprintf("instances %d -> %d", old.Instances, now)
		}
	}
	return d.words.scaled
}
