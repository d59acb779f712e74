package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/procnanny/procnanny/reconcile"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errShort is bytes that end too early, errSum bytes that are not what was
// written.
var (
	errShort = errors.New("cut short")
	errSum   = errors.New("wrong checksum")
)

// unpack reads what pack.go writes, of any version. All else is an error, also
// where the decoder panics: at nil in place of a time (msgpack v5.4.1).
func unpack(b []byte, v any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("cannot decode what was kept: %v", p)
		}
	}()
	d := msgpack.NewDecoder(bytes.NewReader(b))
	d.SetCustomStructTag("json")
	return d.Decode(v)
}

// Values in the database carry a checksum of their own: bbolt has none.
func seal(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func unseal(b []byte) ([]byte, error) {
	n := len(b) - 4
	if n < 0 {
		return nil, errShort
	}
	if crc32.Checksum(b[:n], castagnoli) != binary.BigEndian.Uint32(b[n:]) {
		return nil, errSum
	}
	return b[:n], nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader takes values off the front of b; after a failure it only fails.
type reader struct {
	b   []byte
	err error
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.b, r.err = nil, errShort
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.b, r.err = nil, errShort
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.b, r.err = nil, errShort
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) string() string { return string(r.bytes()) }

// appendEvent is the one form of an event, in the journal and in the database.
func appendEvent(b []byte, e Event) []byte {
	b = binary.AppendUvarint(b, e.Seq)
	b = binary.AppendUvarint(b, e.Prev)
	b = appendTime(b, e.Time)
	b = appendString(b, e.Topic)
	return append(b, e.Body...)
}

func parseEvent(b []byte) (Event, error) {
	r := reader{b: b}
	e := Event{Seq: r.uvarint(), Prev: r.uvarint(), Time: r.time(), Topic: r.string()}
	if r.err == nil {
		e.Body = bytes.Clone(r.b)
	}
	return e, r.err
}

// Seconds and nanoseconds, so that the zero time stays zero.
func appendTime(b []byte, t time.Time) []byte {
	return binary.AppendUvarint(binary.AppendVarint(b, t.Unix()), uint64(t.Nanosecond()))
}

func (r *reader) time() time.Time {
	sec, nsec := r.varint(), r.uvarint()
	if r.err != nil || nsec > 999_999_999 {
		r.err = errors.Join(r.err, errShort)
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec))
}

func appendID(b []byte, id reconcile.InstanceID) []byte {
	return binary.AppendUvarint(appendString(b, id.Program), uint64(id.Index))
}

func (r *reader) id() reconcile.InstanceID {
	id := reconcile.InstanceID{Program: r.string()}
	n := r.uvarint()
	if n > 1<<31 {
		r.err = errShort
	}
	id.Index = int(n)
	return id
}
