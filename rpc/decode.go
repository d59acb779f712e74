package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

// newDecoder reads a guarded message.
func newDecoder(msg []byte) *msgpack.Decoder {
	dec := msgpack.NewDecoder(bytes.NewReader(msg))
	dec.SetMapDecoder(decodeMap)
	return dec
}

// decodeMap reads a map, whatever its keys are. Those that are bin are taken for
// text: they come from languages whose strings need not have an encoding.
func decodeMap(d *msgpack.Decoder) (any, error) {
	n, err := d.DecodeMapLen()
	if err != nil {
		return nil, err
	}
	m := make(map[any]any, max(n, 0))
	for range n {
		k, err := d.DecodeInterface()
		if err != nil {
			return nil, err
		}
		if b, ok := k.([]byte); ok {
			k = string(b)
		}
		if m[k], err = d.DecodeInterface(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

var errNoText = errors.New("a string is not UTF-8; what is no text is to be sent as bin")

// decodeRequest reads a guarded message, with the types of DecodeValue, but all
// maps map[any]any. A value that is no map gives nil.
func decodeRequest(msg []byte) (map[any]any, error) {
	v, err := newDecoder(msg).DecodeInterface()
	if err != nil {
		return nil, err
	}
	if !isText(v) {
		return nil, errNoText
	}
	m, _ := evenOut(v).(map[any]any)
	return m, nil
}

// isText reports whether all strings in v are UTF-8. An echo of others would
// be a reply that strict clients cannot decode. The guard bounds the depth.
func isText(v any) bool {
	switch v := v.(type) {
	case string:
		return utf8.ValidString(v)
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !isText(e) })
	case map[any]any:
		for k, e := range v {
			if !isText(k) || !isText(e) {
				return false
			}
		}
	}
	return true
}

// evenOut gives each kind of value inside of v one Go type.
func evenOut(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = evenOut(v[i])
		}
		return v
	case map[any]any:
		out := make(map[any]any, len(v))
		for k, e := range v {
			out[evenOut(k)] = evenOut(e)
		}
		return out
	}
	return widenNumber(v)
}

// DecodeValue decodes a guarded message: integers become int64 (uint64 when
// they must), floats float64, str string, bin []byte, maps map[string]any, or
// map[any]any when a key is no string.
func DecodeValue(msg []byte) (any, error) {
	v, err := newDecoder(msg).DecodeInterface()
	if err != nil {
		return nil, fmt.Errorf("cannot decode: %w", err)
	}
	return widen(v), nil
}

func widen(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = widen(v[i])
		}
		return v
	case map[any]any:
		return widenMap(v)
	}
	return widenNumber(v)
}

func widenNumber(v any) any {
	switch v := v.(type) {
	case int8:
		return int64(v)
	case int16:
		return int64(v)
	case int32:
		return int64(v)
	case uint8:
		return int64(v)
	case uint16:
		return int64(v)
	case uint32:
		return int64(v)
	case uint64:
		if int64(v) >= 0 {
			return int64(v)
		}
	case float32:
		return float64(v)
	}
	return v
}

func widenMap(m map[any]any) any {
	named := make(map[string]any, len(m))
	other := make(map[any]any)
	for k, e := range m {
		if s, ok := k.(string); ok {
			named[s] = widen(e)
		} else {
			other[widen(k)] = widen(e)
		}
	}
	if len(other) == 0 {
		return named
	}
	for k, e := range named {
		other[k] = e
	}
	return other
}
