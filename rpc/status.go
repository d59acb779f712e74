package rpc

import (
	"encoding/binary"
	"math"
	"slices"
	"sort"
	"sync"
	"time"
)

// uptimeAge is how old the uptime of a served status may be.
const uptimeAge = time.Second

// StatusCache keeps the encoded status. The bytes of a program are kept as
// long as its *ProgramView stays, the whole reply as long as the *View does.
// What it returns is shared and must not be changed.
type StatusCache struct {
	mu       sync.Mutex
	programs map[string]*programBytes
	view     *View
	joined   []byte
	uptimes  []uptime
	at       time.Time // what the uptimes in joined are right for
}

// programBytes is one encoded program: its name as key, then its map.
type programBytes struct {
	view    *ProgramView
	bytes   []byte
	uptimes []uptime
	// pieces are where the instances are in bytes, sorted by index.
	pieces []piece
}

// piece is one encoded instance. Its bytes are good as long as its view stays.
type piece struct {
	view     *InstanceView
	from, to int
	// uptime is its place within the piece; 0 is none.
	uptime int
}

// uptime is a place in encoded bytes that holds an uptime as float64.
type uptime struct {
	offset int
	since  time.Time
}

// Whole returns the reply to `status` for v.
func (c *StatusCache) Whole(v *View, now time.Time) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view != v {
		if err := c.join(v); err != nil {
			return nil, err
		}
	} else if age := now.Sub(c.at); age >= 0 && age < uptimeAge {
		return c.joined, nil
	} else if len(c.uptimes) > 0 {
		c.joined = slices.Clone(c.joined) // the old bytes may be on their way to a client
	}
	patch(c.joined, c.uptimes, now)
	c.at = now
	return c.joined, nil
}

// One returns the reply to `status` of one program.
func (c *StatusCache) One(v *View, p *ProgramView, now time.Time) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pb, err := c.program(p)
	if err != nil {
		return nil, err
	}
	out, uptimes := appendPrograms(nil, []*programBytes{pb}, len(pb.bytes), nil, topKeys)
	patch(out, uptimes, now)
	return appendTop(out, v)
}

// Page returns the reply to `status` of at most limit programs whose names sort
// after one. It ends early when the page gets long.
func (c *StatusCache) Page(v *View, after string, limit int, now time.Time) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := sort.Search(len(v.Programs), func(i int) bool { return v.Programs[i].Name > after })
	var page []*programBytes
	size := 0
	for _, p := range v.Programs[first:] {
		if len(page) == limit || size >= pageBytes {
			break
		}
		pb, err := c.program(p)
		if err != nil {
			return nil, err
		}
		page = append(page, pb)
		size += len(pb.bytes)
	}
	keys := topKeys
	last := first+len(page) == len(v.Programs)
	if !last {
		keys++
	}
	out, uptimes := appendPrograms(nil, page, size, nil, keys)
	patch(out, uptimes, now)
	out, err := appendTop(out, v)
	if err == nil && !last {
		out = appendStr(appendStr(out, "next"), page[len(page)-1].view.Name)
	}
	return out, err
}

// pageBytes is how long a page gets before it ends early.
const pageBytes = 1 << 20

// join encodes what is new of v and puts all of it behind one another.
func (c *StatusCache) join(v *View) error {
	size := 0
	all := make([]*programBytes, len(v.Programs))
	for i, p := range v.Programs {
		pb, err := c.program(p)
		if err != nil {
			return err
		}
		all[i] = pb
		size += len(pb.bytes)
	}
	if len(c.programs) > len(all) {
		c.forget(all)
	}
	joined, uptimes := appendPrograms(nil, all, size, c.uptimes[:0], topKeys)
	joined, err := appendTop(joined, v)
	if err != nil {
		return err
	}
	c.view, c.joined, c.uptimes = v, joined, uptimes
	return nil
}

func (c *StatusCache) program(p *ProgramView) (*programBytes, error) {
	old := c.programs[p.Name]
	if old != nil && old.view == p {
		return old, nil
	}
	pb, err := encodeProgram(p, old)
	if err != nil {
		return nil, err
	}
	if c.programs == nil {
		c.programs = map[string]*programBytes{}
	}
	c.programs[p.Name] = pb
	return pb, nil
}

func (c *StatusCache) forget(living []*programBytes) {
	clear(c.programs)
	for _, pb := range living {
		c.programs[pb.view.Name] = pb
	}
}

// appendPrograms writes the beginning of the reply: every key before `config`.
func appendPrograms(b []byte, all []*programBytes, size int, uptimes []uptime, keys int) ([]byte, []uptime) {
	b = slices.Grow(b, size+1024)
	b = appendStr(append(b, 0x80|byte(keys)), "programs")
	b = appendMapLen(b, len(all))
	for _, pb := range all {
		for _, u := range pb.uptimes {
			uptimes = append(uptimes, uptime{offset: len(b) + u.offset, since: u.since})
		}
		b = append(b, pb.bytes...)
	}
	return b, uptimes
}

// topKeys is how many keys a status reply has.
const topKeys = 3

func appendTop(b []byte, v *View) ([]byte, error) {
	b, err := Append(appendStr(b, "config"), configMap(&v.Config))
	if err != nil {
		return nil, err
	}
	return appendTime(appendStr(b, "observed_at"), v.ObservedAt), nil
}

func patch(b []byte, uptimes []uptime, now time.Time) {
	for _, u := range uptimes {
		up := max(now.Sub(u.since), 0)
		binary.BigEndian.PutUint64(b[u.offset:], math.Float64bits(up.Seconds()))
	}
}
