package main

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// series are what was seen, by name, in the order of time.
type series map[string][]point

type point struct{ hours, value float64 }

func (s series) add(at time.Duration, values map[string]float64) {
	for name, v := range values {
		s[name] = append(s[name], point{at.Hours(), v})
	}
}

// trend is the line through points, which a few that are far off do not turn: the
// median of the slopes between all pairs (Theil and Sen). Among those slopes the
// true one is between least and most, unless chance has it at odds of some 1000:1.
type trend struct{ slope, least, most, middle float64 } // slopes are per hour

const trendSigmas = 3

func trendOf(points []point) trend {
	var slopes, values []float64
	for i, a := range points {
		values = append(values, a.value)
		for _, b := range points[:i] {
			if a.hours > b.hours {
				slopes = append(slopes, (a.value-b.value)/(a.hours-b.hours))
			}
		}
	}
	if len(slopes) == 0 {
		return trend{}
	}
	slices.Sort(slopes)
	slices.Sort(values)
	n := float64(len(points))
	off := trendSigmas * math.Sqrt(n*(n-1)*(2*n+5)/18) / 2 // as Kendall's tau varies
	at := func(i float64) float64 { return slopes[int(min(max(i, 0), float64(len(slopes)-1)))] }
	half := float64(len(slopes)) / 2
	return trend{at(half), at(half - off), at(half + off), values[len(values)/2]}
}

// second are the points of the second half: what is made once is made by then.
func second(points []point) []point { return points[len(points)/2:] }

func (s series) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-24s %9s %9s   %s\n", "median of each half", "first", "second", "change in the second, per day (between)")
	for _, name := range slices.Sorted(maps.Keys(s)) {
		tail := trendOf(second(s[name]))
		fmt.Fprintf(&b, "%-24s %9.1f %9.1f   %+.1f (%+.1f to %+.1f)\n",
			name, trendOf(s[name][:len(s[name])/2]).middle, tail.middle, 24*tail.slope, 24*tail.least, 24*tail.most)
	}
	return b.String()
}

// room is how much more there may be at the end of the second half than at its
// beginning: what varies by itself, as a part of all and as a number.
var room = []struct {
	suffix string
	part   float64
	number float64
}{
	{"memory, KiB", 0.05, 512},
	{"heap, KiB", 0.03, 64},
	{"descriptors", 0, 2},
	{"threads", 0, 4},
	{"goroutines", 0, 4},
	{"zombies", 0, 1},
	{"children", 0, 4},
	{"notes", 0, 4},
	{"cgroups", 0, 4},
	{" files", 0, 4},
	{"run directory, KiB", 0.05, 1024},
}

// grown names what grew in the second half: it surely did, and by more than there
// is room for. The state directory may: it holds the history, up to its bounds; how
// long a status takes, whoever else works on the machine decides.
func (s series) grown() (list []string) {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		points := second(s[name])
		t := trendOf(points)
		hours := points[len(points)-1].hours - points[0].hours
		for _, r := range room {
			if strings.HasSuffix(name, r.suffix) && t.least > 0 && t.slope*hours > r.part*t.middle+r.number {
				list = append(list, fmt.Sprintf("%s grows by %.1f in %.2f hours, it is %.1f", name, t.slope*hours, hours, t.middle))
			}
		}
	}
	return list
}

// A leak is found among noise, and noise is no leak.
func TestGrowthIsTold(t *testing.T) {
	var rnd *rand.Rand
	for _, c := range []struct {
		name  string
		value func(i int) float64
		grows bool
	}{
		{"noise", func(int) float64 { return 5000 + 2000*rnd.Float64() }, false},
		{"a saw", func(i int) float64 { return 5000 + float64(i%17)*200 }, false},
		{"a little", func(i int) float64 { return 5000 + float64(i) }, false},
		{"once, early", func(i int) float64 { return 5000 + 4000*min(1, float64(i)/50) }, false},
		{"a leak", func(i int) float64 { return 5000 + 10*float64(i) + 500*rnd.Float64() }, true},
		{"a leak in noise", func(i int) float64 { return 5000 + 15*float64(i) + 2000*rnd.Float64() }, true},
	} {
		for seed := range uint64(50) {
			rnd = rand.New(rand.NewPCG(seed, 0))
			s := series{}
			for i := range soakLooks {
				s.add(time.Duration(i)*15*time.Second, map[string]float64{"control memory, KiB": c.value(i)})
			}
			if got := len(s.grown()) > 0; got != c.grows {
				t.Fatalf("%s, seed %d: grown is %v:\n%s", c.name, seed, got, s.table())
			}
		}
	}
}

// inside is what the runtime of another Go process knows of it.
type inside struct {
	goroutines uint64 // that there were at once, at most
	marked     uint64 // bytes that the last collection found in use
}

// layouts are where to look for it, by executable.
var layouts sync.Map

type layout struct{ goroutines, marked uint64 }

// peek looks into the memory of a process.
func peek(pid int) (in inside, err error) {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return in, err
	}
	known, ok := layouts.Load(exe)
	if !ok {
		if known, err = layoutOf(exe); err != nil {
			return in, err
		}
		layouts.Store(exe, known)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return in, err
	}
	defer mem.Close()
	word := func(at uint64) uint64 {
		var b [8]byte
		_, e := mem.ReadAt(b[:], int64(at))
		err = errors.Join(err, e)
		return binary.NativeEndian.Uint64(b[:])
	}
	at := known.(layout)
	return inside{word(at.goroutines), word(at.marked)}, err
}

// layoutOf reads an executable's symbols.
func layoutOf(exe string) (l layout, err error) {
	f, err := elf.Open(exe)
	if err != nil {
		return l, err
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		return l, err
	}
	at := map[string]uint64{}
	for _, s := range symbols {
		at[s.Name] = s.Value
	}
	d, err := f.DWARF()
	if err != nil {
		return l, err
	}
	offset, err := fieldOf(d, "runtime.gcControllerState", "heapMarked")
	l = layout{at["runtime.allglen"], at["runtime.gcController"] + offset}
	if f.Type != elf.ET_EXEC || l.goroutines == 0 || l.marked == offset {
		err = errors.Join(err, errors.New("it lacks what to look at"))
	}
	return l, err
}

// fieldOf is where in a structure a field is.
func fieldOf(d *dwarf.Data, structure, field string) (uint64, error) {
	for r := d.Reader(); ; {
		e, err := r.Next()
		switch {
		case err != nil:
			return 0, err
		case e == nil:
			return 0, fmt.Errorf("there is no %s", structure)
		case e.Tag != dwarf.TagStructType || e.Val(dwarf.AttrName) != structure:
			continue
		}
		typ, err := d.Type(e.Offset)
		if err != nil {
			return 0, err
		}
		for _, f := range typ.(*dwarf.StructType).Field {
			if f.Name == field {
				return uint64(f.ByteOffset), nil
			}
		}
		return 0, fmt.Errorf("%s has no %s", structure, field)
	}
}
