package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
)

func (a *app) logsCommand() *cobra.Command {
	var l logReader
	cmd := &cobra.Command{
		Use: "logs TARGET...", Short: "Show what instances wrote",
		Long: `Show what instances wrote to stdout and stderr: all that is kept, or the last
lines; with -f go on with what they write now. Of several instances each line
begins with whose it is.

What could drive a terminal is escaped. --raw prints the bytes of one instance
exactly as they were written.`,
		ValidArgsFunction: a.completeTargets(true, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			l.app = a
			return l.run(cmd.Context(), args)
		},
	}
	cmd.Flags().BoolVarP(&l.follow, "follow", "f", false, "go on, until ctrl-C (begins with the last 10 lines)")
	cmd.Flags().BoolVar(&l.raw, "raw", false, "every kept byte of one instance exactly as written")
	cmd.Flags().IntVarP(&l.tail, "tail", "n", 0, "only the last `LINES`")
	cmd.Flags().StringVar(&l.stream, "stream", "", "`stdout` or stderr, where output.mode is separate")
	register(cmd, "stream", cobra.FixedCompletions([]string{"stdout", "stderr"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// followTail is how many lines following begins with.
const followTail = 10

// logReader prints output.
type logReader struct {
	app         *app
	follow, raw bool
	tail        int
	stream      string

	caller   rpc.Caller
	endpoint string
	label    int // columns of the longest label; 0 shows none
}

func (l *logReader) run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("expected a target such as web or web/0")
	}
	if l.tail < 0 {
		return fmt.Errorf("cannot show the last %d lines", l.tail)
	}
	var err error
	if l.caller, l.endpoint, err = l.app.open(ctx, l.app.answerIn(nil)); err != nil {
		return err
	}
	defer l.caller.Close()
	tails, err := l.tails(ctx, args)
	if err != nil {
		return err
	}
	if l.follow && l.tail == 0 {
		l.tail = followTail
	}
	for _, t := range tails {
		if err := t.first(ctx); err != nil {
			return err
		}
	}
	for l.follow {
		if !l.rest(ctx) {
			return nil
		}
		for _, t := range tails {
			if err := t.again(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// rest waits between two looks; false at the end.
func (l *logReader) rest(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(followEvery):
		return true
	}
}

// followEvery is how old a line may be that -f shows.
const followEvery = 200 * time.Millisecond

// tails are the streams that the targets mean. An instance that the daemon
// does not know may have left files: it is asked for by number.
func (l *logReader) tails(ctx context.Context, args []string) ([]*tail, error) {
	ids, err := l.instances(ctx, args)
	if err != nil {
		return nil, err
	}
	if l.raw && len(ids) != 1 {
		return nil, fmt.Errorf("cannot print %d instances raw: name one, such as %s", len(ids), ids[0])
	}
	var out []*tail
	for _, id := range ids {
		if len(ids) > 1 {
			l.label = max(l.label, columns(safe(id.String())))
		}
		streams, err := l.streams(ctx, id)
		if err != nil {
			return nil, err
		}
		for _, s := range streams {
			out = append(out, &tail{reader: l, id: id, stream: s})
		}
	}
	return out, nil
}

func (l *logReader) instances(ctx context.Context, args []string) ([]reconcile.InstanceID, error) {
	want, err := parseTargets(args)
	if err != nil {
		return nil, err
	}
	if len(want) == 1 && want[0].Index != nil && !want[0].Glob() {
		return []reconcile.InstanceID{{Program: want[0].Program, Index: *want[0].Index}}, nil
	}
	tree, err := ask(ctx, l.caller, l.endpoint, "status", nil)
	if err != nil {
		return nil, err
	}
	var reply statusReply
	if err := into(tree, &reply); err != nil {
		return nil, err
	}
	if err := missing(want, reply.Programs); err != nil {
		return nil, err
	}
	var out []reconcile.InstanceID
	for _, name := range slices.Sorted(maps.Keys(reply.Programs)) {
		for _, index := range slices.Sorted(maps.Keys(reply.Programs[name].Instances)) {
			if wantedInstance(want, name, index) {
				out = append(out, reconcile.InstanceID{Program: name, Index: index})
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("there is no instance to show")
	}
	return out, nil
}

// streams are those of an instance that hold something: the merged one, or
// stdout and stderr.
func (l *logReader) streams(ctx context.Context, id reconcile.InstanceID) ([]string, error) {
	if l.stream != "" {
		return []string{l.stream}, nil
	}
	var some []string
	var failed error
	for _, s := range []string{"", "stdout", "stderr"} {
		chunk, err := l.read(ctx, id, map[string]any{"stream": s, "limit": 1})
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if chunk.next > 0 {
			some = append(some, s)
		}
	}
	if len(some) > 0 || l.follow && failed == nil {
		return append(some, emptyStream(some)...), nil
	}
	if failed != nil {
		_, err := l.read(ctx, id, nil)
		return []string{""}, err
	}
	return []string{""}, nil
}

// emptyStream is what is followed where nothing was written yet: everything.
func emptyStream(some []string) []string {
	if len(some) > 0 {
		return nil
	}
	return []string{"", "stdout", "stderr"}
}

// chunk is one answer of `logs`.
type chunk struct {
	data         []byte
	offset, next int64
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
	c := chunk{offset: number(m["offset"]), next: number(m["next"])}
	switch data := m["data"].(type) {
	case []byte:
		c.data = data
	case string:
		c.data = []byte(data)
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

// tail is one stream on its way to us.
type tail struct {
	reader *logReader
	id     reconcile.InstanceID
	stream string
	next   int64
	open   []byte // the beginning of a line whose end is not written yet
	shown  bool   // open was begun on the screen
}

// logPage is how many bytes are asked for at once.
const logPage = 256 << 10

// first prints what is kept.
func (t *tail) first(ctx context.Context) error {
	query := map[string]any{"stream": t.stream, "limit": logPage}
	if t.reader.tail > 0 {
		query["tail"] = t.reader.tail
	}
	for {
		c, err := t.reader.read(ctx, t.id, query)
		if err != nil {
			return err
		}
		if err := t.take(c); err != nil {
			return err
		}
		if len(c.data) == 0 {
			break
		}
		query = map[string]any{"stream": t.stream, "limit": logPage, "offset": t.next}
	}
	return t.flush(!t.reader.follow)
}

// again prints what is new. A daemon that is away for a moment is asked again
// the next time.
func (t *tail) again(ctx context.Context) error {
	for {
		c, err := t.reader.read(ctx, t.id, map[string]any{"stream": t.stream, "limit": logPage, "offset": t.next})
		if err != nil || len(c.data) == 0 {
			return t.flush(false)
		}
		if c.offset > t.next {
			report(t.reader.app.err, fmt.Sprintf("%d bytes of %s are no longer kept", c.offset-t.next, t.id))
		}
		if err := t.take(c); err != nil {
			return err
		}
	}
}

// maxOpen is how long a line may get before it is printed without its end.
const maxOpen = 64 << 10

func (t *tail) take(c chunk) error {
	t.next = c.next
	if t.reader.raw {
		_, err := t.reader.app.out.Write(c.data)
		return err
	}
	t.open = append(t.open, c.data...)
	for {
		end := bytes.IndexByte(t.open, '\n')
		if end < 0 {
			break
		}
		if err := t.write(t.open[:end], "\n"); err != nil {
			return err
		}
		t.open = t.open[end+1:]
	}
	if len(t.open) > maxOpen {
		return t.flush(false)
	}
	return nil
}

// flush prints a line that has no end yet, but no half of a character, unless
// nothing more will come.
func (t *tail) flush(last bool) error {
	n := len(t.open)
	if !last {
		n = wholeRunes(t.open)
	}
	if n == 0 {
		return nil
	}
	head, rest, end := t.open[:n], t.open[n:], ""
	if last || t.reader.label > 0 {
		end = "\n" // others write between
	}
	err := t.write(head, end)
	t.shown = end == ""
	t.open = slices.Clone(rest)
	return err
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

func (t *tail) write(text []byte, end string) error {
	line := escape(string(text), "\t") + end
	if t.reader.label > 0 && !t.shown {
		name := safe(t.id.String())
		line = t.reader.app.paint().paint(name, cyan) + fmt.Sprintf("%*s | ", t.reader.label-columns(name), "") + line
	}
	t.shown = false
	_, err := io.WriteString(t.reader.app.out, line)
	return err
}
