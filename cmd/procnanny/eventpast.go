package main

import (
	"context"
	"math"
	"time"

	"github.com/procnanny/procnanny/rpc"
)

// past prints what is kept: after since, or the last few. Following begins
// with what comes now, unless that was asked for.
func (e *eventReader) past(ctx context.Context, c rpc.Caller, endpoint string) error {
	if e.sinceGiven {
		return e.toTheEnd(ctx, c, endpoint, e.print)
	}
	keep := e.limit
	if e.follow && !e.limitGiven {
		keep = 0
	}
	newest, err := e.newest(ctx, c, endpoint)
	if e.since = newest; err != nil || keep == 0 {
		return err
	}
	var last []map[string]any
	for back := uint64(keep); ; back *= 4 { // most may be of other topics
		begin := newest - min(back, newest)
		e.since, last = begin, nil
		err := e.toTheEnd(ctx, c, endpoint, func(events ...map[string]any) error {
			last = append(last, events...)
			last = last[max(0, len(last)-keep):]
			return nil
		})
		if err != nil {
			return err
		}
		if len(last) == keep || begin == 0 {
			return e.print(last...)
		}
	}
}

// toTheEnd hands over everything after since, page by page.
func (e *eventReader) toTheEnd(ctx context.Context, c rpc.Caller, endpoint string, take func(...map[string]any) error) error {
	for more := true; more; {
		page, err := e.patiently(ctx, endpoint, func() (eventsReply, error) { return e.page(ctx, c, endpoint) })
		if err != nil {
			return err
		}
		e.since, more = page.Next, page.More
		if err := take(page.Events...); err != nil {
			return err
		}
	}
	return nil
}

// newest is the seq of the last event. It is found by halving: everything there
// is may be a million events.
func (e *eventReader) newest(ctx context.Context, c rpc.Caller, endpoint string) (uint64, error) {
	anything := func(after uint64) (bool, error) {
		page, err := e.patiently(ctx, endpoint, func() (eventsReply, error) {
			return e.fetch(ctx, c, endpoint, map[string]any{"since": after, "limit": 1})
		})
		return len(page.Events) > 0, err
	}
	low, high := uint64(0), uint64(1)
	for high < math.MaxInt64/2 {
		some, err := anything(high)
		if err != nil {
			return 0, err
		}
		if !some {
			break
		}
		low, high = high, 2*high
	}
	for low < high {
		mid := low + (high-low)/2
		some, err := anything(mid)
		switch {
		case err != nil:
			return 0, err
		case some:
			low = mid + 1
		default:
			high = mid
		}
	}
	return low, nil
}

// patiently asks again while it follows and the daemon's control process may have
// died that moment.
func (e *eventReader) patiently(ctx context.Context, endpoint string, ask func() (eventsReply, error)) (eventsReply, error) {
	until := time.Now().Add(followPatience)
	for {
		page, err := ask()
		if err == nil || !e.follow || !away(endpoint, err) || !time.Now().Before(until) {
			return page, err
		}
		if _, ok := e.wait(ctx, nil); !ok {
			return page, ctx.Err()
		}
	}
}
