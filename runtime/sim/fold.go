package sim

import "time"

// fewest is how many times at least are one line instead of many.
const fewest = 3

// track is the lines of one instance.
type track struct {
	lines []Line
	// fresh is where the lines begin that may yet turn out to repeat.
	fresh int
	fold  *fold
}

// fold is something that repeats, at the end of a track. Twice it stands there in
// full; what comes then is counted, if it comes often enough.
type fold struct {
	keys    []string
	kept    []Line // of the first times that are counted
	partial []Line // of a time that may become one more
	times   int
	until   time.Duration
}

func (k *track) put(l Line) {
	if f := k.fold; f != nil {
		if f.keys[len(f.partial)] == l.key {
			f.goOn(l)
			return
		}
		k.close()
	}
	k.lines = append(k.lines, l)
	k.detect()
}

// goOn takes the next line of what repeats.
func (f *fold) goOn(l Line) {
	f.partial = append(f.partial, l)
	if len(f.partial) == len(f.keys) {
		if f.times++; f.times < fewest {
			f.kept = append(f.kept, f.partial...)
		}
		f.until, f.partial = l.At, f.partial[:0]
	}
}

// detect looks whether the newest lines are the same for the third time.
func (k *track) detect() {
	for p := 1; p <= maxPeriod && len(k.lines)-k.fresh >= 3*p; p++ {
		if !k.repeats(p) {
			continue
		}
		at := len(k.lines) - p
		f := &fold{times: 1, until: k.lines[at+p-1].At}
		for _, l := range k.lines[at:] {
			f.keys, f.kept = append(f.keys, l.key), append(f.kept, l)
		}
		k.lines, k.fold = k.lines[:at], f
		return
	}
}

// repeats reports whether the last p lines are those before them, twice.
func (k *track) repeats(p int) bool {
	n := len(k.lines)
	for i := n - p; i < n; i++ {
		if k.lines[i].key != k.lines[i-p].key || k.lines[i].key != k.lines[i-2*p].key {
			return false
		}
	}
	return true
}

// close ends a repetition: one line says how often, and what was begun stands
// below it.
func (k *track) close() {
	f := k.fold
	if f == nil {
		return
	}
	k.fold = nil
	if f.times < fewest {
		k.lines = append(k.lines, f.kept...)
	} else {
		k.lines = append(k.lines, f.line())
	}
	k.fresh = len(k.lines)
	k.lines = append(k.lines, f.partial...)
}

// line is what repeated, in one line.
func (f *fold) line() Line {
	l := f.kept[0]
	l.Times, l.Until, l.Why = f.times, f.until, ""
	var states []string
	for _, step := range f.kept[:len(f.keys)] {
		if len(states) == 0 && len(step.States) > 0 {
			states = append(states, step.States[0])
		}
		if len(step.States) > 0 {
			states = append(states, step.States[1:]...)
		}
	}
	if len(states) > 0 {
		l.States, l.What = states, ""
	} else {
		l.Why = f.kept[0].Why
	}
	return l
}
