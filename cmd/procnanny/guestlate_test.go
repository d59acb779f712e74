package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	lateSets    = 24                    // starts that are waited for while somebody sets the clock
	lateAllowed = 50 * time.Millisecond // that this may make a start later
)

// guestLateness: a start that is due comes no later because the clock is set while
// it is waited for. How late any comes a slow machine decides, so each second wait
// has its clock left alone, and the two kinds are compared.
func guestLateness(t *testing.T) {
	l := newLoud(t, map[string]any{"stamper": plays(t, "stamper", map[string]any{
		"restart": map[string]any{"delay": stampDelay.String(), "factor": 1, "max_delay": "1h", "jitter": 0, "flap": map[string]any{"count": 1_000_000}},
	})}, "--supervised", "no")
	var sets []int64
	wrote := 0
	for n := range 2 * lateSets {
		l.writes("stamper", "ended", wrote)
		wrote = len(l.wrote("stamper"))
		if n%2 == 0 {
			setClock(t, decade*time.Duration(1-n%4))
			sets = append(sets, bootClock())
		}
	}
	var quiet, set []float64 // milliseconds
	ended := int64(0)
	for line := range strings.Lines(l.wrote("stamper")) {
		var what string
		var at int64
		if _, err := fmt.Sscan(line, &what, &at); err != nil || what == "ended" {
			ended = at
			continue
		}
		late := float64(at - ended - stampDelay.Milliseconds())
		if slices.ContainsFunc(sets, func(s int64) bool { return s > ended && s < at }) {
			set = append(set, late)
		} else if ended > 0 {
			quiet = append(quiet, late)
		}
	}
	if len(set) < lateSets/3 || len(quiet) < lateSets/3 {
		t.Skipf("the host is too slow: %d waits with the clock set, %d without", len(set), len(quiet))
	}
	s := shiftOf(quiet, set)
	if t.Logf("%d starts with the clock set came %.0f ms later than %d without (%.0f to %.0f)", len(set), s.middle, len(quiet), s.least, s.most); s.least > float64(lateAllowed.Milliseconds()) {
		t.Errorf("a clock that is set makes starts late: with it %v, without %v", set, quiet)
	}
}

// shift is by how much one kind of numbers is above another: the median of all
// differences (Hodges and Lehmann). Among those the true one is between least and
// most, unless chance has it at odds of some 10,000:1.
type shift struct{ middle, least, most float64 }

const shiftSigmas = 4

func shiftOf(from, to []float64) shift {
	var d []float64
	for _, a := range from {
		for _, b := range to {
			d = append(d, b-a)
		}
	}
	slices.Sort(d)
	n, m := float64(len(from)), float64(len(to))
	off := shiftSigmas * math.Sqrt(n*m*(n+m+1)/12) // as the ranks vary
	at := func(i float64) float64 { return d[int(min(max(i, 0), n*m-1))] }
	return shift{at(n * m / 2), at(n*m/2 - off), at(n*m/2 + off)}
}

// A shift is found in noise with a long tail, and the noise is none.
func TestLatenessIsTold(t *testing.T) {
	for _, c := range []struct{ shift, from, to float64 }{{0, -60, 60}, {20, -40, 80}, {300, 240, 360}} {
		for seed := range uint64(200) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			var a, b []float64
			for range lateSets {
				a, b = append(a, 30*rnd.ExpFloat64()), append(b, c.shift+30*rnd.ExpFloat64())
			}
			a[3], b[5] = 5000, 9000 // somebody else had the processor
			s := shiftOf(a, b)
			told := s.least > float64(lateAllowed.Milliseconds())
			if s.middle < c.from || s.middle > c.to || told != (c.shift > 200) || s.least > c.shift || s.most < c.shift {
				t.Fatalf("shift %v, seed %d: %+v", c.shift, seed, s)
			}
		}
	}
}
