package store

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/crashpoint"
)

// A journal is a sequence of frames: length of the payload, its CRC-32C, and
// the CRC-32C of those two (four bytes each, little endian: a length that can
// be trusted tells an unfinished frame from a broken one); then the payload: a version byte and items, each
// a kind byte, a length (uvarint) and a body. Unknown kinds are skipped. One
// frame is one Record, written with one write(2): it is there or it is not.
const (
	journalVersion = 1
	frameHead      = 12
	maxFrame       = 1 << 28
	minCompact     = 1 << 20 // bytes below which a journal is never rewritten
	compactFactor  = 4       // times the size of the last snapshot
)

// The kinds of item. They are numbers in files: never change one.
const (
	itemHeader   = 1  // boot id, history id; first item of the file
	itemInstance = 2  // id, packed instance
	itemGone     = 3  // id
	itemProgram  = 4  // name, packed roll; an empty one is gone
	itemCounters = 5  // next run, last number
	itemEvent    = 6  // a numbered event
	itemRun      = 7  // a run that ended, or in a snapshot one that lives
	itemDropped  = 8  // events, runs given up because the disk did not take them
	itemNote     = 9  // name, a note of somebody else's; an empty one is gone
	itemRest     = 11 // the database has events up to this number
	itemClock    = 10 // when the machine was booted by the wall clock that times are of, from here on
)

// frame builds one payload behind a head that finish fills in.
type frame struct{ b []byte }

func newFrame(b []byte) *frame {
	b = append(b[:0], make([]byte, frameHead)...)
	return &frame{append(b, journalVersion)}
}

func (f *frame) empty() bool { return len(f.b) == frameHead+1 }

// itemRoom is for an instance or an event, in bytes, mostly.
const itemRoom = 256

// expect makes room for so many instances and events: a frame of a thousand that
// grew with each would be copied many times.
func (f *frame) expect(items int) { f.b = slices.Grow(f.b, items*itemRoom) }

// item appends an item whose body fill appends. The length takes five bytes
// always, so that the body need not move.
func (f *frame) item(kind byte, fill func([]byte) []byte) {
	if cap(f.b)-len(f.b) < itemRoom { // twice as much: append would add a quarter
		f.b = slices.Grow(f.b, max(len(f.b), itemRoom))
	}
	at := len(f.b) + 1
	f.b = append(f.b, kind, 0x80, 0x80, 0x80, 0x80, 0)
	f.b = fill(f.b)
	n := uint32(len(f.b) - at - 5)
	for i := range 4 {
		f.b[at+i] = byte(n>>(7*i)) | 0x80
	}
	f.b[at+4] = byte(n >> 28)
}

func (f *frame) finish() []byte {
	binary.LittleEndian.PutUint32(f.b, uint32(len(f.b)-frameHead))
	binary.LittleEndian.PutUint32(f.b[4:], crc32.Checksum(f.b[frameHead:], castagnoli))
	binary.LittleEndian.PutUint32(f.b[8:], crc32.Checksum(f.b[:8], castagnoli))
	return f.b
}

func (f *frame) instance(id reconcile.InstanceID, packed []byte) {
	f.item(itemInstance, func(b []byte) []byte { return append(appendID(b, id), packed...) })
}

// changed appends an instance and returns it as it is packed.
func (f *frame) changed(i *reconcile.Instance) []byte {
	from := 0
	f.item(itemInstance, func(b []byte) []byte {
		b = appendID(b, i.ID)
		from = len(b)
		return appendInstance(b, i)
	})
	return bytes.Clone(f.b[from:])
}

func (f *frame) program(name string, packed []byte) {
	f.item(itemProgram, func(b []byte) []byte { return append(appendString(b, name), packed...) })
}

func (f *frame) note(name string, note []byte) {
	f.item(itemNote, func(b []byte) []byte { return append(appendString(b, name), note...) })
}

func (f *frame) counters(run reconcile.RunID, seq uint64) {
	f.item(itemCounters, func(b []byte) []byte { return binary.AppendUvarint(binary.AppendUvarint(b, uint64(run)), seq) })
}

func (f *frame) event(e Event) {
	f.item(itemEvent, func(b []byte) []byte { return appendEvent(b, e) })
}

func (f *frame) run(r *Run) {
	f.item(itemRun, func(b []byte) []byte { return appendRunValue(b, r) })
}

func (f *frame) clock(booted time.Time) {
	f.item(itemClock, func(b []byte) []byte { return appendTime(b, booted) })
}

func (f *frame) dropped(events, runs uint64) {
	f.item(itemDropped, func(b []byte) []byte { return binary.AppendUvarint(binary.AppendUvarint(b, events), runs) })
}

// journal is the open file.
type journal struct {
	dir, path string
	behind    string // its name once it does not say all: a name takes no room
	f         *os.File
	size      int64
	limit     int64 // size at which it is rewritten
	broken    error // the last write failed: nothing after it is there
}

func newJournal(runDir string) *journal {
	dir := filepath.Join(runDir, "control")
	return &journal{dir: dir, path: filepath.Join(dir, "journal"), behind: filepath.Join(dir, "journal.behind")}
}

// append writes one frame. After a failure the file is cut back to what it
// was, and rewritten when there is room again.
func (j *journal) append(b []byte) error {
	if j.broken != nil {
		return j.broken
	}
	n, err := j.f.Write(b)
	if err != nil {
		if n > 0 {
			err = errors.Join(err, j.f.Truncate(j.size))
		}
		j.fail(fmt.Errorf("cannot write %s: %w", j.path, err))
		return j.broken
	}
	j.size += int64(n)
	return nil
}

// fail lets the next start know that the file does not say all.
func (j *journal) fail(err error) {
	j.broken = err
	_ = os.Rename(j.path, j.behind) // else it is believed, as it was
}

// rewrite puts a new file in place of the old one, all of it or nothing.
func (j *journal) rewrite(write func(w io.Writer) error) error {
	err := j.tryRewrite(write)
	if err != nil {
		_ = os.Remove(j.path + ".new")
		return fmt.Errorf("cannot rewrite %s: %w", j.path, err)
	}
	return nil
}

func (j *journal) tryRewrite(write func(w io.Writer) error) error {
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 64<<10)
	if err = write(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		crashpoint.Here(crashpoint.JournalRewritten)
		err = os.Rename(j.path+".new", j.path)
	}
	crashpoint.Here(crashpoint.JournalReplaced)
	size, seekErr := f.Seek(0, io.SeekEnd)
	if err = errors.Join(err, seekErr); err != nil {
		return errors.Join(err, f.Close())
	}
	_ = os.Remove(j.behind) // beside the new one nobody reads it
	j.close()
	j.f, j.size, j.limit, j.broken = f, size, max(minCompact, compactFactor*size), nil
	return nil
}

func (j *journal) close() {
	if j.f != nil {
		_ = j.f.Close()
		j.f = nil
	}
}

// errTail is a last frame that was not written to its end: nobody was told
// that it was.
var errTail = errors.New("the last record was not finished")

// replay hands every whole frame's payload to take, until the first one that
// is not. It returns nil at the end, errTail for an unfinished last frame, and
// another error where the file is broken.
func replay(r io.Reader, size int64, take func(payload []byte) error) error {
	in := bufio.NewReaderSize(r, 256<<10)
	var head [frameHead]byte
	var buf []byte
	for at := int64(0); at < size; {
		if size-at < frameHead {
			return errTail
		}
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return err
		}
		n := int64(binary.LittleEndian.Uint32(head[:]))
		if crc32.Checksum(head[:8], castagnoli) != binary.LittleEndian.Uint32(head[8:]) || n < 1 || n > maxFrame {
			return fmt.Errorf("the head of a record at byte %d: %w", at, errSum)
		}
		if n > size-at-frameHead {
			return errTail
		}
		if int64(cap(buf)) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if _, err := io.ReadFull(in, buf); err != nil {
			return err
		}
		if crc32.Checksum(buf, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
			return fmt.Errorf("a record at byte %d: %w", at, errSum)
		}
		if err := take(buf); err != nil {
			return fmt.Errorf("a record at byte %d: %w", at, err)
		}
		at += frameHead + n
	}
	return nil
}

// items walks a payload.
func items(payload []byte, take func(kind byte, body *reader) error) error {
	if len(payload) == 0 || payload[0] != journalVersion {
		return errVersion
	}
	r := reader{b: payload[1:]}
	for len(r.b) > 0 {
		kind := r.b[0]
		r.b = r.b[1:]
		body := r.bytes()
		if r.err != nil {
			return r.err
		}
		if err := take(kind, &reader{b: body}); err != nil {
			return err
		}
	}
	return nil
}

var errVersion = errors.New("it is of another version")
