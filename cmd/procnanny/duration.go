package main

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// span is a duration as people say it: two units at most.
func span(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	switch {
	case d < 10*time.Second:
		return strconv.FormatFloat(math.Floor(d.Seconds()*10)/10, 'f', -1, 64) + "s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	const day = 24 * time.Hour
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}

// seconds makes a wire duration a Go one.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// epoch makes a wire time a Go one; 0 is no time.
func epoch(s float64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(math.Round(s * 1e6)))
}

// clock is a wire time for people: local, to the second.
func clock(s float64) string {
	if s == 0 {
		return ""
	}
	return epoch(s).Local().Format("2006-01-02 15:04:05")
}

// ago is how long before now a wire time was.
func ago(s float64, now time.Time) string { return span(now.Sub(epoch(s))) + " ago" }
