package rpc

import (
	"bytes"
	"context"
)

// maxGaps bounds how often lastOutput goes on behind dropped bytes.
const maxGaps = 8

// lastOutput reads q.Tail lines, of which the last q.Limit bytes: where the
// lines are long it is the end that tells why something ended, not how they
// began. A line that had to be cut is left out, if it is not the only one.
func (s *Server) lastOutput(ctx context.Context, q LogQuery) (LogChunk, error) {
	chunk, err := s.Logs.ReadLog(ctx, q)
	q.Tail = 0
	for range maxGaps {
		if err != nil || chunk.Next >= chunk.End || q.Limit <= 0 {
			break
		}
		from, cut := chunk.Next, len(chunk.Data) >= q.Limit
		if cut {
			from = max(chunk.Offset, chunk.End-int64(q.Limit))
		}
		q.Offset = &from
		if chunk, err = s.Logs.ReadLog(ctx, q); err == nil && cut {
			chunk.cutLine()
		}
	}
	return chunk, err
}

// cutLine takes what is before the first line's end away, if there is more.
func (c *LogChunk) cutLine() {
	n := bytes.IndexByte(c.Data, '\n') + 1
	if n < len(c.Data) {
		c.Data, c.Offset = c.Data[n:], c.Offset+int64(n)
	}
}
