package sim

import "slices"

// mostRuns bounds how often a story is taken again to make it shorter.
const mostRuns = 1000

// shrink makes a story that fails shorter and tamer, as long as it fails: first
// whole runs of steps go, then single numbers become smaller.
func shrink(s story, fails func(story) bool) story {
	runs := 0
	try := func(t story) bool {
		if runs++; runs > mostRuns || !fails(t) {
			return false
		}
		s = t
		return true
	}
	for before := -1; before != size(s) && runs <= mostRuns; {
		before = size(s)
		for n := len(s.steps) / 2; n > 0; n /= 2 {
			for at := len(s.steps) - n; at >= 0; at -= n {
				if at+n <= len(s.steps) {
					try(story{s.seed, slices.Concat(s.steps[:at], s.steps[at+n:])})
				}
			}
		}
		for at := range s.steps {
			for n := range s.steps[at].args {
				tame(&s, at, n, try)
			}
		}
	}
	return s
}

// tame tries smaller numbers in place of one: none, half of it, one less.
func tame(s *story, at, n int, try func(story) bool) {
	for {
		v := s.steps[at].args[n]
		smaller := slices.Compact([]int{0, v / 2, v - 1})
		if v == 0 || !slices.ContainsFunc(smaller, func(to int) bool { return try(s.with(at, n, to)) }) {
			return
		}
	}
}

func (s story) with(at, n, to int) story {
	t := story{s.seed, slices.Clone(s.steps)}
	t.steps[at].args = slices.Clone(t.steps[at].args)
	t.steps[at].args[n] = to
	return t
}

// size is what shrinking makes smaller.
func size(s story) int {
	n := 1000 * len(s.steps)
	for _, st := range s.steps {
		for _, v := range st.args {
			n += v
		}
	}
	return n
}
