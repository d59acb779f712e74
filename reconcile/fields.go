package reconcile

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/procnanny/procnanny/spec"
)

// attributeMaps are the keys whose members are attributes of their own: people
// read "limits.nofile 1024 -> 2048", not "limits changed".
var attributeMaps = map[string]bool{"limits": true, "cgroup": true}

// fields is a program by dotted key, each value in the file's JSON form: every
// top-level key, the members of attributeMaps, output.mode and identity.
func fields(p *spec.Program) map[string]json.RawMessage {
	raw, err := json.Marshal(p)
	if err != nil {
		return nil
	}
	var top map[string]json.RawMessage
	if json.Unmarshal(raw, &top) != nil {
		return nil
	}
	for key := range attributeMaps {
		for k, v := range members(top[key]) {
			top[key+"."+k] = v
		}
	}
	top["output.mode"] = members(top["output"])["mode"]
	return top
}

func members(raw json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &m) != nil {
		return nil
	}
	return m
}

// merged lists the dotted keys below key that a or b has, sorted.
func merged(key string, a, b map[string]json.RawMessage) []string {
	if !attributeMaps[key] {
		return nil
	}
	found := map[string]bool{}
	for _, m := range []map[string]json.RawMessage{a, b} {
		for k := range m {
			if strings.HasPrefix(k, key+".") {
				found[k] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
