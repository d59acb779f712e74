package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// The file format of bbolt, version 2, native byte order.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2
	headerLen   = 16 // id u64, flags u16, count u16, overflow u32
	elementLen  = 16
	metaLen     = 64

	pageBranch   = 1
	pageLeaf     = 2
	pageFreelist = 16

	noFreelist = ^uint64(0)
	maxDepth   = 48
	maxPages   = 1 << 28 // 1 TiB of 4 KiB pages
)

var native = binary.NativeEndian

// checkPages walks a bbolt file before bbolt does: with a page that points to
// its own parent bbolt would recurse until the stack is gone, which nobody can
// recover from. It reads each page once and keeps one bit of each.
func checkPages(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	c := &checker{r: f, size: info.Size()}
	if err := c.meta(); err != nil {
		return &brokenError{err}
	}
	if err := c.walk(c.root, nil, 0); err != nil {
		return &brokenError{err}
	}
	if err := c.free(); err != nil {
		return &brokenError{err}
	}
	return nil
}

type checker struct {
	r              io.ReaderAt
	size           int64
	pageSize       int64
	root, freelist uint64
	high           uint64 // pages below it are in use or free
	seen           []uint64
	bufs           [][]byte // by depth, to be used again
}

// meta takes the newer of the two meta pages that is whole, as bbolt does.
func (c *checker) meta() error {
	found, best := false, uint64(0)
	for _, at := range c.metaPlaces() {
		b := make([]byte, metaLen)
		if _, err := c.r.ReadAt(b, at); err != nil || !wholeMeta(b) {
			continue
		}
		if txid := native.Uint64(b[48:]); !found || txid > best {
			found, best = true, txid
			c.pageSize = int64(native.Uint32(b[8:]))
			c.root, c.freelist, c.high = native.Uint64(b[16:]), native.Uint64(b[32:]), native.Uint64(b[40:])
		}
	}
	switch {
	case !found:
		return fmt.Errorf("neither meta page is whole")
	case c.pageSize < 512 || c.pageSize > 1<<20 || c.pageSize&(c.pageSize-1) != 0:
		return fmt.Errorf("its page size is %d", c.pageSize)
	case c.high > maxPages || int64(c.high)*c.pageSize > c.size:
		return fmt.Errorf("it is cut short: %d bytes instead of %d", c.size, int64(c.high)*c.pageSize)
	}
	c.seen = make([]uint64, c.high/64+1)
	return nil
}

// metaPlaces is where the two meta pages may begin: the second one stands a
// page after the first, and a page's size is only in them.
func (c *checker) metaPlaces() []int64 {
	places := []int64{headerLen}
	for size := int64(1024); size <= 1<<16; size *= 2 {
		places = append(places, size+headerLen)
	}
	return places
}

func wholeMeta(b []byte) bool {
	h := fnv.New64a()
	h.Write(b[:56])
	return native.Uint32(b) == boltMagic && native.Uint32(b[4:]) == boltVersion && native.Uint64(b[56:]) == h.Sum64()
}

// mark takes n pages from id on as used, each once.
func (c *checker) mark(id, n uint64) error {
	if id < 2 || n > c.high || id+n > c.high {
		return fmt.Errorf("page %d is outside", id)
	}
	for p := id; p < id+n; p++ {
		if c.seen[p/64]&(1<<(p%64)) != 0 {
			return fmt.Errorf("page %d is used twice", p)
		}
		c.seen[p/64] |= 1 << (p % 64)
	}
	return nil
}

// page reads page id with its overflow, into the buffer of its depth.
func (c *checker) page(id uint64, depth int) ([]byte, error) {
	if id < 2 || id >= c.high {
		return nil, fmt.Errorf("page %d is outside", id)
	}
	for len(c.bufs) <= depth {
		c.bufs = append(c.bufs, make([]byte, c.pageSize))
	}
	b := c.bufs[depth][:c.pageSize]
	if _, err := c.r.ReadAt(b, int64(id)*c.pageSize); err != nil {
		return nil, err
	}
	if native.Uint64(b) != id {
		return nil, fmt.Errorf("page %d says it is %d", id, native.Uint64(b))
	}
	n := uint64(native.Uint32(b[12:])) + 1
	if err := c.mark(id, n); err != nil || n == 1 {
		return b, err
	}
	if need := int(n) * int(c.pageSize); cap(c.bufs[depth]) < need {
		c.bufs[depth] = make([]byte, need)
	}
	b = c.bufs[depth][:int(n)*int(c.pageSize)]
	_, err := c.r.ReadAt(b, int64(id)*c.pageSize)
	return b, err
}

// walk checks the tree below page id. Keys are at least from.
func (c *checker) walk(id uint64, from []byte, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("page %d is too deep", id)
	}
	b, err := c.page(id, depth)
	if err != nil {
		return err
	}
	return c.elements(b, id, from, depth)
}

func (c *checker) elements(b []byte, id uint64, from []byte, depth int) error {
	flags, count := native.Uint16(b[8:]), int(native.Uint16(b[10:]))
	if flags != pageBranch && flags != pageLeaf {
		return fmt.Errorf("page %d has kind %#x", id, flags)
	}
	if flags == pageBranch && count == 0 || headerLen+count*elementLen > len(b) {
		return fmt.Errorf("page %d has %d elements", id, count)
	}
	last := from
	for i := range count {
		e, key, value, err := element(b, flags, i)
		if err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
		if order := bytes.Compare(last, key); order > 0 || order == 0 && i > 0 {
			return fmt.Errorf("page %d: its keys are not in order", id)
		}
		last = key
		switch {
		case flags == pageBranch:
			err = c.walk(native.Uint64(e[8:]), key, depth+1)
		case native.Uint32(e) == 1: // a bucket
			err = c.bucket(value, id, depth)
		case native.Uint32(e) != 0:
			err = fmt.Errorf("page %d: element %d has flags %#x", id, i, native.Uint32(e))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// element is the i-th of a page: its header, key and value.
func element(b []byte, flags uint16, i int) (e, key, value []byte, err error) {
	at := headerLen + i*elementLen
	e = b[at : at+elementLen]
	pos, ksize, vsize := native.Uint32(e), native.Uint32(e[4:]), uint32(0)
	if flags == pageLeaf {
		pos, ksize, vsize = native.Uint32(e[4:]), native.Uint32(e[8:]), native.Uint32(e[12:])
	}
	begin := uint64(at) + uint64(pos)
	if pos < elementLen || begin+uint64(ksize)+uint64(vsize) > uint64(len(b)) {
		return nil, nil, nil, fmt.Errorf("element %d is outside", i)
	}
	key = b[begin : begin+uint64(ksize)]
	return e, key, b[begin+uint64(ksize) : begin+uint64(ksize)+uint64(vsize)], nil
}

// bucket checks a bucket's own tree, which may stand in its value.
func (c *checker) bucket(value []byte, id uint64, depth int) error {
	if len(value) < headerLen {
		return fmt.Errorf("page %d: a bucket is cut short", id)
	}
	if root := native.Uint64(value); root != 0 {
		return c.walk(root, nil, depth+1)
	}
	inline := value[headerLen:]
	if depth > maxDepth || len(inline) < headerLen || native.Uint16(inline[8:]) != pageLeaf {
		return fmt.Errorf("page %d: a bucket inside is broken", id)
	}
	return c.elements(inline, id, nil, depth+1)
}

// free checks the list of free pages: none of them may be in use.
func (c *checker) free() error {
	if c.freelist == noFreelist {
		return nil
	}
	b, err := c.page(c.freelist, 0)
	if err != nil {
		return err
	}
	if native.Uint16(b[8:]) != pageFreelist {
		return fmt.Errorf("page %d is no list of free pages", c.freelist)
	}
	n, ids := uint64(native.Uint16(b[10:])), b[headerLen:]
	if n == 0xFFFF {
		n, ids = native.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids))/8 {
		return fmt.Errorf("the list of free pages is cut short")
	}
	last := uint64(0)
	for i := range n {
		id := native.Uint64(ids[i*8:])
		if id <= last {
			return fmt.Errorf("the list of free pages is not in order")
		}
		last = id
		if err := c.mark(id, 1); err != nil {
			return err
		}
	}
	return nil
}
