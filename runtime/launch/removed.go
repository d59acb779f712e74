package launch

import (
	"encoding/json"
	"maps"
	"os"
	"slices"

	"github.com/procnanny/procnanny/runtime/oom"
	"github.com/procnanny/procnanny/spec"
)

// Retune is what to bring to a process that has old so that it becomes as if it
// had been started with want: want itself, and for what only old sets, what a
// child inherits from us. A cgroup value goes back to the kernel's default.
func Retune(old, want spec.Tuning) (spec.Tuning, error) {
	had, has := document(old), document(want)
	removed := map[string]json.RawMessage{}
	for key, value := range had {
		if missing := without(value, has[key]); missing != nil {
			removed[key] = missing
		}
	}
	if len(removed) == 0 {
		return want, nil
	}
	inherited, err := inherited()
	if err != nil {
		return want, err
	}
	for key, missing := range removed {
		has[key] = merge(has[key], inherited[key], missing)
	}
	return tuning(has)
}

// StillHas is what to take a process for that was to become want, when the
// kernel refused some of it: want, and what want does not set but the process
// has. The values of the latter say nothing.
func StillHas(want spec.Tuning, refused map[string]string) (spec.Tuning, error) {
	inherited, err := inherited()
	if err != nil {
		return want, err
	}
	all, err := tuning(inherited)
	if err != nil {
		return want, err
	}
	has := document(want)
	for key, value := range document(Pick(all, slices.Collect(maps.Keys(refused)))) {
		if missing := without(value, has[key]); missing != nil {
			has[key] = merge(has[key], value, missing)
		}
	}
	return tuning(has)
}

// tuning is a document as a tuning.
func tuning(doc map[string]json.RawMessage) (spec.Tuning, error) {
	out := spec.Tuning{}
	raw, err := json.Marshal(doc)
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	return out, err
}

// document is a tuning by key. A plain type of ours cannot fail to be one.
func document(t spec.Tuning) map[string]json.RawMessage {
	raw, err := json.Marshal(t)
	doc := map[string]json.RawMessage{}
	if err == nil {
		err = json.Unmarshal(raw, &doc)
	}
	if err != nil {
		panic(err)
	}
	return doc
}

// without is what had sets and has does not: all of it, or of the limits and
// the cgroup single values; nil is nothing. A value that only changed is no
// removal, and neither is a part of {class, level}: such a value is replaced
// whole.
func without(had, has json.RawMessage) json.RawMessage {
	if has == nil {
		return had
	}
	a, b := parts(had), parts(has)
	if a == nil || b == nil {
		return nil
	}
	maps.DeleteFunc(a, func(key string, _ json.RawMessage) bool { return b[key] != nil || whole[key] })
	if len(a) == 0 {
		return nil
	}
	out, err := json.Marshal(a)
	if err != nil {
		return nil
	}
	return out
}

// whole are the parts of a value that mean nothing alone.
var whole = map[string]bool{"class": true, "level": true, "policy": true, "priority": true}

// parts is a value as a map, or nil when it is none.
func parts(raw json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	return m
}

// merge puts what is inherited in place of what is missing beside has.
func merge(has, inherited, missing json.RawMessage) json.RawMessage {
	want, from := parts(missing), parts(inherited)
	if want == nil || from == nil || hasWhole(want) {
		return inherited
	}
	out := map[string]json.RawMessage{}
	maps.Copy(out, parts(has))
	for key := range want {
		if v, ok := from[key]; ok {
			out[key] = v
		}
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return has
	}
	return raw
}

func hasWhole(m map[string]json.RawMessage) bool {
	return slices.ContainsFunc(slices.Collect(maps.Keys(m)), func(key string) bool { return whole[key] })
}

// inherited is what a child of ours has that sets nothing.
func inherited() (map[string]json.RawMessage, error) {
	doc, err := Read(os.Getpid(), "")
	if err != nil {
		return nil, err
	}
	var limits map[string]spec.Limit
	if err := json.Unmarshal(doc["limits"], &limits); err != nil {
		return nil, err
	}
	given, now := givenNoFile(), ourNoFile()
	limits["nofile"] = spec.Limit{Soft: spec.Size(min(given.Cur, now.Max)), Hard: spec.Size(min(given.Max, now.Max))}
	if doc["limits"], err = json.Marshal(limits); err != nil {
		return nil, err
	}
	if score, differs := oom.Inherited(); differs {
		if doc["oom_score_adj"], err = json.Marshal(score); err != nil {
			return nil, err
		}
	}
	doc["cgroup"] = json.RawMessage(newCgroup)
	return doc, nil
}
