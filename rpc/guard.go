package rpc

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Limits of a message.
const (
	// MaxRequest is the longest request in bytes.
	MaxRequest = 1 << 20
	// MaxReply is the longest reply; what may be longer comes in pages.
	MaxReply = 64 << 20
	// MaxDepth is how deep maps and arrays of a request may nest.
	MaxDepth = 32
	// maxReplyDepth is more, because a reply holds what was asked: a refusal the
	// whole request, a list of overrides the values.
	maxReplyDepth = MaxDepth + 8
	// maxElements bounds what decoding a request allocates: an element costs
	// up to 48 bytes in memory and may cost one byte on the wire.
	maxElements = 1 << 16
)

// Guard walks a request without decoding it and says what is wrong with it. A
// message that passes is one value that no decoder can be hurt by: every
// length is backed by bytes, nesting is shallow, map keys are scalars, there
// are no extension types, and nothing trails. It allocates nothing and never
// recurses.
func Guard(msg []byte) error {
	if len(msg) > MaxRequest {
		return fmt.Errorf("%d bytes, the limit is %d", len(msg), MaxRequest)
	}
	return guard(msg, maxElements, MaxDepth)
}

// GuardReply is Guard for what comes from a daemon: replies may be long.
func GuardReply(msg []byte) error { return guard(msg, math.MaxInt, maxReplyDepth) }

// level is one open map or array: how many values are still to come, and
// whether they alternate with keys.
type level struct {
	left  int
	isMap bool
}

func guard(msg []byte, budget, deepest int) error {
	w := walk{msg: msg, top: level{left: 1}, deepest: deepest}
	for w.top.left > 0 {
		if budget--; budget < 0 {
			return fmt.Errorf("more than %d values", maxElements)
		}
		if w.at < len(msg) { // most of all values need no closer look
			if size := int(plainSize[msg[w.at]]); size != 0 && size <= len(msg)-w.at {
				w.at += size
				w.top.left--
				if w.top.left == 0 {
					w.pop()
				}
				continue
			}
		}
		if err := w.value(); err != nil {
			return err
		}
	}
	if w.at != len(msg) {
		return fmt.Errorf("%d bytes after the message", len(msg)-w.at)
	}
	return nil
}

// walk is where a guard is in a message.
type walk struct {
	msg   []byte
	at    int
	top   level // the innermost open map or array; the message itself is one of one value
	stack [maxReplyDepth]level
	depth int
	// deepest is the bound of depth.
	deepest int
}

// pop closes what is complete.
func (w *walk) pop() {
	for w.top.left == 0 && w.depth > 0 {
		w.depth--
		w.top = w.stack[w.depth]
	}
}

// value takes the head of any value, and opens it when there is more inside.
func (w *walk) value() error {
	if len(w.msg) == 0 {
		return fmt.Errorf("no bytes")
	}
	h, err := readHeader(w.msg, w.at)
	if err != nil {
		return err
	}
	if w.top.isMap && w.top.left%2 == 0 && !h.key {
		return fmt.Errorf("a map key is %s at byte %d", h.name, w.at)
	}
	w.at += h.size
	w.top.left--
	if h.children > 0 {
		if w.depth == w.deepest {
			return fmt.Errorf("nested deeper than %d at byte %d", w.deepest, w.at)
		}
		if left := len(w.msg) - w.at; h.children > left {
			return fmt.Errorf("%s of %d values, but %d bytes are left, at byte %d", h.name, h.children, left, w.at)
		}
		w.stack[w.depth] = w.top
		w.depth++
		w.top = level{left: h.children, isMap: h.isMap}
	}
	w.pop()
	return nil
}

// plainSize is how many bytes a value takes whose first byte says it all and
// that may be a map key; 0 is any other value.
var plainSize = func() (t [256]uint8) {
	for c := range t {
		switch f := formats[byte(c)]; {
		case c < 0x80 || c >= 0xe0:
			t[c] = 1
		case c >= 0xa0 && c < 0xc0:
			t[c] = uint8(1 + c&31)
		case f.key && f.lenBytes == 0:
			t[c] = uint8(1 + f.fixed)
		}
	}
	return t
}()

// header is what the first bytes of a value say.
type header struct {
	name     string
	size     int // bytes of the value without its children
	children int // values inside: two for each pair of a map
	isMap    bool
	key      bool // may be a map key
}

// format describes the values that begin with one byte.
type format struct {
	name string
	// lenBytes is the width of the length that follows the first byte.
	lenBytes int
	// fixed is how many bytes of payload follow when there is no length.
	fixed int
	// container is 0 for a scalar, 1 for an array, 2 for a map.
	container int
	key       bool
}

// formats is keyed by first byte, from 0xc0 to 0xdf; a missing name is refused.
var formats = map[byte]format{
	0xc0: {name: "nil", key: true},
	0xc2: {name: "a boolean", key: true}, 0xc3: {name: "a boolean", key: true},
	0xc4: {name: "bytes", lenBytes: 1, key: true}, 0xc5: {name: "bytes", lenBytes: 2, key: true},
	0xc6: {name: "bytes", lenBytes: 4, key: true},
	0xca: {name: "a number", fixed: 4, key: true}, 0xcb: {name: "a number", fixed: 8, key: true},
	0xcc: {name: "an integer", fixed: 1, key: true}, 0xcd: {name: "an integer", fixed: 2, key: true},
	0xce: {name: "an integer", fixed: 4, key: true}, 0xcf: {name: "an integer", fixed: 8, key: true},
	0xd0: {name: "an integer", fixed: 1, key: true}, 0xd1: {name: "an integer", fixed: 2, key: true},
	0xd2: {name: "an integer", fixed: 4, key: true}, 0xd3: {name: "an integer", fixed: 8, key: true},
	0xd9: {name: "a string", lenBytes: 1, key: true}, 0xda: {name: "a string", lenBytes: 2, key: true},
	0xdb: {name: "a string", lenBytes: 4, key: true},
	0xdc: {name: "an array", lenBytes: 2, container: 1}, 0xdd: {name: "an array", lenBytes: 4, container: 1},
	0xde: {name: "a map", lenBytes: 2, container: 2}, 0xdf: {name: "a map", lenBytes: 4, container: 2},
}

// formatTable is formats as an array: the guard looks at every byte of a reply.
var formatTable = func() (t [32]format) {
	for code, f := range formats {
		t[code-0xc0] = f
	}
	return t
}()

func readHeader(msg []byte, at int) (header, error) {
	if at >= len(msg) {
		return header{}, fmt.Errorf("cut off at byte %d", at)
	}
	c := msg[at]
	switch {
	case c < 0x80 || c >= 0xe0:
		return header{name: "an integer", size: 1, key: true}, nil
	case c < 0x90:
		return header{name: "a map", size: 1, children: 2 * int(c&15), isMap: true}, nil
	case c < 0xa0:
		return header{name: "an array", size: 1, children: int(c & 15)}, nil
	case c < 0xc0:
		return sized(msg, at, format{name: "a string", key: true}, 1, uint64(c&31))
	}
	f := formatTable[c-0xc0]
	if f.name == "" {
		return header{}, fmt.Errorf("an extension or reserved type (0x%02x) at byte %d", c, at)
	}
	if f.lenBytes == 0 {
		return sized(msg, at, f, 1, uint64(f.fixed))
	}
	var field [8]byte
	if copy(field[8-f.lenBytes:], msg[at+1:]) < f.lenBytes {
		return header{}, fmt.Errorf("%s cut off at byte %d", f.name, at)
	}
	return sized(msg, at, f, 1+f.lenBytes, binary.BigEndian.Uint64(field[:]))
}

// sized is a value whose head takes head bytes and whose length is n: bytes of
// payload, or values. n is below 2^32, so nothing overflows an int.
func sized(msg []byte, at int, f format, head int, n uint64) (header, error) {
	h := header{name: f.name, size: head, key: f.key}
	if f.container > 0 {
		h.children, h.isMap = int(n)*f.container, f.container == 2
		return h, nil
	}
	if left := len(msg) - at - head; int(n) > left {
		return header{}, fmt.Errorf("%s of %d bytes, but %d bytes are left, at byte %d", f.name, n, max(left, 0), at)
	}
	h.size += int(n)
	return h, nil
}
