package output

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"time"
)

// extent is a part of a file whose bytes are those of the stream one after the
// other, from number off on: as they are, or, stamped, with a time before each
// line.
type extent struct {
	pos            int64 // where it begins in the file
	off, until     int64 // numbers of its bytes; until is MaxInt64 for the last
	stamped, fresh bool
	// dropped bytes came before it, of which a mark of markSize bytes tells.
	dropped, markSize int64
}

// extents says what the index knows of the file that begins with byte start: at
// least one extent, the first one at the file's beginning.
func extents(records []record, start int64) []extent {
	list := []extent{{off: start, until: math.MaxInt64, fresh: true}}
	for i, r := range records {
		if r.start != start || r.kind == kindEnd {
			continue
		}
		// What was written behind r.pos before was taken back.
		for len(list) > 1 && list[len(list)-1].pos > r.pos {
			list = list[:len(list)-1]
		}
		if i == 0 { // those before may be lost: it was no other kind of file
			list[0].stamped = r.stamped != (r.kind == kindFormat)
		}
		if r.pos == 0 {
			list[0] = extent{off: start, stamped: r.stamped, fresh: r.fresh}
		}
		e := r.extent()
		if last := &list[len(list)-1]; !last.leadsTo(e) {
			last.until = max(r.offset, last.off)
			list = append(list, e)
		}
	}
	list[len(list)-1].until = math.MaxInt64
	return list
}

// byStart sorts records by the file they are about, so that many files need not
// look at each other's. Those of a file mostly stand together.
func byStart(records []record) map[int64][]record {
	all := map[int64][]record{}
	for from := 0; from < len(records); {
		to := from + 1
		for to < len(records) && records[to].start == records[from].start {
			to++
		}
		start := records[from].start
		if all[start] == nil {
			all[start] = records[from:to:to] // no copy
		} else {
			all[start] = append(all[start], records[from:to]...)
		}
		from = to
	}
	return all
}

// extent is what begins at a record.
func (r record) extent() extent {
	e := extent{pos: r.pos, off: r.offset, stamped: r.stamped, fresh: r.fresh}
	if r.kind == kindGap {
		e.pos, e.off, e.fresh = r.pos+int64(r.markSize), r.offset+r.dropped, true
		e.dropped, e.markSize = r.dropped, int64(r.markSize)
	}
	return e
}

// leadsTo reports whether next is just more of e.
func (e *extent) leadsTo(next extent) bool {
	if next.dropped > 0 || e.stamped != next.stamped {
		return false
	}
	return next.pos == e.pos || !e.stamped && next.off-e.off == next.pos-e.pos
}

// endAt is the number of the byte after the extent's last, where the file has
// size bytes. fd is needed only if the extent is stamped.
func (e extent) endAt(fd int, size int64) (int64, error) {
	if !e.stamped {
		return e.off + max(0, size-e.pos), nil
	}
	off := e.off
	err := e.walk(fd, size, func(line []byte, _ time.Time) bool {
		off += int64(len(line))
		return true
	})
	return off, err
}

// stampBlock is how much of a stamped file is read at once.
const stampBlock = 64 << 10

// walk calls f with the stream's bytes in a stamped extent of a file of size
// bytes: at most a line at a time, and when it came if it is the beginning of
// one (else the zero time). f returns false to end it.
func (e extent) walk(fd int, size int64, f func(line []byte, came time.Time) bool) error {
	b := make([]byte, min(stampBlock, max(0, size-e.pos)))
	var stamp []byte // as much as there is of a line's
	fresh, came := e.fresh, time.Time{}
	for pos := e.pos; pos < size; {
		n, err := preadFull(fd, b[:min(int64(len(b)), size-pos)], pos)
		if err != nil || n == 0 {
			return err
		}
		pos += int64(n)
		for rest := b[:n]; len(rest) > 0; {
			if fresh {
				k := min(stampSize-len(stamp), len(rest))
				stamp, rest = append(stamp, rest[:k]...), rest[k:]
				if len(stamp) < stampSize {
					break
				}
				came, _ = time.Parse(stampLayout, string(stamp))
				stamp, fresh = stamp[:0], false
				continue
			}
			line := rest
			if i := bytes.IndexByte(rest, '\n'); i >= 0 {
				line, fresh = rest[:i+1], true
			}
			rest = rest[len(line):]
			if !f(line, came) {
				return nil
			}
			came = time.Time{}
		}
	}
	return nil
}

// preadFrom fills b with the piece's bytes from number offset on, and notes
// when they came.
func (p *picture) preadFrom(f piece, fd int, b []byte, offset int64) (int, error) {
	if !f.stamped {
		return preadFull(fd, b, f.pos+offset-f.start)
	}
	n, at := 0, f.start
	err := f.walk(fd, math.MaxInt64, func(line []byte, came time.Time) bool {
		if end := at + int64(len(line)); end > offset {
			if !came.IsZero() {
				p.stamps = append(p.stamps, Mark{Offset: at, Time: came})
			}
			n += copy(b[n:], line[max(0, offset-at):])
		}
		at += int64(len(line))
		return n < len(b)
	})
	return n, err
}

// withStamps adds to marks of the index what the times in the file say of the
// bytes of [from, to). Lines of the same time need one mark.
func withStamps(list, stamps []Mark, from, to int64) []Mark {
	if len(stamps) == 0 {
		return list
	}
	for _, m := range stamps {
		if m.Offset < to {
			list = append(list, m)
		}
	}
	slices.SortStableFunc(list, func(a, b Mark) int { return cmp.Compare(a.Offset, b.Offset) })
	out := list[:0]
	for _, m := range list {
		if n := len(out); n > 0 {
			m.Run = cmp.Or(m.Run, out[n-1].Run)
			if m.Offset == out[n-1].Offset || m.Offset <= from {
				out[n-1] = m
				continue
			}
			if m.Time.Equal(out[n-1].Time) && m.Run == out[n-1].Run {
				continue
			}
		}
		out = append(out, m)
	}
	return out
}
