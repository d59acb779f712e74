package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unsafe"
)

// A message is a Go struct, written field by field: only what is not zero, each
// as the field's number (its place in the struct, from 1), its wire type, and
// its value. A reader skips numbers it does not know, so fields may be appended
// to a struct without a new Version; anything else needs one. A test holds the
// numbers of each Version.
const (
	wireVarint = 0 // bools and integers; signed ones zigzag
	wireBytes  = 1 // a length, then that many bytes: everything else
)

// maxDepth bounds nesting; our own messages have at most 7.
const maxDepth = 16

var errShort = errors.New("message ends too early")

// load reads an integer or bool of any size; the bits above are zero.
func (f *form) load(p unsafe.Pointer) uint64 {
	switch f.size {
	case 1:
		return uint64(*(*uint8)(p))
	case 2:
		return uint64(*(*uint16)(p))
	case 4:
		return uint64(*(*uint32)(p))
	default:
		return *(*uint64)(p)
	}
}

func (f *form) store(p unsafe.Pointer, n uint64) {
	switch f.size {
	case 1:
		*(*uint8)(p) = uint8(n)
	case 2:
		*(*uint16)(p) = uint16(n)
	case 4:
		*(*uint32)(p) = uint32(n)
	default:
		*(*uint64)(p) = n
	}
}

// signed and unsigned are what an integer of the form's size makes of n.
func (f *form) signed(n uint64) int64    { return int64(n<<f.unused()) >> f.unused() }
func (f *form) unsigned(n uint64) uint64 { return n << f.unused() >> f.unused() }
func (f *form) unused() int              { return 64 - 8*int(f.size) }

// zero reports whether a value is as if nobody had set it.
func (f *form) zero(p unsafe.Pointer) bool {
	switch f.kind {
	case kindString:
		return *(*string)(p) == ""
	case kindPointer, kindSlice, kindMap: // all of them begin with a pointer
		return *(*unsafe.Pointer)(p) == nil
	case kindStruct:
		for i := range f.parts.fields {
			v := &f.parts.fields[i]
			if !v.zero(unsafe.Add(p, v.offset)) {
				return false
			}
		}
		return true
	default:
		return f.load(p) == 0
	}
}

// put appends a value. It ends by itself: a varint, or bytes behind their length.
func (f *form) put(b []byte, p unsafe.Pointer) []byte {
	switch f.kind {
	case kindBool, kindUint:
		return binary.AppendUvarint(b, f.load(p))
	case kindInt:
		return binary.AppendVarint(b, f.signed(f.load(p)))
	case kindString:
		return putString(b, *(*string)(p))
	case kindPointer:
		return f.parts.elem.put(b, *(*unsafe.Pointer)(p))
	default:
		return f.putCounted(b, p)
	}
}

func putString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// putCounted appends what has parts, behind the length.
func (f *form) putCounted(b []byte, p unsafe.Pointer) []byte {
	start := len(b)
	b = f.putParts(append(b, 0), p) // room for the length, if it is small: it mostly is
	n := len(b) - start - 1
	if n < 0x80 {
		b[start] = byte(n)
		return b
	}
	var head [binary.MaxVarintLen64]byte
	return slices.Replace(b, start, start+1, head[:binary.PutUvarint(head[:], uint64(n))]...)
}

// sliceHead is how a slice lies in memory.
type sliceHead struct {
	data     unsafe.Pointer
	len, cap int
}

// putParts appends what comes behind the length.
func (f *form) putParts(b []byte, p unsafe.Pointer) []byte {
	switch f.kind {
	case kindSlice:
		list := (*sliceHead)(p)
		for i := range list.len {
			b = f.parts.elem.put(b, unsafe.Add(list.data, uintptr(i)*f.parts.step))
		}
	case kindMap:
		b = f.parts.putMap(b, *(*unsafe.Pointer)(p))
	default:
		for i := range f.parts.fields {
			v := &f.parts.fields[i]
			if at := unsafe.Add(p, v.offset); !v.zero(at) {
				b = v.put(binary.AppendUvarint(b, uint64(v.tag)), at)
			}
		}
	}
	return b
}

// putMap appends a map with its keys in order, so that equal messages have equal
// bytes.
func (s *parts) putMap(b []byte, m unsafe.Pointer) []byte {
	v := reflect.NewAt(s.typ, unsafe.Pointer(&m)).Elem()
	keys := v.MapKeys()
	slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(x.String(), y.String()) })
	elem := reflect.New(s.typ.Elem())
	for _, k := range keys {
		elem.Elem().Set(v.MapIndex(k))
		b = s.elem.put(putString(b, k.String()), elem.UnsafePointer())
	}
	return b
}

// get reads a value, and returns what comes behind it.
func (f *form) get(b []byte, p unsafe.Pointer, depth int) (rest []byte, err error) {
	switch f.kind {
	case kindBool, kindInt, kindUint:
		return f.getInteger(b, p)
	case kindPointer:
		to := reflect.New(f.parts.typ.Elem()).UnsafePointer()
		*(*unsafe.Pointer)(p) = to
		return f.parts.elem.get(b, to, depth)
	default:
		return f.getCounted(b, p, depth)
	}
}

// getCounted reads what is behind a length.
func (f *form) getCounted(b []byte, p unsafe.Pointer, depth int) (rest []byte, err error) {
	body, rest, err := counted(b)
	switch {
	case err != nil:
		return nil, err
	case f.kind == kindString:
		*(*string)(p) = string(body)
		return rest, nil
	case depth >= maxDepth:
		return nil, errors.New("message is nested too deep")
	case f.kind == kindSlice:
		return rest, f.parts.getSlice(body, p, depth+1)
	case f.kind == kindMap:
		return rest, f.parts.getMap(body, p, depth+1)
	default:
		return rest, f.parts.getFields(body, p, depth+1)
	}
}

func (f *form) getInteger(b []byte, p unsafe.Pointer) ([]byte, error) {
	n, rest, err := uvarint(b)
	if err != nil {
		return nil, err
	}
	fits := true
	switch f.kind {
	case kindBool:
		n = min(n, 1)
	case kindInt:
		n = n>>1 ^ -(n & 1) // zigzag
		fits = f.signed(n) == int64(n)
	default:
		fits = f.unsigned(n) == n
	}
	if !fits {
		return nil, fmt.Errorf("an integer does not fit in %d bytes", f.size)
	}
	f.store(p, n)
	return rest, nil
}

func (s *parts) getFields(b []byte, p unsafe.Pointer, depth int) error {
	for len(b) > 0 {
		tag, rest, err := uvarint(b)
		if err != nil {
			return err
		}
		n, wire := tag>>1, tag&1
		if n == 0 || n > uint64(len(s.fields)) {
			b, err = skip(rest, wire)
		} else {
			f := &s.fields[n-1]
			if uint64(f.tag) != tag {
				return fmt.Errorf("field %d of %v has another type", n, s.typ)
			}
			b, err = f.get(rest, unsafe.Add(p, f.offset), depth)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// getSlice counts the elements first: one allocation for all of them, and for
// strings, which arguments and environment are and so most of an order, one for
// all of their bytes.
func (s *parts) getSlice(b []byte, p unsafe.Pointer, depth int) error {
	n, wire := 0, uint64(s.elem.tag)
	for rest := b; len(rest) > 0; n++ {
		var err error
		if rest, err = skip(rest, wire); err != nil {
			return err
		}
	}
	if s.elem.kind == kindString {
		*(*[]string)(p) = cutStrings(n, b)
		return nil
	}
	list := sliceHead{reflect.MakeSlice(s.typ, n, n).UnsafePointer(), n, n}
	*(*sliceHead)(p) = list
	for i := range n {
		var err error
		if b, err = s.elem.get(b, unsafe.Add(list.data, uintptr(i)*s.step), depth); err != nil {
			return err
		}
	}
	return nil
}

// cutStrings returns the n strings that b is known to hold.
func cutStrings(n int, b []byte) []string {
	list, all := make([]string, n), string(b)
	for i := range list {
		body, rest, _ := counted(b)
		end := len(all) - len(rest)
		list[i], b = all[end-len(body):end], rest
	}
	return list
}

func (s *parts) getMap(b []byte, p unsafe.Pointer, depth int) error {
	m := reflect.MakeMap(s.typ)
	*(*unsafe.Pointer)(p) = m.UnsafePointer()
	for len(b) > 0 {
		body, rest, err := counted(b)
		if err != nil {
			return err
		}
		key, elem := reflect.New(s.typ.Key()).Elem(), reflect.New(s.typ.Elem())
		key.SetString(string(body))
		if b, err = s.elem.get(rest, elem.UnsafePointer(), depth); err != nil {
			return err
		}
		m.SetMapIndex(key, elem.Elem())
	}
	return nil
}

func skip(b []byte, wire uint64) (rest []byte, err error) {
	if wire == wireVarint {
		_, rest, err = uvarint(b)
	} else {
		_, rest, err = counted(b)
	}
	return rest, err
}

func uvarint(b []byte) (n uint64, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 {
		return 0, nil, errShort
	}
	return n, b[size:], nil
}

func counted(b []byte) (body, rest []byte, err error) {
	n, rest, err := uvarint(b)
	if err != nil {
		return nil, nil, err
	}
	if n > uint64(len(rest)) {
		return nil, nil, errShort
	}
	return rest[:n], rest[n:], nil
}
