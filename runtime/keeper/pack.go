package keeper

import (
	"encoding/json"
	"strings"

	"github.com/procnanny/procnanny/spec"
)

// A note of a run is some 350 bytes of JSON, and control holds one of each run
// for as long as it lives. So those that stay are packed, into a quarter: as the
// wire has a struct, without what the holding says itself, behind a byte that no
// JSON begins with.
const packedMark = "\x00"

// packedNote is what a packed note keeps. It never leaves this process.
type packedNote struct {
	Inode, Start uint64
	StartedNS    int64
	LaunchDigest spec.Digest
	TuningDigest spec.Digest
	Generation   uint64
	Cookie       string
	Stopping     bool
	Output       Output
	Out, Err     uint64 // inodes of the pipes
}

var packedCodec = codecOf[packedNote]()

// pack packs the note. One that is not as we write them stays as it came.
func (l *holding) pack() {
	var v note
	if l.note == "" || strings.HasPrefix(l.note, packedMark) || json.Unmarshal([]byte(l.note), &v) != nil || v.Ended {
		return
	}
	p := packedNote{v.Inode, v.Start, v.StartedNS, v.LaunchDigest, v.TuningDigest, v.Generation, v.Cookie, v.Stopping, v.Output, v.Pipes[0], v.Pipes[1]}
	l.note = string(packedCodec.append([]byte(packedMark), &p))
}

// unpack is the note, as far as it can be read: its file says the same, if need be.
func (l *holding) unpack() (v note) {
	text, packed := strings.CutPrefix(l.note, packedMark)
	if !packed {
		_ = json.Unmarshal([]byte(l.note), &v)
		return v
	}
	var p packedNote
	if packedCodec.read([]byte(text), &p) != nil {
		return v
	}
	return note{
		Inode: p.Inode, Start: p.Start, StartedNS: p.StartedNS, LaunchDigest: p.LaunchDigest, TuningDigest: p.TuningDigest, Generation: p.Generation,
		Cookie: p.Cookie, Stopping: p.Stopping, Output: p.Output, Pipes: [2]uint64{p.Out, p.Err},
	}
}

// Trim makes what is held for the next keeper smaller.
func (c *Conn) Trim() {
	e := c.estate
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.runs {
		l.pack()
	}
}
