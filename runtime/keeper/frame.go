package keeper

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// A frame is a length (u32, little endian) and that many bytes: one message.
const (
	frameHead = 4
	// MaxFrame bounds a message: 1 MiB.
	MaxFrame = 1 << 20
	// frameRoom is what most frames fit in, in bytes.
	frameRoom = 128
)

// AppendOrder appends o as a frame.
func AppendOrder(b []byte, o *Order) ([]byte, error) {
	return appendFrame(b, orderCodec, o)
}

// Size is how many bytes the message of o has: above MaxFrame it cannot be sent.
func Size(o *Order) int { return len(orderCodec.append(nil, o)) }

// AppendFact appends f as a frame.
func AppendFact(b []byte, f *Fact) ([]byte, error) {
	return appendFrame(b, factCodec, f)
}

func appendFrame[T any](b []byte, c *codec[T], v *T) ([]byte, error) {
	start := len(b)
	out := c.append(append(slices.Grow(b, frameRoom), 0, 0, 0, 0), v)
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
	err := orderCodec.read(body, &o)
	return o, err
}

// DecodeFact reads the fact of one frame without its head.
func DecodeFact(body []byte) (Fact, error) {
	var f Fact
	err := factCodec.read(body, &f)
	return f, err
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
