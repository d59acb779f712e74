package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"
)

// statusReply is what the text view reads of a status reply.
type statusReply struct {
	Programs map[string]programStatus `json:"programs"`
	Config   struct {
		State      string  `json:"state"`
		Generation uint64  `json:"generation"`
		Commit     string  `json:"commit"`
		Pinned     uint64  `json:"pinned"`
		Ahead      bool    `json:"ahead"`
		Error      *string `json:"error"`
		Problems   []any   `json:"problems"`
		Stalled    float64 `json:"keeper_stalled"`
	} `json:"config"`
}

type programStatus struct {
	Instances  map[int]instanceStatus `json:"instances"`
	Generation uint64                 `json:"generation"`
	Held       string                 `json:"held"`
	Desired    int                    `json:"desired"`
	Defined    *bool                  `json:"defined"`
	Overrides  []overrideView         `json:"overrides"`
}

type instanceStatus struct {
	State       string                     `json:"state"`
	AdminState  string                     `json:"admin_state"`
	PID         *int                       `json:"pid"`
	Uptime      float64                    `json:"uptime"`
	Starts      int                        `json:"starts"`
	Flapping    bool                       `json:"flapping"`
	Finished    string                     `json:"finished"`
	Waits       string                     `json:"waits"`
	NextStart   float64                    `json:"next_start"`
	Containment string                     `json:"containment"`
	LastExit    *exitView                  `json:"last_exit"`
	Pending     map[string]json.RawMessage `json:"pending"`
	Drift       map[string]json.RawMessage `json:"drift"`
	OutputFault string                     `json:"output_fault"`
	Dropped     int64                      `json:"output_dropped"`
}

type exitView struct {
	Code    *int    `json:"code"`
	Signal  any     `json:"signal"`
	Core    bool    `json:"core"`
	Unknown bool    `json:"exit_unknown"`
	At      float64 `json:"at"`
	Error   string  `json:"error"`
	Cause   string  `json:"cause"`
}

// alive are the states in which a process may exist.
var alive = map[string]bool{"starting": true, "running": true, "stopping": true}

// stateStyle colours states: green is good, red is not, yellow is on its way.
var stateStyle = map[string]style{
	"running": green, "starting": yellow, "stopping": yellow, "backoff": red, "exited": dim, "new": dim,
}

// collapseFrom is how many instances a program must have before equal
// neighbours share a row.
const collapseFrom = 20

// statusText prints what a status reply says.
type statusText struct {
	reply statusReply
	// now is what ages are counted from; zero shows none, so that two views
	// differ only when something happened.
	now time.Time
	// want are the targets to show; empty is all.
	want []pattern
	// every shows each instance, however many there are.
	every bool
}

// header is what stands above the table: the configuration and a summary.
func (s *statusText) header() []cell {
	c := s.reply.Config
	lines := []cell{s.config()}
	if c.Pinned != 0 {
		lines = append(lines, cell{fmt.Sprintf("generation %d is pinned by rollback until the files change", c.Pinned), yellow})
	}
	if c.Ahead {
		lines = append(lines, cell{"the files are ahead of what runs: procnanny plan shows how", yellow})
	}
	if c.Stalled != 0 {
		lines = append(lines, cell{"procnannyd was stopped " + ago(c.Stalled, s.now) + ": nothing is started or stopped until it goes on (kill -CONT)", red})
	}
	if line := s.degraded(); line != "" {
		lines = append(lines, cell{line, dim})
	}
	return append(lines, cell{s.summary(), none})
}

// config says which configuration runs, and why not the newest.
func (s *statusText) config() cell {
	c := s.reply.Config
	if c.State != "rejected" {
		text := fmt.Sprintf("config %s, generation %d", cmp.Or(c.State, "ok"), c.Generation)
		if c.Commit != "" {
			text += ", commit " + short(c.Commit)
		}
		return cell{text, bold}
	}
	why := ""
	if c.Error != nil {
		why = ": " + *c.Error
	}
	if n := len(c.Problems) - 1; n > 0 {
		why += fmt.Sprintf(" (and %s)", many(n, "more problem"))
	}
	if c.Generation == 0 {
		return cell{"config rejected" + why + "; nothing runs", red}
	}
	return cell{fmt.Sprintf("config rejected%s; generation %d keeps running", why, c.Generation), red}
}

func short(commit string) string { return commit[:min(len(commit), 7)] }

// degraded names a containment that is not a cgroup, once for all.
func (s *statusText) degraded() string {
	kinds := map[string]bool{}
	for _, p := range s.reply.Programs {
		for _, i := range p.Instances {
			if i.Containment != "" && !strings.HasPrefix(i.Containment, "cgroup") {
				kinds[i.Containment] = true
			}
		}
	}
	if len(kinds) == 0 {
		return ""
	}
	return "containment: " + strings.Join(slices.Sorted(maps.Keys(kinds)), ", ")
}

func (s *statusText) summary() string {
	counts, total := map[string]int{}, 0
	for _, p := range s.reply.Programs {
		for _, i := range p.Instances {
			counts[i.State]++
			total++
		}
	}
	var parts []string
	for _, state := range []string{"running", "starting", "stopping", "backoff", "exited", "new"} {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	text := many(len(s.reply.Programs), "program") + ", " + many(total, "instance")
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	return text
}

func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// table is the rows, one for each instance or for a group of equal ones. Where
// they would be wider than limit, notes stand below their row.
func (s *statusText) table(limit int) *table {
	t := s.rows(0)
	if limit > 0 && t.width() > limit {
		return s.rows(limit)
	}
	return t
}

// otherColumns is about what the columns beside the name need.
const otherColumns = 58

// rows makes the table; with a limit, a narrow one.
func (s *statusText) rows(limit int) *table {
	t := &table{head: []string{"NAME", "STATE", "PID", "UPTIME", "STARTS", "LAST EXIT", "NOTES"}}
	name := 0
	if limit > 0 {
		t.head, name = t.head[:len(t.head)-1], max(limit-otherColumns, 12)
	}
	for _, p := range slices.Sorted(maps.Keys(s.reply.Programs)) {
		if wanted(s.want, p) {
			s.program(t, p, name)
		}
	}
	return t
}

// program adds the rows of one program; a narrow table shows at most so many
// columns of a name, 0 is a wide one.
func (s *statusText) program(t *table, name string, narrow int) {
	p := s.reply.Programs[name]
	if notes := p.notes(); len(notes) > 0 {
		t.addAcross(0, cell{name + ": " + strings.Join(notes, "; "), yellow})
	}
	var indexes []int
	for index := range p.Instances {
		if wantedInstance(s.want, name, index) {
			indexes = append(indexes, index)
		}
	}
	sort.Ints(indexes)
	collapse := !s.every && len(p.Instances) > collapseFrom && !named(s.want, name)
	for len(indexes) > 0 {
		n := 1
		if collapse {
			n = s.alike(p, indexes)
		}
		cells, notes := s.row(name, p, indexes[:n], narrow)
		switch {
		case narrow == 0:
			t.add(append(cells, notes)...)
		case notes.text != "":
			t.add(cells...)
			t.addAcross(4, notes)
		default:
			t.add(cells...)
		}
		indexes = indexes[n:]
	}
}

// alike is how many of the first indexes follow each other and look the same.
func (s *statusText) alike(p programStatus, indexes []int) int {
	first := p.Instances[indexes[0]].look(p.Overrides, indexes[0])
	for n := 1; n < len(indexes); n++ {
		if indexes[n] != indexes[n-1]+1 || p.Instances[indexes[n]].look(p.Overrides, indexes[n]) != first {
			return n
		}
	}
	return len(indexes)
}

// look is what makes two instances share a row.
func (i instanceStatus) look(overrides []overrideView, index int) string {
	i.NextStart = 0
	return i.State + "\x00" + strings.Join(i.notes(overrides, index, time.Time{}), "\x00")
}

// row is the cells and the notes of an instance, or of a group of equal ones.
func (s *statusText) row(name string, p programStatus, indexes []int, narrow int) ([]cell, cell) {
	first := indexes[0]
	i := p.Instances[first]
	notes := i.notes(p.Overrides, first, s.now)
	pid, starts, uptime, last := "", fmt.Sprint(i.Starts), "", ""
	if alive[i.State] && i.PID != nil && *i.PID > 0 {
		pid = fmt.Sprint(*i.PID)
	}
	if alive[i.State] && i.Uptime > 0 && !s.now.IsZero() {
		uptime = span(seconds(i.Uptime))
	}
	if i.LastExit != nil {
		last = i.LastExit.text(s.now)
	}
	if len(indexes) > 1 {
		pid, last = "", ""
		if uptime, starts = spread(p, indexes); s.now.IsZero() {
			uptime = ""
		}
	}
	label := indexRange{first, indexes[len(indexes)-1]}.label(clip(safe(name), narrow))
	cells := []cell{{label, none}, {i.State, stateStyle[i.State]}, {pid, none}, {uptime, none}, {starts, none}, {last, none}}
	return cells, cell{strings.Join(notes, "; "), yellow}
}

// spread is the shortest and longest uptime of a group, and its sum of starts.
func spread(p programStatus, indexes []int) (uptime, starts string) {
	low, high, sum := p.Instances[indexes[0]].Uptime, 0.0, 0
	for _, index := range indexes {
		i := p.Instances[index]
		low, high, sum = min(low, i.Uptime), max(high, i.Uptime), sum+i.Starts
	}
	if high > 0 {
		uptime = span(seconds(low))
		if longest := span(seconds(high)); longest != uptime {
			uptime += ".." + longest
		}
	}
	return uptime, fmt.Sprint(sum)
}

// text is an exit as people say it: code 1, 3s ago.
func (e *exitView) text(now time.Time) string {
	what := ""
	signal := signalName(e.Signal)
	switch {
	case e.Error != "":
		what = "no start" // why is a note
	case e.Unknown:
		what = "unknown"
	case signal != "":
		what = "signal " + signal
	case e.Code != nil:
		what = fmt.Sprintf("code %d", *e.Code)
	}
	if e.Core {
		what += " (core)"
	}
	if e.At != 0 && !now.IsZero() {
		what += ", " + ago(e.At, now)
	}
	return what
}
