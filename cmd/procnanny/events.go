package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
)

func (a *app) eventsCommand() *cobra.Command {
	var e eventReader
	cmd := &cobra.Command{
		Use: "events [TARGET | TOPIC]...", Short: "Show what happened, and follow what happens",
		Long: `Show the last events, or those after a sequence number; with -f go on with what
happens now, without gaps. A TARGET means what happened to it: web, web/2, "w*". A
TOPIC is the beginning of one: "state.", "state.web.0", "config", "output.web.0" (a
program of such a name is "[c]onfig"). Events of output are not kept: they are seen
with -f only, and by their topic.`,
		ValidArgsFunction: a.completeWhich,
		RunE: func(cmd *cobra.Command, args []string) error {
			e.app, e.sinceGiven = a, cmd.Flags().Changed("since")
			for _, arg := range args {
				w, err := parseWhich(arg)
				if err != nil {
					return err
				}
				e.which = append(e.which, w)
			}
			if e.limitGiven = cmd.Flags().Changed("limit"); e.limit < 0 {
				return fmt.Errorf("cannot show the last %d events", e.limit)
			}
			return e.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVarP(&e.follow, "follow", "f", false, "go on, until ctrl-C")
	cmd.Flags().Uint64Var(&e.since, "since", 0, "only events after this `SEQ`")
	cmd.Flags().IntVar(&e.limit, "limit", 100, "without --since, the last `N` (0 with -f, unless given)")
	return cmd
}

// eventReader prints events from the daemon's store. While it follows, the
// subscription only says when to look, so that nothing is printed twice, out of
// order, or missed: what has no seq (output) is the exception, and printed as it
// comes.
type eventReader struct {
	app        *app
	which      []which
	follow     bool
	since      uint64
	sinceGiven bool
	limit      int
	limitGiven bool
	found      bool // something was printed
}

// eventPage is how many events are asked for at once.
const eventPage = 1000

// eventsReply is one page.
type eventsReply struct {
	Events []map[string]any `json:"events"`
	Next   uint64           `json:"next"`
	More   bool             `json:"more"`
}

func (e *eventReader) run(ctx context.Context) error {
	c, endpoint, err := e.app.open(ctx, e.app.answerIn(nil))
	if err != nil {
		return err
	}
	defer func() { c.Close() }()
	var live <-chan map[string]any
	if e.follow {
		var cancel context.CancelFunc
		ctx, cancel = e.app.following(ctx)
		defer cancel()
		var stop func()
		if live, stop, err = e.listen(ctx); err != nil {
			return err
		}
		defer stop()
	}
	err = e.past(ctx, c, endpoint)
	switch {
	case ctx.Err() != nil:
		return nil // ctrl-C
	case err != nil:
		return err
	case !e.follow && !e.found:
		return e.unknown(ctx, c, endpoint)
	case !e.follow:
		return nil
	}
	for {
		event, ok := e.wait(ctx, live)
		if !ok {
			return nil
		}
		if event != nil && event["seq"] == nil {
			if err := e.print(event); err != nil {
				return err
			}
			continue
		}
		// A daemon that is away for a moment is asked again at the next look.
		if err := e.print(e.pages(ctx, c, endpoint)...); err != nil {
			return err
		}
	}
}

// followAnswer is how long one answer may take before it is asked for again.
const followAnswer = 5 * time.Second

// followPatience is how long following waits for the first answers of a daemon
// whose socket was there: its control process may have died that moment.
const followPatience = 30 * time.Second

func away(endpoint string, err error) bool {
	var e *exit
	return strings.HasPrefix(endpoint, "ipc://") && errors.As(err, &e) && e.code == exitUnreachable
}

// pages are all events after the last that was seen.
func (e *eventReader) pages(ctx context.Context, c rpc.Caller, endpoint string) []map[string]any {
	var out []map[string]any
	for {
		page, err := e.page(ctx, c, endpoint)
		if err != nil {
			return out
		}
		out = append(out, page.Events...)
		e.since = page.Next
		if !page.More {
			return out
		}
	}
}

// page is the next page after since, of what is wanted.
func (e *eventReader) page(ctx context.Context, c rpc.Caller, endpoint string) (eventsReply, error) {
	query := map[string]any{"since": e.since, "limit": eventPage}
	if topic := e.only(); topic != "" {
		query["topic"] = topic
	}
	page, err := e.fetch(ctx, c, endpoint, query)
	page.Events = slices.DeleteFunc(page.Events, func(ev map[string]any) bool { return !e.wants(ev) })
	return page, err
}

func (e *eventReader) fetch(ctx context.Context, c rpc.Caller, endpoint string, query map[string]any) (page eventsReply, err error) {
	if e.follow { // what was asked of a control process that died is never answered
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, followAnswer)
		defer cancel()
	}
	tree, err := ask(ctx, c, endpoint, "events", query)
	if err != nil {
		return page, err
	}
	return page, into(tree, &page)
}

// catchUpEvery is when we look without having been told to: what was published
// while the daemon's control process came back has no other way to us.
const catchUpEvery = time.Second

// wait returns the next event, or nil when it is time to look; false at the end.
func (e *eventReader) wait(ctx context.Context, live <-chan map[string]any) (map[string]any, bool) {
	tick := time.NewTimer(catchUpEvery)
	defer tick.Stop()
	select {
	case <-ctx.Done():
		return nil, false
	case event := <-live:
		return event, true
	case <-tick.C:
		return nil, true
	}
}

// maxLive is how many events may wait to be printed. What has a seq is in the
// store; output beyond that is lost to us, and visible in its offsets.
const maxLive = 1024

func (e *eventReader) listen(ctx context.Context) (<-chan map[string]any, func(), error) {
	endpoint, err := e.app.eventsEndpoint()
	if err != nil {
		return nil, nil, err
	}
	sub, err := e.app.subscribe(endpoint, e.subscriptions())
	if err != nil {
		return nil, nil, fmt.Errorf("cannot follow events at %s: %w", endpoint, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ch, done := make(chan map[string]any, maxLive), make(chan struct{})
	go func() {
		defer close(done)
		defer sub.Close()
		for {
			topic, event, err := sub.Next(ctx)
			if err != nil {
				return
			}
			m, _ := normal(event).(map[string]any)
			if m == nil {
				continue
			}
			m["topic"] = topic
			select {
			case ch <- m:
			default:
			}
		}
	}()
	return ch, func() { cancel(); <-done }, nil
}

// print writes events: a line each, also as JSON.
func (e *eventReader) print(events ...map[string]any) error {
	e.found = e.found || len(events) > 0
	for _, ev := range events {
		var err error
		switch e.app.output {
		case "json":
			err = writeLine(e.app.out, ev)
		case "yaml":
			e.app.put("---")
			err = writeYAML(e.app.out, ev)
		default:
			e.app.put(eventLine(ev, e.app.paint()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unsaid are the keys that a line says otherwise, or leaves to -o json.
var unsaid = map[string]bool{
	"event": true, "program": true, "instance": true, "state": true, "seq": true, "prev": true, "time": true, "topic": true,
	"from": true, "run_id": true, "duration": true, "source": true, "offset": true,
}

// eventLine is when, what of, what, and the rest.
func eventLine(event map[string]any, p painter) string {
	at, _ := event["time"].(float64)
	name, _ := event["event"].(string)
	what := safe(name)
	look := stateStyle[name]
	if look == dim {
		look = none
	}
	var line strings.Builder
	line.WriteString(p.paint(epoch(at).Local().Format("2006-01-02 15:04:05.000"), dim))
	id := eventSubject(event)
	if id != "" {
		line.WriteString("  " + safe(id))
	}
	line.WriteString("  " + p.paint(what, look))
	for _, key := range slices.Sorted(maps.Keys(event)) {
		if key == "generation" && id != "" {
			continue // which one it runs under, not what happened
		}
		if v := event[key]; !unsaid[key] && !nothing(key, v) {
			line.WriteString("  " + safe(key) + "=" + safe(fieldText(key, v)))
		}
	}
	return line.String()
}

// nothing reports whether a value says only that there is none. A code of 0 is
// something, a pid of 0 is not.
func nothing(key string, v any) bool {
	return v == nil || v == false || v == "" || key == "pid" && number(v) == 0
}

func eventSubject(event map[string]any) string {
	program, ok := event["program"].(string)
	if !ok {
		return ""
	}
	if index := event["instance"]; index != nil {
		return reconcile.InstanceID{Program: program, Index: int(number(index))}.String()
	}
	return program
}

// fieldText is a value on a line; who asked is said in words.
func fieldText(key string, v any) string {
	if by, ok := v.(map[string]any); ok && key == "by" {
		var b byView
		if into(by, &b) == nil {
			return b.text()
		}
	}
	if data, ok := v.([]byte); ok {
		return string(data)
	}
	return rawText(v)
}
