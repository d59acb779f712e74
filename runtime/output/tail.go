package output

import "bytes"

const (
	tailBlock = 64 << 10
	// tailScan bounds how far back the last lines are looked for.
	tailScan = 256 << 20
)

// tail is the offset of the last lines of [lo, hi). A gap ends a line.
func (p *picture) tail(lo, hi int64, lines int) (int64, error) {
	lo = max(lo, hi-tailScan)
	next := hi // where the piece after this one begins
	for i := len(p.pieces) - 1; i >= 0 && lines > 0; i-- {
		if err := p.settle(&p.pieces[i]); err != nil {
			return lo, err
		}
		f := p.pieces[i]
		except := hi
		if f.end < next && next < hi {
			if lines--; lines == 0 {
				return next, nil
			}
			except = f.end // that is the same line's end
		}
		at, err := p.lineStart(f, max(f.start, lo), min(f.end, hi), except, &lines)
		if err != nil || lines == 0 {
			return at, err
		}
		next = f.start
	}
	return lo, nil
}

// lineStart goes back over the newlines of a piece's bytes [lo, hi) until
// lines of them are found; the one that ends at except does
// not count.
func (p *picture) lineStart(f piece, lo, hi, except int64, lines *int) (int64, error) {
	b := make([]byte, tailBlock)
	for end := hi; end > lo; {
		from := max(lo, end-tailBlock)
		block := b[:end-from]
		if err := p.pread(f, block, from); err != nil {
			return 0, err
		}
		for k := bytes.LastIndexByte(block, '\n'); k >= 0; k = bytes.LastIndexByte(block[:k], '\n') {
			at := from + int64(k) + 1
			if at == except {
				continue
			}
			if *lines--; *lines == 0 {
				return at, nil
			}
		}
		end = from
	}
	return lo, nil
}
