package rpc

import (
	"context"
	"strings"
	"testing"
)

// pieces are a log with gaps between them, where bytes were dropped.
type pieces []struct {
	at   int64
	text string
}

// ReadLog reads as output.Dir does: until the limit, or the next gap.
func (p pieces) ReadLog(_ context.Context, q LogQuery) (LogChunk, error) {
	last := p[len(p)-1]
	c := LogChunk{End: last.at + int64(len(last.text))}
	switch {
	case q.Offset != nil:
		c.Offset = *q.Offset
	case q.Tail > 0: // in these tests the lines are in one piece, or the tail is all of it
		text := strings.TrimSuffix(last.text, "\n")
		for range q.Tail {
			text = text[:max(0, strings.LastIndexByte(text, '\n'))]
		}
		c.Offset = p[0].at
		if text != "" {
			c.Offset = last.at + int64(len(text)) + 1
		}
	}
	for _, piece := range p {
		end := piece.at + int64(len(piece.text))
		if c.Offset >= end {
			continue
		}
		c.Offset = max(c.Offset, piece.at)
		text := piece.text[c.Offset-piece.at:]
		c.Data = []byte(text[:min(len(text), q.Limit)])
		break
	}
	c.Next = c.Offset + int64(len(c.Data))
	return c, nil
}

func TestLastOutputIsTheEnd(t *testing.T) {
	long := strings.Repeat("x", 100)
	for name, test := range map[string]struct {
		log  pieces
		tail int
		want string
	}{
		"all":                   {pieces{{0, "a\nb\nc\n"}}, 5, "a\nb\nc\n"},
		"some lines":            {pieces{{0, "a\nb\nc\n"}}, 2, "b\nc\n"},
		"none":                  {pieces{{0, ""}}, 2, ""},
		"long lines":            {pieces{{0, long + "\nwhy it died\n"}}, 5, "why it died\n"},
		"one line too long":     {pieces{{0, long + "!"}}, 5, strings.Repeat("x", 19) + "!"},
		"one long line, ended":  {pieces{{0, long + "!\n"}}, 5, strings.Repeat("x", 18) + "!\n"},
		"behind dropped bytes":  {pieces{{0, "a\n"}, {50, "b\n"}, {90, "c\n"}}, 5, "c\n"},
		"long, and drops after": {pieces{{0, long + "\n"}, {500, "the end\n"}}, 5, "the end\n"},
		"more drops than asked": {manyPieces(20), 50, "8\n"},
	} {
		s := NewServer(Options{Logs: test.log})
		c, err := s.lastOutput(t.Context(), LogQuery{Limit: 20, Tail: test.tail})
		if err != nil || string(c.Data) != test.want {
			t.Errorf("%s: %q, %v, want %q", name, c.Data, err, test.want)
		}
		if c.Next != c.Offset+int64(len(c.Data)) {
			t.Errorf("%s: offset %d and next %d of %d bytes", name, c.Offset, c.Next, len(c.Data))
		}
	}
}

// manyPieces are n lines, each behind a gap.
func manyPieces(n int) (out pieces) {
	for i := range n {
		out = append(out, struct {
			at   int64
			text string
		}{int64(i * 10), string(rune('0'+i)) + "\n"})
	}
	return out
}
