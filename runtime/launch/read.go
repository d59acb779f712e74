package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/spec"
)

// process is one process that is being read.
type process struct {
	pid    int
	cgroup string
	status string // of /proc/PID/status, once read
}

// Read says what the kernel has for process pid now, by tuning key, in the
// file's JSON form: also uid, gid and the nice value of its autogroup. Values
// of its cgroup come from cgroupDir; empty is none. What this kernel does not
// have is left out. The error is that there is no such process.
func Read(pid int, cgroupDir string) (map[string]json.RawMessage, error) {
	status, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		return nil, fmt.Errorf("cannot read process %d: %w", pid, err)
	}
	p := &process{pid: pid, cgroup: cgroupDir, status: string(status)}
	out := make(map[string]json.RawMessage, len(sequence))
	for _, r := range sequence {
		if r.read == nil {
			continue
		}
		v, err := r.read(p)
		if errors.Is(err, unix.ESRCH) {
			return nil, fmt.Errorf("cannot read %s of process %d: %w", r.key, pid, err)
		}
		if err == nil && v != nil {
			out[r.key] = v
		}
	}
	return out, nil
}

// statusField is the rest of the line of /proc/PID/status that begins with name.
func (p *process) statusField(name string) string {
	_, rest, _ := strings.Cut(p.status, "\n"+name)
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}

// drift collects differences.
type drift struct {
	got   map[string]json.RawMessage
	found map[string]string
}

func (d *drift) note(key string, got, want any) {
	d.found[key] = fmt.Sprintf("%s is %v, should be %v", key, got, want)
}

// Drift says in words how what Read got differs from what want sets; what want
// does not set is nobody's business, and neither is a soft limit, which the
// program may choose below the hard one. The keys are those of Tune's refusals.
func Drift(want spec.Tuning, got map[string]json.RawMessage) map[string]string {
	d := &drift{got: got, found: map[string]string{}}
	for _, r := range sequence {
		if raw, ok := got[r.key]; ok && r.drift != nil {
			r.drift(d, &want, raw)
		}
	}
	return d.found
}

// plainDrift compares a value that has one JSON form, if the spec sets it.
func plainDrift[T comparable](d *drift, key string, want *T, raw json.RawMessage) {
	var got T
	if want == nil || json.Unmarshal(raw, &got) != nil || got == *want {
		return
	}
	d.note(key, got, *want)
}

// marshal is what was read in JSON, unless it could not be read.
func marshal[T any](v T, err error) (json.RawMessage, error) {
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// Pick is the part of t that keys (those of Drift and Tune's refusals) name.
func Pick(t spec.Tuning, keys []string) spec.Tuning {
	var doc map[string]json.RawMessage
	out := spec.Tuning{}
	if raw, err := json.Marshal(t); err != nil || json.Unmarshal(raw, &doc) != nil {
		return out // our own plain type: it cannot be
	}
	for key, raw := range doc {
		inner := map[string]json.RawMessage{}
		switch {
		case slices.Contains(keys, key):
			continue
		case (key == "limits" || key == "cgroup") && json.Unmarshal(raw, &inner) == nil:
			maps.DeleteFunc(inner, func(k string, _ json.RawMessage) bool {
				return !slices.Contains(keys, k) && !slices.Contains(keys, key+"."+k)
			})
			if key == "limits" && !slices.Contains(keys, "limits.nice") {
				delete(inner, "nice")
			}
			doc[key], _ = json.Marshal(inner)
		default:
			delete(doc, key)
		}
	}
	raw, err := json.Marshal(doc)
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	if err != nil {
		return spec.Tuning{}
	}
	return out
}
