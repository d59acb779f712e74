package output

import (
	"bytes"
	"errors"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// stampLayout is RFC 3339 in UTC with microseconds: all of one length, and
// sorting as text is sorting by time.
const (
	stampLayout = "2006-01-02T15:04:05.000000Z "
	stampSize   = len(stampLayout)
)

func stampOf(now time.Time) string { return now.UTC().Format(stampLayout) }

// copyMax is how much copy looks at in one go.
const copyMax = 64 << 10

// copy moves bytes with a time before each line. They go over the stage.
func (s *Sink) copy(pipe, left int, now time.Time) (int, error) {
	data, err := s.look(pipe, min(left, copyMax))
	if err != nil {
		return 0, err
	}
	out, n, full := s.stamp(data, now, true)
	if n > 0 {
		done, err := s.putOnStage(pipe, n, now)
		if errors.Is(err, unix.EINVAL) && done == 0 {
			s.copying = true
			return 0, nil
		}
		if err != nil && done == 0 {
			return 0, err
		}
		if done < n {
			out, _, _ = s.stamp(data[:done], now, false)
			n, full = done, false
		}
		if werr := s.write(out); werr != nil {
			return n, werr // what is on the stage is not lost
		}
		s.off += int64(n)
		if err := firstError(s.clearStage(), err); err != nil {
			return n, err
		}
	}
	if full {
		return n, s.rotate(now)
	}
	return n, nil
}

// plainCopy moves bytes as they are where the file system cannot splice. They
// leave the pipe only when they are in the file: being killed between the two
// repeats them (at most copyMax), it never loses any.
func (s *Sink) plainCopy(pipe, left int, now time.Time) (int, error) {
	data, err := s.look(pipe, min(left, copyMax))
	if err != nil {
		return 0, err
	}
	out, n, full := s.stamp(data, now, true)
	if err := s.write(out); err != nil {
		return 0, err
	}
	s.off += int64(n)
	if n, err = s.dir.consume(pipe, n); err == nil && full {
		err = s.rotate(now)
	}
	return n, err
}

// fresh reports whether the live file's next byte is the first of a line.
func (s *Sink) fresh() bool {
	return s.pos == 0 && !s.midLine || s.pos > 0 && s.endsLine()
}

// stamp makes of data what the live file gets: out, of the first n bytes. With
// limit, full says that the rest belongs into the next file.
func (s *Sink) stamp(data []byte, now time.Time, limit bool) (out []byte, n int, full bool) {
	prefix := ""
	if s.stamped {
		prefix = stampOf(now)
	}
	out = make([]byte, 0, len(data)+len(data)/2)
	fresh := s.fresh()
	room := int64(math.MaxInt64)
	if limit {
		room = s.room(now)
	}
	for n < len(data) {
		line := data[n:]
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line = line[:i+1]
		}
		size := len(out) + len(line)
		if fresh {
			size += len(prefix)
		}
		switch {
		case int64(size) <= room:
		case fresh && s.pos+int64(len(out)) > 0: // between lines, and never an empty file
			return out, n, true
		case !fresh:
			most := s.overlong(max(room, 0)) - int64(len(out))
			if most <= 0 {
				return out, n, true
			}
			line = line[:min(int64(len(line)), most)]
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
