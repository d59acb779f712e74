package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
)

// labelStyles tell neighbours apart; each of the basic eight is readable.
var labelStyles = []style{cyan, green, yellow, "35", "34"}

// print shows one line.
func (l *logReader) print(line logLine) error {
	switch {
	case l.raw:
		_, err := l.app.out.Write(line.text)
		return err
	case l.app.output == "json":
		return writeLine(l.app.out, line.tree())
	case l.app.output == "yaml":
		l.app.put("---")
		return writeYAML(l.app.out, line.tree())
	}
	var b strings.Builder
	if l.open != nil && l.open != line.tail {
		b.WriteByte('\n')
	}
	if l.open != line.tail {
		b.WriteString(l.head(line))
	}
	b.WriteString(escape(string(line.text), "\t"))
	l.open = line.tail
	if line.ended {
		b.WriteByte('\n')
		l.open = nil
	}
	_, err := io.WriteString(l.app.out, b.String())
	return err
}

// head is whose line it is, and when it came.
func (l *logReader) head(line logLine) string {
	head := ""
	if l.label > 0 {
		name := safe(line.tail.id.String())
		look := labelStyles[slices.Index(l.tails, line.tail)%len(labelStyles)]
		head = l.app.paint().paint(name, look) + strings.Repeat(" ", max(0, l.label-columns(name))) + " | "
	}
	if l.times {
		at := strings.Repeat("-", len(timeLayout))
		if line.time != 0 {
			at = epoch(line.time).Local().Format(timeLayout)
		}
		head += l.app.paint().paint(at, dim) + " "
	}
	return head
}

const timeLayout = "2006-01-02 15:04:05.000"

// tree is a line for machines. What is no text comes as bytes, too.
func (l logLine) tree() map[string]any {
	stream := l.tail.stream
	if stream == "" {
		stream = rpc.SourceMerged
	}
	m := map[string]any{
		"program": l.tail.id.Program, "instance": l.tail.id.Index, "source": stream, "offset": l.offset,
		"time": l.time, "run_id": l.run, "text": strings.ToValidUTF8(string(l.text), "\ufffd"),
	}
	if !utf8.Valid(l.text) {
		m["data"] = l.text
	}
	return m
}

// listen hears which streams grew. Without a subscription there is only the
// clock.
func (l *logReader) listen(ctx context.Context) (<-chan streamID, func()) {
	if !l.follow {
		return nil, func() {}
	}
	endpoint, err := l.app.eventsEndpoint()
	if err != nil {
		return nil, func() {}
	}
	sub, err := l.app.subscribe(endpoint, l.topics())
	if err != nil {
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ch, done := make(chan streamID, maxLive), make(chan struct{})
	go func() {
		defer close(done)
		defer sub.Close()
		for {
			_, event, err := sub.Next(ctx)
			if err != nil {
				return
			}
			m, _ := normal(event).(map[string]any)
			program, _ := m["program"].(string)
			source, _ := m["source"].(string)
			if source == rpc.SourceMerged {
				source = ""
			}
			select {
			case ch <- streamID{reconcile.InstanceID{Program: program, Index: int(number(m["instance"]))}, source}:
			default: // the clock finds it
			}
		}
	}()
	return ch, func() { cancel(); <-done }
}

type streamID struct {
	id     reconcile.InstanceID
	stream string
}

// topics are the prefixes of what the targets mean: of the whole program, so
// that an instance that comes later is seen.
func (l *logReader) topics() (out []string) {
	for _, w := range l.want {
		topic := "output."
		if !w.Glob() {
			topic += rpc.EscapeTopic(w.Program) + "."
			if w.Index != nil {
				topic += fmt.Sprint(*w.Index, ".")
			}
		}
		out = append(out, topic)
	}
	return out
}

// halfLine is how long the end of a line is waited for, if others write between.
const halfLine = 500 * time.Millisecond

// live goes on until ctx ends. The messages only say where to look, so that
// nothing is printed twice, out of order, or missed.
func (l *logReader) live(ctx context.Context, news <-chan streamID) error {
	l.going = true
	every := followEvery
	if news != nil {
		every = catchUpEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		var some []*tail
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			some = l.tails
		case n := <-news:
			some = l.grown(n, news)
		}
		if err := l.again(ctx, some); err != nil {
			return err
		}
	}
}

// grown are the tails of one message and of those that wait behind it.
func (l *logReader) grown(n streamID, news <-chan streamID) (out []*tail) {
	for {
		if t := l.find(n); t != nil && !slices.Contains(out, t) {
			out = append(out, t)
		}
		select {
		case n = <-news:
		default:
			return out
		}
	}
}

// find returns the tail of a stream, a new one for a stream that we did not
// know: it is shown from its first byte.
func (l *logReader) find(n streamID) *tail {
	for _, t := range l.tails {
		if t.id == n.id && t.stream == n.stream {
			return t
		}
	}
	if !wantedInstance(l.want, n.id.Program, n.id.Index) || l.stream != "" && l.stream != n.stream || l.raw || l.runID != 0 || l.previous {
		return nil
	}
	t := &tail{reader: l, id: n.id, stream: n.stream, first: true}
	l.tails = append(l.tails, t)
	for _, other := range l.tails {
		if other.id != n.id {
			l.label = max(l.label, columns(safe(n.id.String())), columns(safe(other.id.String())))
		}
	}
	return t
}

// again prints what is new. A daemon that is away for a moment is asked again
// the next time.
func (l *logReader) again(ctx context.Context, some []*tail) error {
	before := map[*tail]int64{}
	for _, t := range some {
		before[t], t.done = t.next, false
	}
	if err := l.merge(ctx, some); err != nil {
		return err
	}
	for _, t := range some {
		// Where others write between, half a line waits for its other half.
		if l.label > 0 && (t.next != before[t] || l.app.now().Sub(t.grew) < halfLine) {
			continue
		}
		if err := t.flush(false); err != nil {
			return err
		}
	}
	return nil
}
