package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/sim"
)

// simTree is the report for scripts. Times are seconds since the beginning.
func simTree(r *sim.Report, f simFlags) any {
	lines := make([]any, len(r.Lines))
	for n, l := range r.Lines {
		line := map[string]any{"time": l.At.Seconds(), "program": l.Program, "instances": orEmpty(l.Indexes), "states": orEmpty(l.States), "event": l.What, "why": l.Why}
		if l.Times > 0 {
			line["times"], line["until"] = l.Times, l.Until.Seconds()
		}
		lines[n] = line
	}
	programs := map[string]any{}
	for n := range r.Programs {
		programs[r.Programs[n].Program] = totalsTree(&r.Programs[n])
	}
	return map[string]any{
		"for": r.For.Seconds(), "seed": f.seed, "ended": r.Ended, "timeline": lines, "dropped": r.Dropped, "programs": programs,
	}
}

func totalsTree(t *sim.Totals) any {
	return map[string]any{
		"instances": t.Instances, "starts": t.Starts, "crashes": t.Crashes, "exits": t.Exits, "stops": t.Stops, "killed": t.Killed,
		"available": t.Available(), "wanted_seconds": t.Wanted.Seconds(), "running_seconds": t.Running.Seconds(),
		"down_seconds": t.Down.Seconds(), "longest_down_seconds": t.Longest.Seconds(),
		"states": t.End, "gave_up": t.GaveUp, "done": t.Done, "flapping": t.Flapping, "flapped": t.Flaps, "held": t.Held,
	}
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// mostSimLines is how much of a timeline is printed unless all is wanted.
const mostSimLines = 200

func (a *app) simText(r *sim.Report, all bool) error {
	lines := r.Lines
	if !all && len(lines) > mostSimLines {
		lines = lines[:mostSimLines]
	}
	t := &table{head: []string{"TIME", "WHO", "WHAT", "WHY"}}
	for n := range lines {
		t.add(simLine(&lines[n])...)
	}
	if err := t.write(a.out, a.paint(), a.limit()); err != nil {
		return err
	}
	if more := len(r.Lines) - len(lines) + r.Dropped; more > 0 {
		hint := " (--all prints what is kept)"
		if all {
			hint = " that were not kept"
		}
		if err := a.say("and %s%s", many(more, "more line"), hint); err != nil {
			return err
		}
	}
	a.put("")
	return a.totals(r)
}

func simLine(l *sim.Line) []cell {
	what, why := cell{text: l.What, style: bold}, l.Why
	if len(l.States) > 0 {
		what = cell{text: joinStates(l.States), style: stateStyle[l.States[len(l.States)-1]]}
	}
	if l.Times > 0 {
		why = fmt.Sprintf("%s more like this, until %s", many(l.Times, "time"), offset(l.Until))
	}
	return []cell{{text: offset(l.At), style: dim}, {text: whoText(l)}, what, {text: why}}
}

// offset is a time since the beginning, to the millisecond.
func offset(d time.Duration) string {
	d = d.Round(time.Millisecond)
	h, m, s := d/time.Hour, d/time.Minute%60, d/time.Second%60
	return fmt.Sprintf("%02d:%02d:%02d.%03d", h, m, s, d/time.Millisecond%1000)
}

// whoText names the instances of a line: neighbours as a range.
func whoText(l *sim.Line) string {
	if len(l.Indexes) == 0 {
		return l.Program
	}
	var parts []string
	for n, r := range ranges(slices.Sorted(slices.Values(l.Indexes)), func(int, int) bool { return true }) {
		if n == 0 {
			parts = append(parts, r.label(l.Program))
			continue
		}
		parts = append(parts, strings.TrimPrefix(r.label(l.Program), l.Program+"/"))
	}
	return strings.Join(parts, ",")
}

// totals prints what became of each program.
func (a *app) totals(r *sim.Report) error {
	t := &table{head: []string{"PROGRAM", "STARTS", "CRASHES", "EXITS", "STOPS", "AVAILABLE", "DOWN", "LONGEST", "AT THE END"}}
	for n := range r.Programs {
		p := &r.Programs[n]
		t.add(plainCells(
			p.Program, strconv.Itoa(p.Starts), strconv.Itoa(p.Crashes), strconv.Itoa(p.Exits), stopsText(p),
			share(p.Available()), span(p.Down), span(p.Longest), endText(p),
		)...)
	}
	if err := t.write(a.out, a.paint(), a.limit()); err != nil {
		return err
	}
	how := "after " + span(r.For)
	if r.Ended {
		how = "the daemon ended after " + span(r.For)
	}
	a.put("")
	return a.say("%s: AVAILABLE is the share of the wanted time in which instances were running, DOWN the time in which not one was", how)
}

func stopsText(p *sim.Totals) string {
	if p.Killed == 0 {
		return strconv.Itoa(p.Stops)
	}
	return fmt.Sprintf("%d (%d killed)", p.Stops, p.Killed)
}

// share is a percentage that is 100 only when it is all, and 0 only when nothing.
func share(f float64) string {
	text := strconv.FormatFloat(100*f, 'f', 2, 64)
	switch {
	case f < 1 && text == "100.00":
		text = "99.99"
	case f > 0 && text == "0.00":
		text = "0.01"
	}
	return strings.TrimSuffix(text, ".00") + "%"
}

// endText says in which states instances are at the end.
func endText(p *sim.Totals) string {
	var parts []string
	for s := reconcile.StateNew; s < reconcile.StateImpossible; s++ {
		if n := p.End[s.String()]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	if len(parts) == 0 {
		parts = append(parts, "gone")
	}
	for _, note := range []struct {
		is   bool
		text string
	}{
		{p.Done > 0, fmt.Sprintf("%d done", p.Done)},
		{p.GaveUp > 0, fmt.Sprintf("%d gave up", p.GaveUp)},
		{p.Flapping, "flapping"},
		{p.Held != "", "held: " + p.Held},
	} {
		if note.is {
			parts = append(parts, note.text)
		}
	}
	return strings.Join(parts, ", ")
}

// joinStates is a way through states.
func joinStates(states []string) string { return strings.Join(states, " -> ") }
