package spec

import "slices"

// Circle finds programs that wait for each other in start.after, so that none of
// them could ever start: each waits for the next, and the last for the first. Nil
// is that there are none.
func (s Spec) Circle() []string {
	waiting := make([]string, 0, len(s.Programs))
	for name, p := range s.Programs {
		if len(p.Start.After) > 0 {
			waiting = append(waiting, name)
		}
	}
	slices.Sort(waiting)
	c := circler{s: s, done: map[string]bool{}}
	for _, name := range waiting {
		if found := c.walk(name); found != nil {
			return found
		}
	}
	return nil
}

// circler walks along start.after.
type circler struct {
	s    Spec
	way  []string        // from where the walk began to where it is
	done map[string]bool // names from which no circle is reached
}

func (c *circler) walk(name string) []string {
	if n := slices.Index(c.way, name); n >= 0 {
		return slices.Clone(c.way[n:])
	}
	if c.done[name] {
		return nil
	}
	c.way = append(c.way, name)
	others := make([]string, 0, len(c.s.Programs[name].Start.After))
	for other := range c.s.Programs[name].Start.After {
		others = append(others, other)
	}
	slices.Sort(others)
	for _, other := range others {
		if found := c.walk(other); found != nil {
			return found
		}
	}
	c.way = c.way[:len(c.way)-1]
	c.done[name] = true
	return nil
}
