package main

import (
	"strconv"

	"github.com/procnanny/procnanny/reconcile"
)

// indexRange is neighbours that are alike.
type indexRange struct{ first, last int }

func (r indexRange) label(program string) string {
	id := reconcile.InstanceID{Program: program, Index: r.first}.String()
	if r.last != r.first {
		id += "-" + strconv.Itoa(r.last)
	}
	return id
}

// ranges groups ascending indexes that follow each other and are alike.
func ranges(indexes []int, alike func(i, j int) bool) []indexRange {
	var out []indexRange
	for _, i := range indexes {
		if n := len(out); n > 0 && out[n-1].last+1 == i && alike(out[n-1].first, i) {
			out[n-1].last = i
			continue
		}
		out = append(out, indexRange{i, i})
	}
	return out
}
