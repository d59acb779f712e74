package keeper

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// A note is written by hand: to the byte what encoding/json makes of it, whatever
// is in it, so that a keeper of any version reads it.
func TestTextOfNotesIsJSON(t *testing.T) {
	if got, want := string((note{}).text()), asJSON(t, note{}); got != want {
		t.Errorf("an empty note is %s, not %s", got, want)
	}
	rapid.Check(t, func(rt *rapid.T) {
		var v note
		fill(rt, reflect.ValueOf(&v).Elem(), 0)
		for _, text := range []*string{&v.Boot, &v.Program, &v.Cookie, (*string)(&v.LaunchDigest)} {
			*text = rapid.OneOf(rapid.Just(*text), rapid.String(), rapid.StringMatching(`[ -~\x7f]*`), rapid.SampledFrom(oddTexts)).Draw(rt, "text")
		}
		if got, want := string(v.text()), asJSON(rt, v); got != want {
			rt.Fatalf("is  %s\nnot %s", got, want)
		}
	})
}

var oddTexts = []string{`"`, `\`, "<a>", "a&b", "\x00\b\f\n\r\t\x1f", "\x7f", "\u2028\u2029", "\xff", "a\xc3", "\xed\xa0\x80", "\ufffd", "😀é"}

func asJSON(t rapid.TB, v note) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// FuzzNote reads what a disk may make of a note: what is understood is written
// and read again as the same, and an end that it names is one or none.
func FuzzNote(f *testing.F) {
	v := note{
		Boot: "b", Run: 3, Program: "web", Index: 1, PID: 4, Inode: 5, StartedNS: 6, LaunchDigest: "l", TuningDigest: "t", Cookie: "PROCNANNY_RUN_ID=3",
		Output: Output{RotateBytes: 1, Keep: 2}, Pipes: [2]uint64{7, 8},
	}
	begun := append(v.text(), '\n')
	v.Ended, v.Emptied, v.Exit = true, true, exitFrame(&Fact{Kind: FactExited, Run: 3, Code: 9})
	f.Add(begun)
	f.Add(append(begun, v.text()...))
	f.Add(append(begun, v.text()[:40]...))
	f.Add([]byte("{}\n[]\nnull\n\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseNote(b)
		if err != nil {
			return
		}
		again, err := parseNote(append(bytes.Clone(v.text()), '\n'))
		if err != nil || !bytes.Equal(v.text(), again.text()) {
			t.Fatalf("%v\n%+v\n%+v", err, v, again)
		}
		if exit := exitOf(v.Exit); exit != nil && exitOf(exitFrame(exit)) == nil {
			t.Fatalf("an end that is read and cannot be written: %+v", exit)
		}
	})
}
