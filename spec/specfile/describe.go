package specfile

import (
	"fmt"

	"cuelang.org/go/cue"
)

// describe is a value as the file could have it, in a few words.
func describe(v cue.Value) string {
	const most = 60
	if k := v.IncompleteKind(); k == cue.StructKind || k == cue.ListKind {
		return kind(v)
	}
	if d, ok := v.Default(); ok {
		v = d
	}
	text := fmt.Sprint(v)
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "..."
	}
	return text
}

func kind(v cue.Value) string {
	switch k := v.IncompleteKind(); k {
	case cue.StructKind:
		return "a struct"
	case cue.ListKind:
		return "a list"
	case cue.IntKind, cue.FloatKind, cue.NumberKind:
		return "a number"
	case cue.StringKind:
		return "a string"
	case cue.BoolKind:
		return "true or false"
	default:
		return k.String()
	}
}
