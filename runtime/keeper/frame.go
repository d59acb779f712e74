package keeper

import (
	"encoding/binary"
	"fmt"
	"reflect"
)

// A frame is a length (u32, little endian) and that many bytes: one message.
const (
	frameHead = 4
	// MaxFrame bounds a message: 1 MiB.
	MaxFrame = 1 << 20
)

// AppendOrder appends o as a frame.
func AppendOrder(b []byte, o *Order) ([]byte, error) {
	return appendFrame(b, orderCoder, reflect.ValueOf(o).Elem())
}

// AppendFact appends f as a frame.
func AppendFact(b []byte, f *Fact) ([]byte, error) {
	return appendFrame(b, factCoder, reflect.ValueOf(f).Elem())
}

func appendFrame(b []byte, c *coder, v reflect.Value) ([]byte, error) {
	start := len(b)
	out := c.put(append(b, 0, 0, 0, 0), v)
	n := len(out) - start - frameHead
	if n > MaxFrame {
		return b, fmt.Errorf("cannot send a message of %d bytes: the limit is %d", n, MaxFrame)
	}
	binary.LittleEndian.PutUint32(out[start:], uint32(n))
	return out, nil
}

// DecodeOrder reads the order of one frame without its head.
func DecodeOrder(body []byte) (Order, error) {
	var o Order
	err := decode(orderCoder, body, reflect.ValueOf(&o).Elem())
	return o, err
}

// DecodeFact reads the fact of one frame without its head.
func DecodeFact(body []byte) (Fact, error) {
	var f Fact
	err := decode(factCoder, body, reflect.ValueOf(&f).Elem())
	return f, err
}

func decode(c *coder, body []byte, v reflect.Value) error {
	rest, err := c.get(body, v, 0)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes follow the message", len(rest))
	}
	if err != nil {
		return fmt.Errorf("cannot read %v: %w", v.Type(), err)
	}
	return nil
}

// cutFrame takes the first whole frame off b. ok is false while there is none.
func cutFrame(b []byte) (body, rest []byte, ok bool, err error) {
	if len(b) < frameHead {
		return nil, b, false, nil
	}
	n := binary.LittleEndian.Uint32(b)
	if n > MaxFrame {
		return nil, b, false, fmt.Errorf("cannot read a message of %d bytes: the limit is %d", n, MaxFrame)
	}
	if len(b)-frameHead < int(n) {
		return nil, b, false, nil
	}
	return b[frameHead : frameHead+n], b[frameHead+n:], true, nil
}
