package zmq

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
)

// z85 is the alphabet of Z85 (rfc.zeromq.org/spec/32), in which keys are
// written: 5 characters for 4 bytes.
const z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

// Lengths of a key: in bytes, and written.
const (
	keyBytes = 32
	keyText  = keyBytes / 4 * 5
)

// z85Encode writes bytes, whose number is a multiple of 4.
func z85Encode(b []byte) string {
	var out strings.Builder
	for ; len(b) >= 4; b = b[4:] {
		n := binary.BigEndian.Uint32(b)
		for div := uint32(85 * 85 * 85 * 85); div > 0; div /= 85 {
			out.WriteByte(z85[n/div%85])
		}
	}
	return out.String()
}

// z85Decode reads a key. The error never repeats the text: it may be a secret.
func z85Decode(text string) ([]byte, error) {
	if len(text) != keyText {
		return nil, fmt.Errorf("a key has %d characters, this has %d", keyText, len(text))
	}
	out := make([]byte, 0, keyBytes)
	for ; text != ""; text = text[5:] {
		n := uint64(0)
		for _, c := range []byte(text[:5]) {
			digit := strings.IndexByte(z85, c)
			if digit < 0 {
				return nil, errors.New("it holds a character that no key has")
			}
			n = n*85 + uint64(digit)
		}
		if n > math.MaxUint32 {
			return nil, errors.New("it is not the text of any key")
		}
		out = binary.BigEndian.AppendUint32(out, uint32(n))
	}
	return out, nil
}
