package sim

import (
	"maps"
	"slices"
	"time"
)

// Report is what became of a Scenario.
type Report struct {
	Lines []Line
	// Dropped is how many lines there were beyond those.
	Dropped  int
	Programs []Totals
	// For is how long it went on: less than was asked for when the daemon ended.
	For   time.Duration
	Ended bool
	Count Count
}

func (p *play) report() *Report {
	r := &Report{Dropped: p.log.dropped, For: since(p.m.now), Ended: p.over, Count: p.m.count}
	r.Programs = p.tally.totals(p.last())
	r.Lines = p.log.list()
	return r
}

func sorted[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
