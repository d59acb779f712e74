package output

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"time"

	"golang.org/x/sys/unix"
)

// LimitMax bounds one Chunk's data.
const LimitMax = 16 << 20

// Query selects bytes of one stream. Since, Until and Run narrow the range;
// Offset or TailLines say where in it to begin, else its first byte.
type Query struct {
	Program string
	Index   int
	Stream  string
	// Offset is the first byte wanted; nil is the first kept.
	Offset *int64
	// Limit is the most bytes to return; 0 or more than LimitMax is LimitMax.
	Limit int
	// TailLines begins with the last lines of the range; an unended line
	// counts. 0 is off; Offset goes before it.
	TailLines int
	// Since and Until are times; they are exact to a tenth of a second
	// for what came lately (old times get coarser), to the side of
	// more output. Zero is no bound.
	Since, Until time.Time
	// Run is one run's own output; 0 is everybody's.
	Run uint64
}

// Chunk is a page of a stream. Ask for the next one with Offset = Next.
type Chunk struct {
	// Data are the bytes as the program wrote them: without times and marks of
	// ours. It ends early where bytes are missing (a file was removed, bytes were
	// dropped): the next page begins after the gap.
	Data []byte
	// Offset is the number of Data's first byte: larger than the one asked for
	// when that is no longer kept.
	Offset int64
	// Next is the number of the byte after Data.
	Next int64
	// End is where the range ends now: Next == End is all there is yet.
	End int64
	// Marks date Data: the last mark at or before Offset, then those within.
	Marks []Mark
}

// Mark says that the bytes from Offset on came at Time or later, of Run (0:
// not known).
type Mark struct {
	Offset int64
	Time   time.Time
	Run    uint64
}

// Read returns a page of a stream. What was never written is an empty page,
// not an error.
func (d *Dir) Read(q Query) (Chunk, error) {
	st, err := newStream(q.Program, q.Index, q.Stream)
	if err != nil {
		return Chunk{}, err
	}
	if q.Limit <= 0 || q.Limit > LimitMax {
		q.Limit = LimitMax
	}
	c, err := d.read(st, q)
	if err != nil {
		return c, fmt.Errorf("cannot read %s: %w", st, err)
	}
	return c, nil
}

// readTries bounds the attempts at a picture that no rotation disturbs.
const readTries = 20

func (d *Dir) read(st stream, q Query) (c Chunk, err error) {
	for range readTries {
		var p *picture
		p, err = d.picture(st, q)
		if err == nil {
			c, err = p.read(q)
			p.close()
		}
		if !errors.Is(err, errMoved) {
			return c, err
		}
	}
	return c, err
}

// errMoved is a rotation or a removal in the middle of a look.
var errMoved = errors.New("files were put aside meanwhile")

// piece is a part of a file that has bytes start to end of the stream.
type piece struct {
	start, end int64
	name       string
	extent
	unsure bool // it may end before: see settle
}

// picture is where all bytes of a stream are at one moment.
type picture struct {
	unpacked *unpacked

	dir     int // -1: there is nothing
	live    int // the open live file, or -1
	stream  stream
	pieces  []piece // oldest first, without overlap
	records []record
	stamps  []Mark // read along the way, in no order
}

func (p *picture) close() {
	for _, fd := range []int{p.dir, p.live} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

func (d *Dir) picture(st stream, q Query) (*picture, error) {
	p := &picture{unpacked: &d.unpacked, dir: -1, live: -1, stream: st}
	dir, err := d.openProgram(st.program, false)
	if errors.Is(err, unix.ENOENT) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	p.dir = dir
	if err := p.take(q); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// take opens the live file first and checks at the end that it still has its
// name: then no rotation went on meanwhile.
func (p *picture) take(q Query) error {
	fd, live, err := openRegular(p.dir, p.stream.live(), unix.O_RDONLY)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, errForeign) {
		return err
	}
	p.live = fd
	if p.records, err = readIndex(p.dir, p.stream.index(), indexReadMax); err != nil {
		return err
	}
	last := lastOf(p.records)
	// A follower reads what was just written: no need to read the directory.
	if fd >= 0 && last.inode == live.Ino && q.Offset != nil && *q.Offset >= last.start {
		return p.add(p.stream.live(), extents(p.records, last.start), fd, live.Size)
	}
	if err := p.list(&live); err != nil {
		return err
	}
	return p.unmoved(live.Ino)
}

// unmoved says errMoved unless the live file still has its name, or there
// still is none.
func (p *picture) unmoved(inode uint64) error {
	now, err := statAt(p.dir, p.stream.live())
	if p.live >= 0 && err == nil && now.Ino == inode || p.live < 0 && (err != nil || !regular(&now)) {
		return nil
	}
	return errMoved
}

// list fills in pieces.
func (p *picture) list(live *unix.Stat_t) error {
	all, err := listSegments(p.dir)
	if err != nil {
		return err
	}
	segs, known := all[p.stream.base], byStart(p.records)
	for i, start := range segs {
		next := int64(math.MaxInt64)
		if i+1 < len(segs) {
			next = segs[i+1]
		}
		if err := p.addSegment(start, next, extents(known[start], start)); err != nil {
			return err
		}
	}
	if p.live >= 0 {
		start, err := p.unpacked.locate(p.dir, p.stream, p.records, segs, live.Ino)
		if err != nil {
			return err
		}
		if err := p.add(p.stream.live(), extents(known[start], start), p.live, live.Size); err != nil {
			return err
		}
	}
	for i := 1; i < len(p.pieces); i++ { // what others appended does not count
		p.pieces[i-1].end = min(p.pieces[i-1].end, p.pieces[i].start)
	}
	if n := len(p.pieces); n > 0 {
		return p.settle(&p.pieces[n-1])
	}
	return nil
}

// addSegment adds a put aside file whose next one begins with byte next. Most are
// not looked at before they are read: see settle.
func (p *picture) addSegment(start, next int64, list []extent) error {
	name := p.stream.segment(start)
	if len(list) == 1 {
		p.pieces = append(p.pieces, piece{start: start, end: next, name: name, extent: list[0], unsure: true})
		return nil
	}
	st, err := statAt(p.dir, name)
	if errors.Is(err, unix.ENOENT) {
		if st, err = statAt(p.dir, name+packedSuffix); err == nil && regular(&st) {
			p.addPacked(next, name+packedSuffix, list)
			return nil
		}
	}
	if err != nil || !regular(&st) {
		return nil //nolint:nilerr // just pruned, or not ours
	}
	fd := -1
	if list[len(list)-1].stamped {
		if fd, _, err = openRegular(p.dir, name, unix.O_RDONLY); err != nil {
			return errMoved
		}
		defer unix.Close(fd)
	}
	return p.add(name, list, fd, st.Size)
}

// add adds the parts of a file of that size.
func (p *picture) add(name string, list []extent, fd int, size int64) error {
	for i, e := range list {
		if e.pos > size {
			break
		}
		end := e.until
		if i == len(list)-1 || list[i+1].pos-list[i+1].markSize > size {
			var err error
			if end, err = e.endAt(fd, size); err != nil {
				return err
			}
		}
		p.pieces = append(p.pieces, piece{start: e.off, end: end, name: name, extent: e})
	}
	return nil
}

// bounds are the first byte kept and the end.
func (p *picture) bounds() (lo, hi int64) {
	if len(p.pieces) == 0 {
		return 0, 0
	}
	return p.pieces[0].start, p.pieces[len(p.pieces)-1].end
}

func (p *picture) read(q Query) (c Chunk, err error) {
	lo, hi := p.bounds()
	if !q.Since.IsZero() || !q.Until.IsZero() || q.Run != 0 {
		from, to := span(p.records, q)
		lo = min(max(lo, from), hi)
		hi = max(min(hi, to), lo)
	}
	at := lo
	switch {
	case q.Offset != nil:
		at = min(max(lo, *q.Offset), hi)
	case q.TailLines > 0:
		if at, err = p.tail(lo, hi, q.TailLines); err != nil {
			return c, err
		}
	}
	c = Chunk{Offset: at, Next: at, End: hi}
	if err := p.fill(&c, q.Limit); err != nil {
		return Chunk{}, err
	}
	c.Marks = withStamps(marks(p.records, c.Offset, c.Next), p.stamps, c.Offset, c.Next)
	return c, nil
}

// fill reads up to limit bytes from c.Offset, or from behind the gap there,
// until the next gap or c.End.
func (p *picture) fill(c *Chunk, limit int) error {
	i, err := p.find(c.Offset)
	if err != nil {
		return err
	}
	if i < len(p.pieces) && p.pieces[i].start > c.Offset {
		c.Offset = min(p.pieces[i].start, c.End)
		c.Next = c.Offset
	}
	for ; i < len(p.pieces) && p.pieces[i].start <= c.Next && c.Next < c.End && len(c.Data) < limit; i++ {
		if err := p.settle(&p.pieces[i]); err != nil {
			return err
		}
		n := min(p.pieces[i].end, c.End) - c.Next
		n = min(n, int64(limit-len(c.Data)))
		b := make([]byte, n)
		if err := p.pread(p.pieces[i], b, c.Next); err != nil {
			return err
		}
		if c.Data == nil {
			c.Data = b
		} else {
			c.Data = append(c.Data, b...)
		}
		c.Next += n
	}
	return nil
}

// find is the piece that has the byte, or the next one.
func (p *picture) find(offset int64) (int, error) {
	for {
		i := sort.Search(len(p.pieces), func(i int) bool { return p.pieces[i].end > offset })
		if i == len(p.pieces) || !p.pieces[i].unsure {
			return i, nil
		}
		if err := p.settle(&p.pieces[i]); err != nil {
			return i, err
		}
	}
}

// pread fills b with the piece's bytes from offset on.
func (p *picture) pread(f piece, b []byte, offset int64) error {
	fd := p.live
	if f.name != p.stream.live() {
		var err error
		if fd, _, err = p.unpacked.openSegment(p.dir, f.name); err != nil {
			return asMoved(err)
		}
		defer unix.Close(fd)
	}
	n, err := p.preadFrom(f, fd, b, offset)
	if err == nil && n < len(b) {
		return errMoved // truncated under us
	}
	return err
}

// Streams lists the streams of an instance that have files.
func (d *Dir) Streams(program string, index int) ([]string, error) {
	var out []string
	for _, name := range streams {
		st, err := newStream(program, index, name)
		if err != nil {
			return nil, err
		}
		_, err = statAt(d.root, st.path(st.index()))
		if errors.Is(err, unix.ENOENT) {
			_, err = statAt(d.root, st.path(st.live()))
		}
		if err == nil {
			out = append(out, name)
		} else if !errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("cannot look for %s: %w", st, err)
		}
	}
	return out, nil
}
