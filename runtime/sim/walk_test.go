package sim

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/engine"
	"github.com/procnanny/procnanny/spec"
)

// step is one disturbance of a walk: what, and how in numbers. It means the same
// whatever came before it, so a walk can lose steps and stay a walk.
type step struct {
	do   string
	args []int
}

// story is a walk that can be written down and taken again: a seed, from which
// the fate of each process follows, and steps.
type story struct {
	seed  uint64
	steps []step
}

// tell makes a story of a seed.
func tell(seed uint64, length int) story {
	dice := rand.New(rand.NewPCG(seed, 0))
	s := story{seed: seed}
	for range length {
		k := kinds[weighted[dice.IntN(len(weighted))]]
		st := step{do: k.name, args: make([]int, len(k.args))}
		for n, a := range k.args {
			st.args[n] = dice.IntN(a.below)
		}
		s.steps = append(s.steps, st)
	}
	return s
}

// String is the story for people, and for parse: zeros are left out.
func (s story) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d\n", s.seed)
	for _, st := range s.steps {
		b.WriteString(st.do)
		for n, v := range st.args {
			if v != 0 {
				fmt.Fprintf(&b, " %s=%d", kindOf[st.do].args[n].name, v)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func parse(text string) (s story, err error) {
	for n, line := range strings.Split(strings.TrimSpace(text), "\n") {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || strings.HasPrefix(line, "#"):
		case words[0] == "seed" && len(words) == 2:
			s.seed, err = strconv.ParseUint(words[1], 10, 64)
		default:
			var st step
			st, err = parseStep(words)
			s.steps = append(s.steps, st)
		}
		if err != nil {
			return s, fmt.Errorf("line %d: %q: %w", n+1, line, err)
		}
	}
	return s, nil
}

func parseStep(words []string) (step, error) {
	k, ok := kindOf[words[0]]
	if !ok {
		return step{}, fmt.Errorf("there is no such step")
	}
	st := step{do: k.name, args: make([]int, len(k.args))}
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		at := slices.IndexFunc(k.args, func(a arg) bool { return a.name == name })
		v, err := strconv.Atoi(value)
		if at < 0 || err != nil || v < 0 || v >= k.args[at].below {
			return st, fmt.Errorf("%s is no argument of it, or too large", w)
		}
		st.args[at] = v
	}
	return st, nil
}

// walker takes the steps.
type walker struct {
	m        *Machine
	seed     uint64
	mood     mood
	programs map[string]spec.Program
	calm     bool
}

// mood is how likely it is that something goes wrong, in percent.
type mood struct{ fail, deaf, leave, die, slow, refuse, silent int }

func newWalker(s story, c Config, made func(*Machine)) *walker {
	w := &walker{seed: s.seed, programs: map[string]spec.Program{}}
	c.Fate, c.Thorough = w, true
	w.m = New(c)
	if made != nil {
		made(w.m)
	}
	w.m.Desire(w.desired())
	w.m.Start()
	return w
}

func (w *walker) desired() engine.Desired {
	return engine.Desired{
		Spec: spec.Spec{Programs: maps.Clone(w.programs)}, Generation: 1,
		Config: reconcile.ConfigView{State: "ok", Generation: 1},
	}
}

// take takes one step, and lets be done what is due.
func (w *walker) take(st step) {
	kindOf[st.do].do(w, st.args)
	w.m.Run(w.m.now)
}

// walk takes a story from its beginning to its end, and on until all is quiet.
func walk(s story, c Config, cover *Coverage) (*walker, error) { return walkWith(s, c, cover, nil) }

// walkWith is walk for somebody who wants the machine before it starts.
func walkWith(s story, c Config, cover *Coverage, made func(*Machine)) (*walker, error) {
	w := newWalker(s, c, made)
	w.m.audit.cover = cover
	for n, st := range s.steps {
		if w.take(st); w.m.Err() != nil {
			return w, fmt.Errorf("step %d (%s): %w", n+1, st.do, w.m.Err())
		}
	}
	w.rest()
	return w, w.m.Err()
}

// roll draws a number below n that depends on the seed, and on what it is about.
func (w *walker) roll(n int, about ...any) int {
	h := fnv.New64a()
	fmt.Fprint(h, w.seed, about)
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return int(x % uint64(n))
}

func (w *walker) chance(percent int, about ...any) bool {
	return !w.calm && w.roll(100, about...) < percent
}

func (w *walker) Birth(id reconcile.InstanceID, run reconcile.RunID) Birth {
	b := Birth{Stops: time.Duration(w.roll(4, id, run, "stops")) * time.Millisecond}
	if w.chance(w.mood.fail, id, run, "fails") {
		return Birth{Step: "changing to /srv", Errno: 2, Reason: "no such file or directory"}
	}
	b.Deaf = w.chance(w.mood.deaf, id, run, "deaf")
	if w.chance(w.mood.leave, id, run, "leaves") {
		b.Left = 1 + w.roll(3, id, run, "left")
		b.LeftDeaf = w.chance(50, id, run, "left deaf")
		b.LeftLive = time.Duration(w.roll(5, id, run, "left live")) * 3 * time.Second
	}
	if w.chance(w.mood.die, id, run, "dies") {
		b.Lives = time.Duration(1+w.roll(8000, id, run, "lives")) * time.Millisecond
		b.Ending = ending(w.roll(6, id, run, "ending"))
	}
	return b
}

func ending(n int) Ending {
	return []Ending{{Code: 0}, {Code: 1}, {Code: 7}, {Code: -1, Signal: spec.SIGKILL}, {Code: -1, Signal: 11, Core: true}, {Code: -1, Signal: spec.SIGTERM}}[n]
}

func (w *walker) Lag(l Lag, id reconcile.InstanceID) time.Duration {
	if w.calm || w.mood.slow == 0 {
		return 0
	}
	top := map[Lag]int{LagOrder: 3, LagNotice: 5, LagFact: 20, LagTurn: 2, LagTimer: 3, LagControl: 300, LagFiles: 500}[l] * w.mood.slow
	return time.Duration(w.roll(top, id, int(l), w.m.now.UnixNano(), w.m.agenda.seq)) * 100 * time.Microsecond
}

func (w *walker) Preflight(program string) string {
	if w.chance(w.mood.refuse, program, w.m.now.UnixNano(), "preflight") {
		return "no such file or directory"
	}
	return ""
}

func (w *walker) Tune(id reconcile.InstanceID) map[string]string {
	if w.chance(w.mood.refuse, id, w.m.now.UnixNano(), "tune") {
		return map[string]string{"nofile": "operation not permitted"}
	}
	return nil
}

func (w *walker) Drain(id reconcile.InstanceID) (reconcile.Drain, time.Duration, bool) {
	took := time.Duration(w.roll(4000, id, w.m.now.UnixNano(), "drain")) * time.Millisecond
	return reconcile.Drain{OK: true, Answer: "exit code 0"}, took, !w.chance(w.mood.silent, id, w.m.now.UnixNano(), "silent")
}
