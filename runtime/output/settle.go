package output

import (
	"errors"

	"golang.org/x/sys/unix"
)

// addPacked adds the parts of a compressed file whose next one begins with byte
// next.
func (p *picture) addPacked(next int64, name string, list []extent) {
	for i, e := range list {
		end, last := e.until, i == len(list)-1
		if last {
			end = next
		}
		p.pieces = append(p.pieces, piece{start: e.off, end: end, name: name, extent: e, unsure: last})
	}
}

// settle learns where a file really ends.
func (p *picture) settle(f *piece) error {
	if !f.unsure {
		return nil
	}
	fd, size, err := p.unpacked.openSegment(p.dir, f.name)
	if errors.Is(err, errForeign) {
		f.end, f.unsure = f.start, false
		return nil
	}
	if err != nil {
		return asMoved(err)
	}
	defer unix.Close(fd)
	end, err := f.endAt(fd, size)
	f.end, f.unsure = max(f.start, min(f.end, end)), false
	return err
}

func asMoved(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return errMoved
	}
	return err
}
