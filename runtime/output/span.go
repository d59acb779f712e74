package output

import (
	"math"
	"slices"
	"sort"
	"time"
)

// span is the range of offsets that q's times and run mean.
func span(records []record, q Query) (from, to int64) {
	from, to = 0, math.MaxInt64
	if !q.Since.IsZero() {
		from = since(records, q.Since.UnixNano())
	}
	if !q.Until.IsZero() {
		to = until(records, q.Until.UnixNano())
	}
	if q.Run != 0 {
		lo, hi := runSpan(records, q.Run)
		from, to = max(from, lo), min(to, hi)
	}
	return from, to
}

// since is the offset of the first byte that may have come at t or later. The
// clock may have been set back: the last record that is older decides.
func since(records []record, t int64) int64 {
	coarse := false // this record and all before it lost neighbours
	for i, r := range slices.Backward(records) {
		coarse = coarse || r.kind == kindCoarse
		switch {
		case r.time > t:
			continue
		case coarse || t-r.time < int64(indexEvery):
			return r.offset
		case i+1 < len(records):
			// All that this record speaks for came within indexEvery of it.
			return records[i+1].offset
		}
		return math.MaxInt64
	}
	return 0
}

// until is the offset of the first byte that came after t.
func until(records []record, t int64) int64 {
	for i, r := range slices.Backward(records) {
		if r.time <= t {
			if i+1 < len(records) {
				return records[i+1].offset
			}
			return math.MaxInt64
		}
	}
	if len(records) > 0 {
		return records[0].offset
	}
	return math.MaxInt64
}

// runSpan is where a run's output begins, as far as the index knows, and where
// the next one's does. Every record says whose run it was, so that a run that
// outlived its first record is still found.
func runSpan(records []record, run uint64) (from, to int64) {
	found := false
	for _, r := range records {
		switch {
		case !found && r.run == run:
			from, found = r.offset, true
		case found && r.run != run && r.run != 0:
			return from, r.offset
		}
	}
	if !found {
		return 0, 0
	}
	return from, math.MaxInt64
}

// marks are those that date the bytes of [from, to).
func marks(records []record, from, to int64) []Mark {
	i := sort.Search(len(records), func(i int) bool { return records[i].offset > from })
	i = max(0, i-1)
	var out []Mark
	for ; i < len(records) && records[i].offset < max(to, from+1); i++ {
		r := records[i]
		m := Mark{r.offset, time.Unix(0, r.time), r.run}
		if n := len(out); n > 0 && out[n-1].Offset == m.Offset {
			out[n-1] = m
			continue
		}
		out = append(out, m)
	}
	return out
}
