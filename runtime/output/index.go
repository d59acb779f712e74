package output

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// kind says what a record of the index marks.
type kind uint8

const (
	kindUnset kind = iota
	// kindTime: the bytes from offset on came at or after time, and those up to
	// the next record within indexEvery.
	kindTime
	// kindCoarse is kindTime after thinning: without that upper bound.
	kindCoarse
	// kindRun: run wrote from offset on.
	kindRun
	// kindEnd: run's main process ended, offset was the end of its output then.
	kindEnd
	// kindSegment: a new file begins at offset, which is start.
	kindSegment
	// kindFormat: what is written from here on is stamped, or no longer.
	kindFormat
	// kindGap: here the file has markSize bytes about dropped ones; the child's
	// go on with number offset+dropped behind them.
	kindGap
	kinds // how many there are
)

const (
	recordSize    = 64
	recordVersion = 2
	indexEvery    = 100 * time.Millisecond
	// indexMax bounds an index file; at this size it is thinned. About 32,000
	// records: 50 minutes of a program that never pauses, before old times become
	// coarser.
	indexMax = 2 << 20
	// indexReadMax is more than any index of ours has.
	indexReadMax = 2 * indexMax
	// tailSize is how much is read to find the last good record.
	tailSize = 64 * recordSize
)

// record is one line of the index. Every one also says where the live file of
// that moment began and which inode it was: the last record alone places it.
type record struct {
	kind   kind
	time   int64 // Unix, ns
	offset int64 // number of the child's next byte
	start  int64 // offset of the live file's first byte
	pos    int64 // place of that next byte in the live file
	run    uint64
	inode  uint64
	// stamped: the bytes from pos on have a time before each line; fresh: that
	// of a line is the first thing at pos.
	stamped, fresh bool
	dropped        int64 // kindGap
	markSize       uint8 // kindGap
}

// Bits of a record's third byte.
const (
	flagStamped = 1 << iota
	flagFresh
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	order      = binary.LittleEndian
)

// append encodes r: kind, version, flags, size of the mark, CRC-32C of the
// rest, fields.
func (r record) append(b []byte) []byte {
	at, flags := len(b), byte(0)
	if r.stamped {
		flags |= flagStamped
	}
	if r.fresh {
		flags |= flagFresh
	}
	b = append(b, byte(r.kind), recordVersion, flags, r.markSize, 0, 0, 0, 0)
	for _, v := range []uint64{uint64(r.time), uint64(r.offset), uint64(r.start), uint64(r.pos), r.run, r.inode, uint64(r.dropped)} {
		b = order.AppendUint64(b, v)
	}
	order.PutUint32(b[at+4:], r.sum(b[at:]))
	return b
}

func (record) sum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:4], castagnoli), castagnoli, b[8:recordSize])
}

// parseRecord decodes the first recordSize bytes of b.
func parseRecord(b []byte) (r record, ok bool) {
	if len(b) < recordSize || b[1] != recordVersion || b[2] > flagStamped|flagFresh || order.Uint32(b[4:]) != r.sum(b) {
		return r, false
	}
	r = record{
		kind: kind(b[0]), time: int64(order.Uint64(b[8:])), offset: int64(order.Uint64(b[16:])),
		start: int64(order.Uint64(b[24:])), pos: int64(order.Uint64(b[32:])), run: order.Uint64(b[40:]), inode: order.Uint64(b[48:]),
		stamped: b[2]&flagStamped != 0, fresh: b[2]&flagFresh != 0, dropped: int64(order.Uint64(b[56:])), markSize: b[3],
	}
	good := r.kind > kindUnset && r.kind < kinds && r.start >= 0 && r.offset >= r.start && r.pos >= 0
	return r, good && r.dropped >= 0 && r.offset <= math.MaxInt64-r.dropped && r.pos <= math.MaxInt64-int64(r.markSize)
}

// parseRecords decodes all good records of b. Records have one size, so that a
// torn or damaged one costs only itself.
func parseRecords(b []byte) []record {
	out := make([]record, 0, len(b)/recordSize)
	for ; len(b) >= recordSize; b = b[recordSize:] {
		if r, ok := parseRecord(b); ok {
			out = append(out, r)
		}
	}
	return out
}

// readIndex reads at most the last n bytes' worth of records of an index file;
// a missing one is empty, and so is what is no file.
func readIndex(dir int, name string, n int64) ([]record, error) {
	fd, st, err := openRegular(dir, name, unix.O_RDONLY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, errForeign) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	size := st.Size / recordSize * recordSize
	from := max(0, size-n/recordSize*recordSize)
	b := make([]byte, size-from)
	got, err := preadFull(fd, b, from)
	return parseRecords(b[:got]), err
}

// preadFull reads until b is full or the file ends.
func preadFull(fd int, b []byte, at int64) (int, error) {
	n := 0
	for n < len(b) {
		k, err := unix.Pread(fd, b[n:], at+int64(n))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return n, err
		case k == 0:
			return n, nil
		default:
			n += k
		}
	}
	return n, nil
}

// pwriteFull writes all of b or says why not; a part may be there then.
func pwriteFull(fd int, b []byte, at int64) error {
	for len(b) > 0 {
		k, err := unix.Pwrite(fd, b, at)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case k == 0:
			return io.ErrShortWrite
		default:
			b, at = b[k:], at+int64(k)
		}
	}
	return nil
}

// appendRecord adds r to an index file. A torn tail is written over. It
// returns the size of the file.
func (d *Dir) appendRecord(dir int, name string, r record) (int64, error) {
	fd, st, err := openRegular(dir, name, unix.O_RDWR)
	if errors.Is(err, errForeign) {
		if _, err = moveAside(dir, name); err != nil {
			return 0, err
		}
		err = unix.ENOENT
	}
	if errors.Is(err, unix.ENOENT) {
		fd, err = d.createAt(dir, name)
		st.Size = 0
	}
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	at := st.Size / recordSize * recordSize
	return at + recordSize, pwriteFull(fd, r.append(nil), at)
}

// thin makes an index smaller: what lies before the first kept byte goes, then
// every second time of the older half, then, if all that is too little, the
// oldest quarter.
func thin(records []record, first int64) []record {
	const enough = indexMax / recordSize * 3 / 4
	drop := 0
	for drop+1 < len(records) && records[drop+1].offset <= first {
		drop++
	}
	records = records[drop:]
	if len(records) <= enough {
		return records
	}
	out := make([]record, 0, len(records))
	skip := false
	for i, r := range records {
		if i < len(records)/2 && (r.kind == kindTime || r.kind == kindCoarse) {
			if skip = !skip; skip && len(out) > 0 {
				continue
			}
			r.kind = kindCoarse
		}
		out = append(out, r)
	}
	if len(out) > enough {
		out = out[len(out)-enough:]
	}
	return out
}

// rewriteIndex replaces an index file by a thinned one; a crash leaves the old.
func (d *Dir) rewriteIndex(dir int, name string, first int64) error {
	records, err := readIndex(dir, name, indexReadMax)
	if err != nil {
		return err
	}
	var b []byte
	for _, r := range thin(records, first) {
		b = r.append(b)
	}
	tmp := name + ".tmp"
	if err := unix.Unlinkat(dir, tmp, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	fd, err := d.createAt(dir, tmp)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := pwriteFull(fd, b, 0); err != nil {
		return errors.Join(err, unix.Unlinkat(dir, tmp, 0))
	}
	return unix.Renameat(dir, tmp, dir, name)
}
