package launch

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/spec"
)

func raw(t *testing.T, v map[string]any) map[string]json.RawMessage {
	t.Helper()
	out := map[string]json.RawMessage{}
	for key, value := range v {
		b, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		out[key] = b
	}
	return out
}

func TestDrift(t *testing.T) {
	got := raw(t, map[string]any{
		"nice": 3, "autogroup": 3, "ionice": spec.IONice{Class: "best-effort", Level: 4}, "cpus": "0-1", "sched": spec.Sched{Policy: "other"}, "oom_score_adj": 0,
		"limits": map[string]spec.Limit{"nofile": {Soft: 10, Hard: 100}, "core": {Soft: 0, Hard: spec.Unlimited}, "nice": {Soft: 0, Hard: 20}},
	})
	limit := func(key string, soft, hard spec.Size) spec.Tuning {
		return spec.Tuning{Limits: map[string]spec.Limit{key: {Soft: soft, Hard: hard}}}
	}
	tests := []struct {
		name string
		want spec.Tuning
		key  string
		text string
	}{
		{"nothing is set", spec.Tuning{}, "", ""},
		{"nice", spec.Tuning{Nice: new(5)}, "nice", "nice is 3, should be 5"},
		{"same nice", spec.Tuning{Nice: new(3)}, "", ""},
		{"ionice level", spec.Tuning{IONice: &spec.IONice{Class: "best-effort", Level: 6}}, "ionice", "ionice is best-effort 4, should be best-effort 6"},
		{"ionice class", spec.Tuning{IONice: &spec.IONice{Class: "idle"}}, "ionice", "ionice is best-effort 4, should be idle 0"},
		{"cpus", spec.Tuning{CPUs: "1"}, "cpus", "cpus is 0-1, should be 1"},
		{"same cpus, written otherwise", spec.Tuning{CPUs: "1,0"}, "", ""},
		{"sched", spec.Tuning{Sched: &spec.Sched{Policy: "rr", Priority: 7}}, "sched", "sched is other, should be rr 7"},
		{"oom", spec.Tuning{OOMScoreAdj: new(100)}, "oom_score_adj", "oom_score_adj is 0, should be 100"},
		{"hard limit", limit("nofile", 10, 50), "nofile", "nofile is 10:100, should be 10:50"},
		{"soft limit is the program's", limit("nofile", 50, 100), "", ""},
		{"unlimited", limit("core", 0, 4), "core", "core is 0:unlimited, should be 0:4"},
		{"the limit of nice", limit("nice", 0, 0), "limits.nice", "limits.nice is 0:20, should be 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := map[string]string{}
			if tt.key != "" {
				want[tt.key] = tt.text
			}
			expect(t, "drift", Drift(tt.want, got), want)
		})
	}
	got["autogroup"] = json.RawMessage("0")
	expect(t, "drift", Drift(spec.Tuning{Nice: new(3)}, got), map[string]string{"nice": "nice is 0, should be 3"})
	expect(t, "drift of nothing", Drift(spec.Tuning{Nice: new(3)}, nil), map[string]string{})
}

func TestPick(t *testing.T) {
	all := spec.Tuning{
		Nice: new(5), CPUs: "0", Limits: map[string]spec.Limit{"nofile": {Soft: 1, Hard: 2}, "core": {}, "nice": {Soft: 3, Hard: 3}},
		Cgroup: &spec.Cgroup{CPUMax: "50%", MemoryMax: new(spec.Size(spec.Unlimited))},
	}
	for keys, want := range map[string]spec.Tuning{
		"":            {},
		"nice":        {Nice: new(5)},
		"limits.nice": {Limits: map[string]spec.Limit{"nice": {Soft: 3, Hard: 3}}},
		"nofile cpus": {CPUs: "0", Limits: map[string]spec.Limit{"nofile": {Soft: 1, Hard: 2}}},
		"memory_max":  {Cgroup: &spec.Cgroup{MemoryMax: new(spec.Size(spec.Unlimited))}},
	} {
		got := Pick(all, strings.Fields(keys))
		if got.Digest() != tidy(want).Digest() && tidy(got).Digest() != tidy(want).Digest() {
			t.Errorf("%q of it is %+v, should be %+v", keys, got, want)
		}
	}
}

// tidy drops what is empty and so means nothing.
func tidy(t spec.Tuning) spec.Tuning {
	if len(t.Limits) == 0 {
		t.Limits = nil
	}
	if t.Cgroup != nil && *t.Cgroup == (spec.Cgroup{}) {
		t.Cgroup = nil
	}
	return t
}

func TestReadIsComplete(t *testing.T) {
	got, err := Read(os.Getpid(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range Keys() {
		if _, ok := got[key]; !ok && key != "cgroup" && key != "autogroup" {
			t.Errorf("%s is not read", key)
		}
	}
	expect(t, "uid", string(got["uid"]), strconv.Itoa(os.Geteuid()))
	expect(t, "gid", string(got["gid"]), strconv.Itoa(os.Getegid()))
}

// Everything that can be tuned has its row, whole: a new field of Tuning
// without one fails here.
func TestEveryTuningHasARow(t *testing.T) {
	var doc map[string]any
	b, err := json.Marshal(spec.Tuning{
		Nice: new(1), IONice: &spec.IONice{}, Limits: lowLimits(), CPUs: "0", Sched: &spec.Sched{}, OOMScoreAdj: new(1), Cgroup: &spec.Cgroup{},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	var live []string
	for _, k := range spec.KeyCosts() {
		if k.Cost == spec.CostLive {
			live = append(live, k.Key)
		}
	}
	if len(live) < 7 || len(doc) != len(live) {
		t.Fatalf("live keys are %v, a full Tuning has %v", live, doc)
	}
	for _, key := range live {
		found := false
		for _, r := range sequence {
			found = found || r.key == key && r.add != nil && r.tune != nil && r.read != nil && r.drift != nil
		}
		if !found {
			t.Errorf("%s has no whole row", key)
		}
	}
	for _, r := range sequence {
		if r.why == "" {
			t.Errorf("%s does not say why it has its place", r.key)
		}
	}
}

func TestCPUs(t *testing.T) {
	for list, want := range map[string]string{"0": "0", "0-3,6": "0-3,6", "6,0-3": "0-3,6", "1,2,3": "1-3", "8191-8193": "8191-8193", "99999": "99999"} {
		mask, err := parseCPUs(list)
		if err != nil {
			t.Errorf("%s: %v", list, err)
		}
		expect(t, list, formatCPUs(mask), want)
	}
	for _, list := range []string{"", "a", "3-1", "-1", "1-", "100000", "1,,2"} {
		if _, err := parseCPUs(list); err == nil {
			t.Errorf("%q is taken for a list of CPUs", list)
		}
	}
}

func TestCPUMax(t *testing.T) {
	for _, v := range []string{"max", "1%", "150%", "12345 50000"} {
		expect(t, v, textCPUMax(cpuMaxText(v)), v)
	}
}

func TestRetune(t *testing.T) {
	base, err := inherited()
	if err != nil {
		t.Fatal(err)
	}
	var own spec.Tuning
	doc, err := json.Marshal(map[string]json.RawMessage{"nice": base["nice"], "ionice": base["ionice"], "limits": base["limits"], "cpus": base["cpus"], "sched": base["sched"], "oom_score_adj": base["oom_score_adj"]})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(doc, &own); err != nil || own.Nice == nil || len(own.Limits) != 16 || own.CPUs == "" {
		t.Fatalf("inherited is %s: %v", doc, err)
	}
	limit := spec.Limit{Soft: 1, Hard: 2}
	tests := []struct {
		name            string
		old, want, full spec.Tuning
	}{
		{"nothing", spec.Tuning{}, spec.Tuning{Nice: new(3)}, spec.Tuning{Nice: new(3)}},
		{"a change is no removal", spec.Tuning{Nice: new(5), IONice: &spec.IONice{Class: "idle", Level: 1}}, spec.Tuning{Nice: new(3), IONice: &spec.IONice{Class: "none"}}, spec.Tuning{Nice: new(3), IONice: &spec.IONice{Class: "none"}}},
		{"priority goes with its policy", spec.Tuning{Sched: &spec.Sched{Policy: "rr", Priority: 3}}, spec.Tuning{Sched: &spec.Sched{Policy: "batch"}}, spec.Tuning{Sched: &spec.Sched{Policy: "batch"}}},
		{"nice", spec.Tuning{Nice: new(5)}, spec.Tuning{}, spec.Tuning{Nice: own.Nice}},
		{
			"ionice, sched, cpus, oom",
			spec.Tuning{IONice: &spec.IONice{Class: "idle"}, Sched: &spec.Sched{Policy: "rr", Priority: 3}, CPUs: "0", OOMScoreAdj: new(5)},
			spec.Tuning{},
			spec.Tuning{IONice: own.IONice, Sched: own.Sched, CPUs: own.CPUs, OOMScoreAdj: own.OOMScoreAdj},
		},
		{
			"one limit of two",
			spec.Tuning{Limits: map[string]spec.Limit{"core": limit, "nofile": limit}},
			spec.Tuning{Limits: map[string]spec.Limit{"core": limit}},
			spec.Tuning{Limits: map[string]spec.Limit{"core": limit, "nofile": own.Limits["nofile"]}},
		},
		{"all limits", spec.Tuning{Limits: map[string]spec.Limit{"core": {Soft: 1, Hard: 1}}}, spec.Tuning{}, spec.Tuning{Limits: map[string]spec.Limit{"core": own.Limits["core"]}}},
		{
			"cgroup",
			spec.Tuning{Cgroup: &spec.Cgroup{CPUMax: "5%", PidsMax: new(spec.Size(5))}},
			spec.Tuning{Cgroup: &spec.Cgroup{PidsMax: new(spec.Size(6))}},
			spec.Tuning{Cgroup: &spec.Cgroup{CPUMax: "max", PidsMax: new(spec.Size(6))}},
		},
	}
	for _, tt := range tests {
		got, err := Retune(tt.old, tt.want)
		if err != nil || got.Digest() != tt.full.Digest() {
			a, _ := json.Marshal(got)
			b, _ := json.Marshal(tt.full)
			t.Errorf("%s: %s, should be %s (%v)", tt.name, a, b, err)
		}
	}
}
