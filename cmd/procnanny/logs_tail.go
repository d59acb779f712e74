package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/procnanny/procnanny/reconcile"
)

// tail is one stream on its way to us.
type tail struct {
	reader *logReader
	id     reconcile.InstanceID
	stream string
	run    uint64 // only what this one wrote; 0 is everybody's

	next   int64     // the first byte not yet asked for
	first  bool      // nothing was asked for yet
	done   bool      // there is no more now
	open   []byte    // the beginning of a line whose end did not come yet
	openAt int64     // the number of its first byte
	marks  []logMark // that date what is not cut into lines yet
	lines  []logLine // that are not printed yet
	grew   time.Time // when the last bytes came
}

// logLine is a line, or a part of one.
type logLine struct {
	tail   *tail
	offset int64
	time   float64 // 0 is not known
	run    uint64
	text   []byte
	ended  bool
}

// begin makes ready to read; the last lines that match are only known when all
// were seen.
func (t *tail) begin(ctx context.Context) error {
	l := t.reader
	t.first = true
	if l.none {
		c, err := l.read(ctx, t.id, map[string]any{"stream": t.stream, "tail": 1, "limit": 1})
		t.first, t.next, t.done = false, c.end, true
		return err
	}
	if l.match == nil || l.tail == 0 {
		return nil
	}
	for !t.done {
		if err := t.look(ctx); err != nil {
			return err
		}
		t.lines = slices.Clone(t.lines[max(0, len(t.lines)-l.tail):])
	}
	return nil
}

// fill makes sure that there is a line, if there is any.
func (t *tail) fill(ctx context.Context) error {
	for len(t.lines) == 0 && !t.done {
		err := t.look(ctx)
		if err != nil && !t.reader.going {
			return err
		}
		t.done = t.done || err != nil
	}
	return nil
}

func (t *tail) pop() logLine {
	line := t.lines[0]
	t.lines = t.lines[1:]
	return line
}

// query is what is asked for next.
func (t *tail) query() map[string]any {
	l := t.reader
	q := map[string]any{"stream": t.stream, "limit": l.page}
	for key, at := range map[string]float64{"since": l.since, "until": l.until} {
		if at != 0 {
			q[key] = at
		}
	}
	if t.run != 0 {
		q["run"] = t.run
	}
	switch {
	case !t.first:
		q["offset"] = t.next
	case l.tail > 0 && l.match == nil:
		q["tail"] = l.tail
	}
	return q
}

// look takes the next page.
func (t *tail) look(ctx context.Context) error {
	c, err := t.reader.read(ctx, t.id, t.query())
	if err != nil {
		return err
	}
	if !t.first && c.offset > t.next && len(c.data) > 0 {
		t.flushOpen()
		report(t.reader.app.err, fmt.Sprintf("%d bytes of %s are no longer kept, or were dropped", c.offset-t.next, t.id))
	}
	t.done = len(c.data) == 0
	if !t.done {
		t.grew = t.reader.app.now()
	}
	t.first, t.next = false, c.next
	t.take(c)
	return nil
}

// maxOpen is how long a line may get before it is printed without its end.
const maxOpen = 64 << 10

// take cuts a page into lines.
func (t *tail) take(c chunk) {
	if t.reader.raw {
		if len(c.data) > 0 {
			t.lines = append(t.lines, logLine{tail: t, text: c.data})
		}
		return
	}
	if len(t.open) == 0 {
		t.openAt = c.offset
	}
	t.marks = append(t.marks, c.marks...)
	t.open = append(t.open, c.data...)
	for {
		end := bytes.IndexByte(t.open, '\n')
		if end < 0 {
			break
		}
		t.cut(end, 1)
	}
	t.open = slices.Clone(t.open) // let go of the page
	if len(t.open) > maxOpen {
		t.cut(wholeRunes(t.open), 0)
	}
}

// cut makes a line of the first n bytes of open, which end bytes end.
func (t *tail) cut(n, end int) {
	line := logLine{tail: t, offset: t.openAt, text: t.open[:n], ended: end > 0}
	for len(t.marks) > 1 && t.marks[1].offset <= t.openAt {
		t.marks = t.marks[1:]
	}
	if len(t.marks) > 0 && t.marks[0].offset <= t.openAt {
		line.time, line.run = t.marks[0].time, t.marks[0].run
	}
	t.open, t.openAt = t.open[n+end:], t.openAt+int64(n+end)
	if t.reader.match == nil || t.reader.match.Match(line.text) {
		t.lines = append(t.lines, line)
	}
}

// flushOpen makes a line of one that will have no end.
func (t *tail) flushOpen() {
	before := len(t.lines)
	if len(t.open) > 0 {
		t.cut(len(t.open), 0)
	}
	if len(t.lines) > before {
		t.lines[before].ended = true
	}
}

// flush prints a line that has no end yet, but no half of a character, unless
// nothing more will come.
func (t *tail) flush(last bool) error {
	n := len(t.open)
	if !last {
		n = wholeRunes(t.open)
	}
	if n == 0 || !last && t.reader.app.output != "text" { // JSON knows no half lines
		return nil
	}
	t.cut(n, 0)
	if len(t.lines) == 0 { // it does not match
		return nil
	}
	line := t.pop()
	line.ended = last || t.reader.label > 0 // others may write between
	return t.reader.print(line)
}

// wholeRunes is how much of b ends with a whole character.
func wholeRunes(b []byte) int {
	for i := 1; i <= min(utf8.UTFMax-1, len(b)); i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-i:]) {
				return len(b) - i
			}
			break
		}
	}
	return len(b)
}

// chunk is one answer of `logs`.
type chunk struct {
	data         []byte
	offset, next int64
	end          int64 // of all that there is
	marks        []logMark
}

// logMark dates the bytes from offset on.
type logMark struct {
	offset int64
	time   float64
	run    uint64
}

func (l *logReader) read(ctx context.Context, id reconcile.InstanceID, query map[string]any) (chunk, error) {
	q := map[string]any{"program": id.Program, "instance": id.Index}
	for k, v := range query {
		if v != "" {
			q[k] = v
		}
	}
	tree, err := ask(ctx, l.caller, l.endpoint, "logs", q)
	if err != nil {
		return chunk{}, err
	}
	m, _ := tree.(map[string]any)
	c := chunk{offset: number(m["offset"]), next: number(m["next"]), end: number(m["end"])}
	switch data := m["data"].(type) {
	case []byte:
		c.data = data
	case string:
		c.data = []byte(data)
	}
	marks, _ := m["marks"].([]any)
	for _, v := range marks {
		if list, _ := v.([]any); len(list) == 3 {
			c.marks = append(c.marks, logMark{number(list[0]), real64(list[1]), uint64(number(list[2]))})
		}
	}
	return c, nil
}

// number is an integer of a tree.
func number(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case uint64:
		return int64(v)
	case int:
		return int64(v)
	case int8:
		return int64(v)
	case float64:
		return int64(v)
	}
	return 0
}

// real64 is a number of a tree that may have a fraction.
func real64(v any) float64 {
	if f, ok := v.(float64); ok {
		return f
	}
	return float64(number(v))
}
