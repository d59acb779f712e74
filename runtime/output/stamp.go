package output

import (
	"bytes"
	"time"
)

// stampLayout is RFC 3339 in UTC with microseconds: all of one length, and
// sorting as text is sorting by time.
const stampLayout = "2006-01-02T15:04:05.000000Z "

func stampOf(now time.Time) string { return now.UTC().Format(stampLayout) }

// copyMax is how much copy looks at in one go.
const copyMax = 64 << 10

// copy moves bytes through memory: with a time before each line, or as they
// are where the file system cannot splice. They leave the pipe only after they
// are in the file: being killed between the two repeats them (at most copyMax),
// it never loses any.
func (s *Sink) copy(pipe, left int, now time.Time) (int, error) {
	data, err := s.dir.look(pipe, min(left, copyMax))
	if err != nil {
		return 0, err
	}
	out, n, full := s.stamp(data, now)
	if len(out) > 0 {
		if err := s.write(out); err != nil {
			return 0, err
		}
		if done, err := s.dir.consume(pipe, n); err != nil {
			return done, err
		}
	}
	if full {
		return n, s.rotate(now)
	}
	return n, nil
}

// stamp makes of data what the live file gets: out, of the first n bytes; full
// when the rest belongs into the next file.
func (s *Sink) stamp(data []byte, now time.Time) (out []byte, n int, full bool) {
	prefix := ""
	if s.policy.Timestamps {
		prefix = stampOf(now)
	}
	out = make([]byte, 0, len(data)+len(data)/2)
	fresh := s.pos == 0 && !s.midLine || s.pos > 0 && s.endsLine()
	room := s.room(now)
	for n < len(data) {
		line := data[n:]
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line = line[:i+1]
		}
		size := len(out) + len(line)
		if fresh {
			size += len(prefix)
		}
		// Only between lines, and never an empty file.
		if int64(size) > room && fresh && s.pos+int64(len(out)) > 0 {
			return out, n, true
		}
		if !fresh && int64(len(out)) > room+lookMax && s.policy.RotateBytes > 0 {
			return out, n, true
		}
		if fresh {
			out = append(out, prefix...)
		}
		out = append(out, line...)
		n += len(line)
		fresh = line[len(line)-1] == '\n'
	}
	return out, n, false
}
