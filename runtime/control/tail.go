package control

import (
	"cmp"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/runtime/output"
	"github.com/procnanny/procnanny/spec"
)

const (
	// tailChunk is the most bytes of one output event.
	tailChunk = 64 << 10
	// tailBurst is how many chunks of a stream go out before others' turn.
	tailBurst = 16
)

// tail publishes what programs write, while somebody subscribes to it. The
// keeper writes the files and knows nothing of this: the tail reads them, told
// by inotify that they grew. One goroutine owns all but ops.
type tail struct {
	c     *Control
	ops   chan func()
	poke  chan struct{}
	watch *output.Watch
	// at is where each stream of a watched program was read to.
	at map[streamKey]int64
	// watched are the programs that somebody wants the output of.
	watched map[string]bool
	// left are streams that have more than one turn may take.
	left  map[streamKey]bool
	again chan struct{}
}

type streamKey struct {
	program string
	index   int
	stream  string
}

func newTail(c *Control) *tail {
	return &tail{
		c: c, ops: make(chan func()), poke: make(chan struct{}, 1), at: map[streamKey]int64{}, watched: map[string]bool{}, left: map[streamKey]bool{}, again: make(chan struct{}, 1),
	}
}

// run serves until ctx ends. Nothing of it wakes up while nobody subscribes.
func (t *tail) run(ctx context.Context) {
	var err error
	if t.watch, err = t.c.logs.Watch(); err != nil {
		t.c.log.Warn("output will not be published", "error", err)
		t.watch = nil
	} else {
		defer t.watch.Close()
	}
	grown := make(chan []output.Grown)
	if t.watch != nil {
		go t.wait(ctx, grown)
	}
	for {
		select {
		case op := <-t.ops:
			op()
		case <-t.poke:
			t.look()
		case list := <-grown:
			for _, g := range list {
				t.grew(g)
			}
		case <-t.again:
			t.goOn()
		case <-ctx.Done():
			return
		}
	}
}

func (t *tail) wait(ctx context.Context, grown chan<- []output.Grown) {
	for {
		list, err := t.watch.Wait()
		if err != nil {
			return // closed
		}
		select {
		case grown <- list:
		case <-ctx.Done():
			return
		}
	}
}

// subscribed has it looked again who wants what. It never blocks.
func (t *tail) subscribed() {
	select {
	case t.poke <- struct{}{}:
	default:
	}
}

// look follows what is wanted of all programs there are.
func (t *tail) look() {
	views := t.c.engine.View().Programs
	names := make([]string, len(views))
	for n, p := range views {
		names[n] = p.Name
	}
	t.follow(names)
}

// expect begins to follow programs that may start in a moment, so that not
// even their first line is missed.
func (t *tail) expect(ctx context.Context, programs map[string]spec.Program) {
	if net := t.c.rec.net.Load(); net == nil || !(*net).Subscribed("output.") {
		return
	}
	names := make([]string, 0, len(programs))
	for name := range programs {
		names = append(names, name)
	}
	t.do(ctx, func() { t.follow(names) })
}

// do runs op on the tail's goroutine and returns when it is done.
func (t *tail) do(ctx context.Context, op func()) {
	done := make(chan struct{})
	select {
	case t.ops <- func() { defer close(done); op() }:
		<-done
	case <-ctx.Done():
	}
}

// follow watches those of names that somebody wants and were not watched, and
// lets go of what nobody wants any more.
func (t *tail) follow(names []string) {
	net := t.c.rec.net.Load()
	if net == nil || t.watch == nil {
		return
	}
	want := func(name string) bool { return (*net).Subscribed(programTopic("output", name) + ".") }
	for name := range t.watched {
		if !want(name) {
			t.watch.Remove(name)
			t.forget(name)
		}
	}
	for _, name := range names {
		if !t.watched[name] && want(name) {
			t.begin(name)
		}
	}
}

func (t *tail) forget(program string) {
	delete(t.watched, program)
	ours := func(k streamKey) bool { return k.program == program }
	maps.DeleteFunc(t.at, func(k streamKey, _ int64) bool { return ours(k) })
	maps.DeleteFunc(t.left, func(k streamKey, _ bool) bool { return ours(k) })
}

// begin follows a program from where its files end now. A stream that has no
// file yet begins at its first byte.
func (t *tail) begin(program string) {
	if err := t.watch.Add(program); err != nil {
		t.c.log.Warn("cannot follow output", "program", program, "error", err)
		return
	}
	t.watched[program] = true
	for _, index := range t.indexes(program) {
		streams, err := t.c.logs.Streams(program, index)
		if err != nil {
			continue
		}
		for _, stream := range streams {
			key := streamKey{program, index, stream}
			if _, known := t.at[key]; known {
				continue
			}
			if c, err := t.c.logs.Read(output.Query{Program: program, Index: index, Stream: stream, Limit: 1}); err == nil {
				t.at[key] = c.End
			}
		}
	}
}

// indexes are those that have a file, of instances that live or once did.
func (t *tail) indexes(program string) []int {
	entries, err := os.ReadDir(filepath.Join(t.c.cfg.Place.LogDir, program))
	if err != nil {
		return nil
	}
	seen := map[int]bool{}
	var out []int
	for _, e := range entries {
		number, _, _ := strings.Cut(e.Name(), ".")
		if n, err := strconv.Atoi(number); err == nil && n >= 0 && !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}

// grew publishes what is new in a stream.
func (t *tail) grew(g output.Grown) {
	switch {
	case !t.watched[g.Program]:
		return
	case g.Index < 0: // the kernel lost count: look at all of it, watched anew
		t.begin(g.Program)
		for k := range t.at {
			if k.program == g.Program {
				t.publish(k)
			}
		}
		return
	}
	t.publish(streamKey{g.Program, g.Index, g.Stream})
}

// publish sends what a stream has beyond what was sent, but leaves the rest for
// later when it is much.
func (t *tail) publish(k streamKey) {
	net := t.c.rec.net.Load()
	topic := instanceTopic("output", reconcile.InstanceID{Program: k.program, Index: k.index}) + "." + cmp.Or(k.stream, rpc.SourceMerged)
	for range tailBurst {
		at := t.at[k]
		c, err := t.c.logs.Read(output.Query{Program: k.program, Index: k.index, Stream: k.stream, Offset: &at, Limit: tailChunk})
		if err != nil || len(c.Data) == 0 {
			return // gone, or being put aside: there will be another note
		}
		t.at[k] = c.Next
		if !(*net).Subscribed(topic) {
			continue
		}
		now := time.Now()
		if body, err := rpc.EncodeEvent(&rpc.Event{Time: now, Topic: topic, Fields: outputFields(k, &c)}); err == nil {
			(*net).Publish([]rpc.Message{{Topic: topic, Body: body}})
		}
	}
	t.left[k] = true
	select {
	case t.again <- struct{}{}:
	default:
	}
}

// goOn publishes more of what was much.
func (t *tail) goOn() {
	list := t.left
	t.left = map[streamKey]bool{}
	for k := range list {
		t.publish(k)
	}
}

// outputFields are the map of an output event.
func outputFields(k streamKey, c *output.Chunk) rpc.Map {
	m := rpc.Map{
		{Key: "event", Value: "output"},
		{Key: "program", Value: k.program},
		{Key: "instance", Value: k.index},
		{Key: "source", Value: cmp.Or(k.stream, rpc.SourceMerged)},
		{Key: "data", Value: c.Data},
		{Key: "offset", Value: c.Offset},
	}
	for _, v := range slices.Backward(c.Marks) {
		if mark := v; mark.Run != 0 && mark.Offset <= c.Offset {
			return append(m, rpc.Field{Key: "run_id", Value: mark.Run})
		}
	}
	return m
}
