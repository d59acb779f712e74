package spec

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// NameMax is the longest program name, in bytes.
const NameMax = 128

// bidi are the characters that change the direction of text: a name with them
// can look like another.
var bidi = &unicode.RangeTable{R16: []unicode.Range16{
	{Lo: 0x061c, Hi: 0x061c, Stride: 1},
	{Lo: 0x200e, Hi: 0x200f, Stride: 1},
	{Lo: 0x202a, Hi: 0x202e, Stride: 1},
	{Lo: 0x2066, Hi: 0x2069, Stride: 1},
}}

// CheckName says why name cannot be a program's name, or nil.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("a program's name cannot be empty")
	case len(name) > NameMax:
		return fmt.Errorf("a program's name has at most %d bytes, this one has %d", NameMax, len(name))
	case !utf8.ValidString(name):
		return errors.New("a program's name must be UTF-8")
	case name[0] == '.' || name[0] == '-':
		return fmt.Errorf("a program's name cannot begin with %q", name[0])
	}
	for _, r := range name {
		switch {
		case strings.ContainsRune("/*?[", r):
			return fmt.Errorf("a program's name cannot contain %q", r)
		case unicode.Is(unicode.Cc, r):
			return fmt.Errorf("a program's name cannot contain the control character %U", r)
		case unicode.Is(bidi, r):
			return fmt.Errorf("a program's name cannot contain the text direction character %U", r)
		}
	}
	return nil
}
