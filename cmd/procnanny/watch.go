package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Times of status --watch: a picture each second, so that uptimes move, and
// sooner when something happens, but not more often than people can see.
const (
	watchEvery  = time.Second
	watchSettle = 100 * time.Millisecond
)

// The terminal's alternate screen, without a cursor; and back.
const (
	screenEnter = "\x1b[?1049h\x1b[?25l"
	screenLeave = "\x1b[?25h\x1b[?1049l"
	screenHome  = "\x1b[H"
	lineClear   = "\x1b[K"
	belowClear  = "\x1b[J"
)

// watchStatus shows status until ctx ends: on a terminal in place, elsewhere (and
// on one that can do nothing but print) a picture whenever more than time has
// changed.
func (a *app) watchStatus(ctx context.Context, f statusFlags, want []pattern) error {
	first, err := a.look(ctx, f, want)
	if err != nil {
		return err // not there from the beginning: an error as of any command
	}
	if err := missing(want, first.text.reply.Programs); err != nil {
		return err
	}
	ctx, cancel := a.following(ctx)
	defer cancel()
	changed, stop := a.listen(ctx)
	defer stop()
	show := a.follower()
	if a.terminal.is && a.output == "text" && a.getenv("TERM") != "dumb" {
		_, _ = io.WriteString(a.out, screenEnter) // out remembers
		defer func() { a.put(screenLeave + a.lastPicture(first)) }()
		show = a.redraw
	}
	p := &first
	for {
		if err := show(*p); err != nil {
			return err
		}
		if !pause(ctx, changed) {
			return nil
		}
		next, err := a.look(ctx, f, want)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			p.trouble = firstLine(err) // the last picture, and what is wrong now
		default:
			*p = next
		}
	}
}

// picture is one look at the status.
type picture struct {
	tree    any
	text    statusText
	trouble string
}

func (a *app) look(ctx context.Context, f statusFlags, want []pattern) (picture, error) {
	tree, err := a.call(ctx, "status", f.args())
	if err != nil {
		return picture{}, err
	}
	p := picture{tree: only(tree, want), text: statusText{now: a.now(), want: want, every: f.every}}
	err = into(tree, &p.text.reply)
	return p, err
}

// pause waits for the next look; it reports whether there shall be one.
func pause(ctx context.Context, changed <-chan struct{}) bool {
	tick := time.NewTimer(watchEvery)
	defer tick.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-tick.C:
		return true
	case <-changed:
	}
	select { // what belongs together comes together
	case <-ctx.Done():
		return false
	case <-time.After(watchSettle):
	}
	select {
	case <-changed:
	default:
	}
	return true
}

// listen tells when something was published. Without a subscription there is
// only the clock, which is good enough.
func (a *app) listen(ctx context.Context) (changed <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	endpoint, err := a.eventsEndpoint()
	if err != nil {
		return ch, func() {}
	}
	sub, err := a.subscribe(endpoint, []string{"state.", "config", "held."})
	if err != nil {
		return ch, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer sub.Close()
		for {
			if _, _, err := sub.Next(ctx); err != nil {
				return
			}
			select {
			case ch <- struct{}{}:
			default: // a look is owed already
			}
		}
	}()
	return ch, func() { cancel(); <-done }
}

// redraw puts a picture over the last one, clipped to the terminal.
func (a *app) redraw(p picture) error {
	width, height := a.terminal.size()
	lines := p.lines(a.paint(), width)
	if len(lines) > height {
		more := fmt.Sprintf("... %d more rows: name targets to see fewer", len(lines)-height+1)
		lines = append(lines[:max(height-1, 0):max(height-1, 0)], a.paint().paint(clip(more, width), dim))
	}
	_, err := io.WriteString(a.out, screenHome+strings.Join(lines, lineClear+"\r\n")+lineClear+belowClear)
	return err
}

func (p picture) lines(paint painter, width int) []string {
	lines := p.text.lines(paint, width)
	if p.trouble != "" {
		lines = slices.Insert(lines, 0, paint.paint(clip(safe(p.trouble), width), red))
	}
	return lines
}

// lastPicture stays on the screen when watching ends.
func (a *app) lastPicture(p picture) string {
	return strings.Join(p.lines(a.paint(), a.limit()), "\n")
}

// follower prints pictures one below the other, each time they differ.
func (a *app) follower() func(picture) error {
	last := ""
	return func(p picture) error {
		look := p.look()
		if look == last {
			return nil
		}
		between := last != ""
		last = look
		switch {
		case p.trouble != "":
			report(a.err, p.trouble)
			return nil
		case a.output == "json":
			return writeLine(a.out, p.tree)
		case a.output == "yaml":
			a.put("---")
		case between:
			a.put("")
		}
		return a.emit(p.tree, func() error {
			_, err := io.WriteString(a.out, strings.Join(p.lines(a.paint(), 0), "\n")+"\n")
			return err
		})
	}
}

// look is what makes two pictures differ: everything but the time.
func (p picture) look() string {
	timeless := p.text
	timeless.now = time.Time{}
	return p.trouble + "\n" + strings.Join(timeless.lines(false, 0), "\n")
}

func firstLine(err error) string {
	var e *exit
	text := err.Error()
	if errors.As(err, &e) && e.cause != nil {
		text = e.cause.Error()
	}
	line, _, _ := strings.Cut(text, "\n")
	return line
}
