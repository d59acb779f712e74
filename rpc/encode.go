package rpc

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// Map is a map whose keys keep their order on the wire.
type Map []Field

// Get returns the value of key, or nil.
func (m Map) Get(key string) any {
	for _, f := range m {
		if f.Key == key {
			return f.Value
		}
	}
	return nil
}

// IntField is one key of an IntMap.
type IntField struct {
	Key   int
	Value any
}

// IntMap is an ordered map with integer keys: instances.
type IntMap []IntField

// Raw is a value that is encoded already.
type Raw []byte

// Append appends v in msgpack: integers in their shortest form, strings as in
// 2011 (never with an 8-bit length), times as
// epoch seconds in a float (nil when zero), durations as seconds in a float,
// strings as str, []byte as bin, never an extension type. Plain Go maps are
// written with sorted keys.
func Append(b []byte, v any) ([]byte, error) {
	if out, ok := appendScalar(b, v); ok {
		return out, nil
	}
	switch v := v.(type) {
	case Raw:
		return append(b, v...), nil
	case Map:
		return appendFields(b, v)
	case IntMap:
		b = appendMapLen(b, len(v))
		return appendEach(b, v, func(b []byte, f IntField) ([]byte, error) { return Append(appendInt(b, int64(f.Key)), f.Value) })
	case []Map:
		return appendEach(appendArrayLen(b, len(v)), v, appendFields)
	case []string:
		return appendEach(appendArrayLen(b, len(v)), v, func(b []byte, s string) ([]byte, error) { return appendStr(b, s), nil })
	case []any:
		return appendEach(appendArrayLen(b, len(v)), v, Append)
	case map[string]any:
		return appendGoMap(b, v)
	case map[string]string:
		return appendGoMap(b, v)
	case json.RawMessage:
		return appendJSON(b, v)
	}
	return b, fmt.Errorf("cannot encode a %T", v)
}

func appendScalar(b []byte, v any) ([]byte, bool) {
	switch v := v.(type) {
	case nil:
		return append(b, 0xc0), true
	case bool:
		return appendBool(b, v), true
	case int:
		return appendInt(b, int64(v)), true
	case int64:
		return appendInt(b, v), true
	case uint32:
		return appendUint(b, uint64(v)), true
	case uint64:
		return appendUint(b, v), true
	case float64:
		return appendFloat(b, v), true
	case string:
		return appendStr(b, v), true
	case []byte:
		return appendBin(b, v), true
	case time.Time:
		return appendTime(b, v), true
	case time.Duration:
		return appendFloat(b, v.Seconds()), true
	}
	return b, false
}

func appendEach[T any](b []byte, vs []T, one func([]byte, T) ([]byte, error)) ([]byte, error) {
	var err error
	for _, v := range vs {
		if b, err = one(b, v); err != nil {
			return b, err
		}
	}
	return b, nil
}

func appendFields(b []byte, m Map) ([]byte, error) {
	return appendEach(appendMapLen(b, len(m)), m, func(b []byte, f Field) ([]byte, error) {
		return Append(appendStr(b, f.Key), f.Value)
	})
}

func appendGoMap[V any](b []byte, m map[string]V) ([]byte, error) {
	return appendEach(appendMapLen(b, len(m)), sortedKeys(m), func(b []byte, k string) ([]byte, error) {
		return Append(appendStr(b, k), m[k])
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// appendJSON writes a JSON value in msgpack; no value at all is nil.
func appendJSON(b []byte, raw json.RawMessage) ([]byte, error) {
	v, err := decodeJSON(raw)
	if err != nil {
		return b, err
	}
	return Append(b, v)
}

// decodeJSON reads a JSON value; numbers become int64, uint64 or float64,
// whichever keeps every digit.
func decodeJSON(raw json.RawMessage) (any, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("cannot read JSON: %w", err)
	}
	return plainNumbers(v), nil
}

func plainNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		return plainNumber(v)
	case []any:
		for i := range v {
			v[i] = plainNumbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = plainNumbers(v[k])
		}
	}
	return v
}

func plainNumber(n json.Number) any {
	if i, err := n.Int64(); err == nil {
		return i
	}
	var u uint64
	if json.Unmarshal([]byte(n), &u) == nil {
		return u
	}
	f, _ := n.Float64() // out of range is infinite, which is what a float says
	return f
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}

func appendInt(b []byte, v int64) []byte {
	switch {
	case v >= 0:
		return appendUint(b, uint64(v))
	case v >= -32:
		return append(b, byte(v))
	case v >= math.MinInt8:
		return append(b, 0xd0, byte(v))
	case v >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(b, 0xd1), uint16(v))
	case v >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(v))
}

func appendUint(b []byte, v uint64) []byte {
	switch {
	case v < 128:
		return append(b, byte(v))
	case v <= math.MaxUint8:
		return append(b, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), v)
}

func appendFloat(b []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0xcb), math.Float64bits(v))
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0xc0)
	}
	return appendFloat(b, Epoch(t))
}

// Epoch is t as the wire says times: seconds since 1970 with a fraction.
func Epoch(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// FromEpoch is the inverse of Epoch, to the microsecond.
func FromEpoch(seconds float64) time.Time { return time.UnixMicro(int64(math.Round(seconds * 1e6))) }

// appendStr writes a string without the 8-bit length that msgpack got after
// 2011: clients of that time read every reply that they know, and for all
// others a 16-bit length is as good.
func appendStr(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n <= math.MaxUint16:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}

func appendBin(b, v []byte) []byte {
	switch n := len(v); {
	case n <= math.MaxUint8:
		b = append(b, 0xc4, byte(n))
	case n <= math.MaxUint16:
		b = binary.BigEndian.AppendUint16(append(b, 0xc5), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xc6), uint32(n))
	}
	return append(b, v...)
}

func appendMapLen(b []byte, n int) []byte { return appendLen(b, n, 0x80, 0xde) }

func appendArrayLen(b []byte, n int) []byte { return appendLen(b, n, 0x90, 0xdc) }

func appendLen(b []byte, n int, short, long byte) []byte {
	switch {
	case n < 16:
		return append(b, short|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, long), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, long+1), uint32(n))
}
