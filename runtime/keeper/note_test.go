package keeper

import (
	"bytes"
	"testing"
)

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
