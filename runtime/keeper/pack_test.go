package keeper

import (
	"encoding/json"
	"strings"
	"testing"
)

// What a packed note becomes is what the note said; the holding knows the rest.
func TestPackedNotes(t *testing.T) {
	full := note{
		Boot: "b", Run: 7, Program: "web", Index: 3, PID: 42, Inode: 1 << 40, Start: 99, StartedNS: 1 << 50, LaunchDigest: "0123456789abcdef",
		TuningDigest: "fedcba9876543210", Generation: 12, Cookie: cookieName + "7", Stopping: true,
		Output: Output{RotateBytes: 10 << 20, Keep: 10, Drop: true, Timestamps: true, AgeNS: 1, TotalBytes: 2}, Pipes: [2]uint64{5, 6},
	}
	for name, v := range map[string]note{"full": full, "empty": {Boot: "b", Run: 7, Program: "web", Index: 3, PID: 42}} {
		l := &holding{run: 7, program: "web", index: 3, pid: 42, note: string(v.text()), fds: [3]int32{-1, -1, -1}}
		before, long := l.legacy("b"), len(l.note)
		l.pack()
		if !strings.HasPrefix(l.note, packedMark) || len(l.note) > long/2 {
			t.Errorf("%s: packed from %d to %d bytes: %q", name, long, len(l.note), l.note)
		}
		again := l.note
		l.pack()
		if got := l.legacy("b"); !equalNotes(got.Note, before.Note) || l.note != again {
			t.Errorf("%s: %+v became %+v", name, before.Note, got.Note)
		}
		if before.Note.Cookie != v.Cookie || before.Note.Pipes != v.Pipes {
			t.Errorf("%s: read %+v", name, before.Note)
		}
	}
	// Of another version, damaged, not there: as it came.
	for _, text := range []string{"", "no JSON", `{"run":"seven"}`} {
		l := &holding{note: text}
		if l.pack(); l.note != text {
			t.Errorf("%q became %q", text, l.note)
		}
	}
	l := &holding{run: 7, note: packedMark + "\xff"}
	if got := l.legacy("b").Note; got.Cookie != "" || got.Run != 7 {
		t.Errorf("of a damaged note: %+v", got)
	}
}

func equalNotes(a, b note) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}
