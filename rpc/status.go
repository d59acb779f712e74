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

// StatusCache keeps the encoded status, as long as the *View stays. Of another
// one it encodes programs with another *ProgramView only, and of those instances
// with another *InstanceView; the rest it copies.
// What it returns is shared and must not be changed.
type StatusCache struct {
	mu   sync.Mutex
	view *View
	all  encoded
	at   time.Time // what the uptimes in all are right for; zero: they are not
}

// encoded is the reply to `status`: all of it once, and what is where in it.
type encoded struct {
	bytes []byte
	// programs are in the order of their names, pieces in that of their programs
	// and within one of their indexes.
	programs []place
	pieces   []piece
}

// place is where a program is: its name as key, then its map. Its pieces begin
// with number first.
type place struct {
	view     *ProgramView
	from, to int
	first    int
}

// piece is where an instance is.
type piece struct {
	view     *InstanceView
	from, to int
	// uptime is where its uptime is, a float64; 0 is nowhere.
	uptime int
}

// Whole returns the reply to `status` for v.
func (c *StatusCache) Whole(v *View, now time.Time) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.follow(v); err != nil {
		return nil, err
	}
	age := now.Sub(c.at)
	if age >= 0 && age < uptimeAge {
		return c.all.bytes, nil
	}
	if !c.at.IsZero() { // the old bytes may be on their way to a client
		c.all.bytes = slices.Clone(c.all.bytes)
	}
	patch(c.all.bytes, c.all.pieces, 0, now)
	c.at = now
	return c.all.bytes, nil
}

// One returns the reply to `status` of one program.
func (c *StatusCache) One(v *View, p *ProgramView, now time.Time) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.follow(v); err != nil {
		return nil, err
	}
	n := c.all.after(p.Name) - 1
	return appendTop(c.all.part(n, n+1, topKeys, now), v)
}

// Page returns the reply to `status` of at most limit programs whose names sort
// after one. It ends early when the page gets long.
func (c *StatusCache) Page(v *View, after string, limit int, now time.Time) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.follow(v); err != nil {
		return nil, err
	}
	all := c.all.programs
	first := c.all.after(after)
	end := first
	for end < len(all) && end-first < limit && all[end].from-all[first].from < pageBytes {
		end++
	}
	if end == len(all) {
		return appendTop(c.all.part(first, end, topKeys, now), v)
	}
	out, err := appendTop(c.all.part(first, end, topKeys+1, now), v)
	return appendStr(appendStr(out, "next"), all[max(end, 1)-1].view.Name), err
}

// pageBytes is how long a page gets before it ends early.
const pageBytes = 1 << 20

// topKeys is how many keys a status reply has.
const topKeys = 3

// follow makes the cache be of v.
func (c *StatusCache) follow(v *View) error {
	if c.view == v {
		return nil
	}
	all, err := c.all.next(v)
	if err == nil {
		c.view, c.all, c.at = v, all, time.Time{}
	}
	return err
}

// next encodes what is new of v.
func (e *encoded) next(v *View) (encoded, error) {
	instances := 0
	for _, p := range v.Programs {
		instances += len(p.Instances)
	}
	out := encoded{
		bytes: make([]byte, 0, len(e.bytes)+encodeSpare), programs: make([]place, 0, len(v.Programs)), pieces: make([]piece, 0, instances),
	}
	out.bytes = appendHead(out.bytes, len(v.Programs), topKeys)
	n := 0
	for _, p := range v.Programs {
		for n < len(e.programs) && e.programs[n].view.Name < p.Name {
			n++
		}
		var old place
		if n < len(e.programs) && e.programs[n].view.Name == p.Name {
			old = e.programs[n]
		}
		if err := out.add(p, e, old); err != nil {
			return out, err
		}
	}
	var err error
	if out.bytes, err = appendTop(out.bytes, v); cap(out.bytes) > len(out.bytes)+2*encodeSpare {
		out.bytes = slices.Clone(out.bytes) // it grew by leaps
	}
	return out, err
}

// encodeSpare is how much longer than the last status the next one may be
// without being copied.
const encodeSpare = 4 << 10

// add adds a program. old is its place in from; without a view it has none.
func (e *encoded) add(p *ProgramView, from *encoded, old place) (err error) {
	at := place{view: p, from: len(e.bytes), first: len(e.pieces)}
	known := from.of(old)
	if old.view == p {
		e.bytes = append(e.bytes, from.bytes[old.from:old.to]...)
		for _, k := range known {
			e.pieces = append(e.pieces, k.moved(at.from-old.from))
		}
	} else {
		err = e.encode(p, from, known)
	}
	at.to = len(e.bytes)
	e.programs = append(e.programs, at)
	return err
}

// of are the pieces of a program.
func (e *encoded) of(p place) []piece {
	if p.view == nil {
		return nil
	}
	return e.pieces[p.first : p.first+len(p.view.Instances)]
}

func (k piece) moved(by int) piece {
	k.from, k.to = k.from+by, k.to+by
	if k.uptime > 0 {
		k.uptime += by
	}
	return k
}

// after is the number of the first program whose name sorts after name.
func (e *encoded) after(name string) int {
	return sort.Search(len(e.programs), func(i int) bool { return e.programs[i].view.Name > name })
}

// part is a reply with the programs from number first to before end, up to the
// key `config`.
func (e *encoded) part(first, end, keys int, now time.Time) []byte {
	if first == end {
		return appendHead(nil, 0, keys)
	}
	from, to := e.programs[first], e.programs[end-1]
	out := appendHead(make([]byte, 0, to.to-from.from+encodeSpare), end-first, keys)
	by := len(out) - from.from
	out = append(out, e.bytes[from.from:to.to]...)
	patch(out, e.pieces[from.first:to.first+len(to.view.Instances)], by, now)
	return out
}

func appendHead(b []byte, programs, keys int) []byte {
	return appendMapLen(appendStr(append(b, 0x80|byte(keys)), "programs"), programs)
}

func appendTop(b []byte, v *View) ([]byte, error) {
	b, err := Append(appendStr(b, "config"), configMap(&v.Config))
	if err != nil {
		return nil, err
	}
	return appendTime(appendStr(b, "observed_at"), v.ObservedAt), nil
}

// patch writes the uptimes of pieces, which in b are so much further behind.
func patch(b []byte, pieces []piece, by int, now time.Time) {
	for i := range pieces {
		if k := &pieces[i]; k.uptime > 0 {
			up := max(now.Sub(k.view.StartedAt), 0)
			binary.BigEndian.PutUint64(b[k.uptime+by:], math.Float64bits(up.Seconds()))
		}
	}
}
