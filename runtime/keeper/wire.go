package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
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

// coder writes and reads values of one type. Its value ends by itself: a
// varint, or bytes behind their length.
type coder struct {
	wire uint64
	put  func(b []byte, v reflect.Value) []byte
	get  func(b []byte, v reflect.Value, depth int) ([]byte, error)
}

// coders is filled while the package initialises and only read afterwards.
var coders = map[reflect.Type]*coder{}

var (
	orderCoder = coderOf(reflect.TypeFor[Order]())
	factCoder  = coderOf(reflect.TypeFor[Fact]())
)

// coderOf returns the coder of a type, building it and those it needs. A type
// that a message cannot have panics: at start, in every test.
func coderOf(t reflect.Type) *coder {
	if c, ok := coders[t]; ok {
		return c
	}
	c := &coder{}
	coders[t] = c // before its parts: Fact holds Hello holds Run holds Fact
	*c = buildCoder(t)
	return c
}

func buildCoder(t reflect.Type) coder {
	switch t.Kind() {
	case reflect.Bool:
		return coder{wireVarint, putBool, getBool}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return coder{wireVarint, putInt, getInt}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return coder{wireVarint, putUint, getUint}
	case reflect.String:
		return coder{wireBytes, putString, getString}
	case reflect.Pointer:
		return pointerCoder(t)
	case reflect.Slice:
		return sliceCoder(t)
	case reflect.Map:
		return mapCoder(t)
	case reflect.Struct:
		return structCoder(t)
	default:
		panic(fmt.Sprintf("keeper: no wire form for %v", t))
	}
}

func putBool(b []byte, v reflect.Value) []byte {
	if v.Bool() {
		return append(b, 1)
	}
	return append(b, 0)
}

func getBool(b []byte, v reflect.Value, _ int) ([]byte, error) {
	n, rest, err := uvarint(b)
	v.SetBool(n != 0)
	return rest, err
}

func putInt(b []byte, v reflect.Value) []byte { return binary.AppendVarint(b, v.Int()) }

func getInt(b []byte, v reflect.Value, _ int) ([]byte, error) {
	n, size := binary.Varint(b)
	if size <= 0 {
		return nil, errShort
	}
	if v.OverflowInt(n) {
		return nil, fmt.Errorf("%d does not fit in %v", n, v.Type())
	}
	v.SetInt(n)
	return b[size:], nil
}

func putUint(b []byte, v reflect.Value) []byte { return binary.AppendUvarint(b, v.Uint()) }

func getUint(b []byte, v reflect.Value, _ int) ([]byte, error) {
	n, rest, err := uvarint(b)
	if err == nil && v.OverflowUint(n) {
		return nil, fmt.Errorf("%d does not fit in %v", n, v.Type())
	}
	v.SetUint(n)
	return rest, err
}

func putString(b []byte, v reflect.Value) []byte {
	return append(binary.AppendUvarint(b, uint64(v.Len())), v.String()...)
}

func getString(b []byte, v reflect.Value, _ int) ([]byte, error) {
	s, rest, err := counted(b)
	v.SetString(string(s))
	return rest, err
}

// pointerCoder writes what it points to; that the field is there at all says
// that it is not nil.
func pointerCoder(t reflect.Type) coder {
	elem := coderOf(t.Elem())
	wire := uint64(wireBytes)
	if k := t.Elem().Kind(); k != reflect.Struct && k != reflect.String {
		wire = wireVarint
	}
	return coder{
		wire: wire,
		put:  func(b []byte, v reflect.Value) []byte { return elem.put(b, v.Elem()) },
		get: func(b []byte, v reflect.Value, depth int) ([]byte, error) {
			v.Set(reflect.New(t.Elem()))
			return elem.get(b, v.Elem(), depth)
		},
	}
}

func sliceCoder(t reflect.Type) coder {
	if t == reflect.TypeFor[[]string]() {
		return bodyCoder(putStrings, getStrings)
	}
	elem := coderOf(t.Elem())
	put := func(b []byte, v reflect.Value) []byte {
		for i := range v.Len() {
			b = elem.put(b, v.Index(i))
		}
		return b
	}
	get := func(b []byte, v reflect.Value, depth int) error {
		for len(b) > 0 {
			next := reflect.New(t.Elem()).Elem()
			var err error
			if b, err = elem.get(b, next, depth); err != nil {
				return err
			}
			v.Set(reflect.Append(v, next))
		}
		return nil
	}
	return bodyCoder(put, get)
}

// putStrings and getStrings are what sliceCoder would do, faster: arguments and
// environment are most of an order.
func putStrings(b []byte, v reflect.Value) []byte {
	for _, s := range *v.Addr().Interface().(*[]string) {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

func getStrings(b []byte, v reflect.Value, _ int) error {
	n := 0
	for rest := b; len(rest) > 0; n++ {
		var err error
		if _, rest, err = counted(rest); err != nil {
			return err
		}
	}
	list := make([]string, n)
	all := string(b) // one allocation for all of them
	for i := range list {
		body, rest, _ := counted(b) // it was fine a moment ago
		at := len(all) - len(rest) - len(body)
		list[i], b = all[at:at+len(body)], rest
	}
	*v.Addr().Interface().(*[]string) = list
	return nil
}

// mapCoder writes keys in order, so that equal messages have equal bytes.
func mapCoder(t reflect.Type) coder {
	key, elem := coderOf(t.Key()), coderOf(t.Elem())
	put := func(b []byte, v reflect.Value) []byte {
		keys := v.MapKeys()
		slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(x.String(), y.String()) })
		for _, k := range keys {
			b = elem.put(key.put(b, k), v.MapIndex(k))
		}
		return b
	}
	get := func(b []byte, v reflect.Value, depth int) error {
		v.Set(reflect.MakeMap(t))
		for len(b) > 0 {
			k, e := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
			var err error
			if b, err = key.get(b, k, depth); err != nil {
				return err
			}
			if b, err = elem.get(b, e, depth); err != nil {
				return err
			}
			v.SetMapIndex(k, e)
		}
		return nil
	}
	return bodyCoder(put, get)
}

func structCoder(t reflect.Type) coder {
	fields := make([]*coder, t.NumField())
	for i := range fields {
		if !t.Field(i).IsExported() {
			panic(fmt.Sprintf("keeper: %v.%s cannot be sent", t, t.Field(i).Name))
		}
		fields[i] = coderOf(t.Field(i).Type)
	}
	put := func(b []byte, v reflect.Value) []byte {
		for i, c := range fields {
			if f := v.Field(i); !f.IsZero() {
				b = c.put(binary.AppendUvarint(b, uint64(i+1)<<1|c.wire), f)
			}
		}
		return b
	}
	get := func(b []byte, v reflect.Value, depth int) error {
		for len(b) > 0 {
			tag, rest, err := uvarint(b)
			if err != nil {
				return err
			}
			n, wire := tag>>1, tag&1
			switch {
			case n == 0 || n > uint64(len(fields)):
				b, err = skip(rest, wire)
			case fields[n-1].wire != wire:
				return fmt.Errorf("field %d of %v has another type", n, t)
			default:
				b, err = fields[n-1].get(rest, v.Field(int(n-1)), depth)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return bodyCoder(put, get)
}

// bodyCoder puts a length before a body.
func bodyCoder(put func([]byte, reflect.Value) []byte, get func([]byte, reflect.Value, int) error) coder {
	return coder{
		wire: wireBytes,
		put: func(b []byte, v reflect.Value) []byte {
			start := len(b)
			b = put(b, v)
			var head [binary.MaxVarintLen64]byte
			n := binary.PutUvarint(head[:], uint64(len(b)-start))
			return slices.Insert(b, start, head[:n]...)
		},
		get: func(b []byte, v reflect.Value, depth int) ([]byte, error) {
			body, rest, err := counted(b)
			if err != nil {
				return nil, err
			}
			if depth >= maxDepth {
				return nil, errors.New("message is nested too deep")
			}
			return rest, get(body, v, depth+1)
		},
	}
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
