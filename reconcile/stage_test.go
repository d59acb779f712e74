package reconcile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// epoch is when every story begins.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// stage plays the engine: it hands facts and commands to the core, lets Diff
// speak, and writes down all that comes of it.
type stage struct {
	w       World
	desired map[string]*spec.Program
	now     time.Time
	trace   []string
	// auto are the kinds of action that the kernel answers at once as one hopes.
	auto    map[ActionKind]bool
	answers []Fact
	exitsAs map[ActionKind]Exit
	actions []Action // of the last turn
	events  []Event
	quiet   bool // no trace
}

func newStage() *stage {
	s := &stage{w: NewWorld(), desired: map[string]*spec.Program{}, now: epoch, auto: map[ActionKind]bool{}}
	s.w.Generation = 1
	s.exitsAs = map[ActionKind]Exit{ActionSignal: {Code: -1, Signal: spec.SIGTERM}, ActionKill: {Code: -1, Signal: spec.SIGKILL}}
	return s
}

func (s *stage) say(format string, args ...any) {
	if !s.quiet {
		s.trace = append(s.trace, fmt.Sprintf(format, args...))
	}
}

func (s *stage) take() []string {
	out := s.trace
	s.trace = nil
	return out
}

// do plays one line of a story.
func (s *stage) do(line string) error {
	words := strings.Fields(line)
	do := lines[words[0]]
	if do == nil {
		return fmt.Errorf("no such line: %s", words[0])
	}
	if err := do(s, words[1:]); err != nil {
		return err
	}
	return s.settle()
}

// settle makes turns until the kernel has no more ready answers.
func (s *stage) settle() error {
	for range 10000 {
		s.turn()
		if len(s.answers) == 0 {
			return nil
		}
		facts := s.answers
		s.answers = nil
		for _, f := range facts {
			s.fact(f)
		}
	}
	return fmt.Errorf("the world does not come to rest")
}

// turn is a turn of the engine.
func (s *stage) turn() {
	s.actions = nil
	names := s.names()
	for _, name := range names {
		s.diff(name)
	}
	s.w.Booting = s.w.Booting && len(s.desired) == 0
	for _, name := range Moved(s.w, names) {
		s.diff(name)
	}
}

func (s *stage) diff(name string) {
	plan := DiffProgram(name, s.desired[name], s.w, s.now)
	var events []Event
	s.w, events = Commit(s.w, plan, s.now)
	s.hear(events)
	s.carry(plan.Actions)
}

func (s *stage) names() []string {
	names := map[string]bool{}
	for name := range s.desired {
		names[name] = true
	}
	for name := range s.w.Programs {
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func (s *stage) hear(events []Event) {
	s.events = append(s.events, events...)
	for _, e := range events {
		s.say("%s", eventWords(e))
	}
}

func (s *stage) carry(actions []Action) {
	s.actions = append(s.actions, actions...)
	for _, a := range actions {
		s.say("> %s", actionWords(a))
		if s.auto[a.Kind] {
			s.answer(a)
		}
	}
}

// answer is what a kernel without trouble makes of an action.
func (s *stage) answer(a Action) {
	f := Fact{ID: a.ID, Run: a.Run, At: s.now, PID: 100 + int(a.Run), Launch: a.Launch, Tuning: a.Tuning}
	switch a.Kind {
	case ActionStart:
		f.Kind = FactStarted
	case ActionTune:
		f.Kind = FactTuned
	case ActionDrain:
		f.Kind, f.Drain = FactDrained, &Drain{OK: true, Answer: "exit code 0"}
	case ActionPreflight:
		f.Kind = FactPreflight
	case ActionSweep:
		f.Kind = FactEmptied
	case ActionSignal, ActionKill:
		x := s.exitsAs[a.Kind]
		f.Kind, f.Exit = FactExited, &x
	default:
		return
	}
	s.answers = append(s.answers, f)
}

func (s *stage) fact(f Fact) {
	if f.At.IsZero() {
		f.At = s.now
	}
	if s.auto[ActionStart] || s.auto[ActionSignal] || s.auto[ActionPreflight] {
		s.say("< %s", factWords(f))
	}
	var events []Event
	s.w, events = Apply(s.w, f, s.now)
	s.hear(events)
}

// advance lets time pass, stopping at each deadline as the engine's timer does.
func (s *stage) advance(d time.Duration) error {
	end := s.now.Add(d)
	for range 10000 {
		at := s.wake()
		if at.IsZero() || at.After(end) {
			s.now = end
			return nil
		}
		if at.After(s.now) {
			s.now = at
		}
		s.say("at %s", s.now.Sub(epoch))
		s.fire()
		if err := s.settle(); err != nil {
			return err
		}
	}
	return fmt.Errorf("the timer does not come to rest")
}

func (s *stage) wake() time.Time {
	var at time.Time
	for _, p := range s.w.Programs {
		at = earlier(at, Wake(p))
	}
	return at
}

func (s *stage) fire() {
	for _, name := range s.names() {
		for _, id := range Due(s.w.Programs[name], s.now) {
			_, i := s.w.instance(id)
			var events []Event
			s.w, events = Apply(s.w, Fact{Kind: FactDeadline, ID: id, Run: i.Run, At: s.now}, s.now)
			s.hear(events)
		}
	}
}

// controlDies leaves of the world what the store keeps: the instances and, of
// programs, how their roll stands.
func (s *stage) controlDies(rolls bool) error {
	w := World{Programs: map[string]*Program{}, NextRun: s.w.NextRun, Generation: s.w.Generation}
	for name, p := range s.w.Programs {
		if len(p.Instances) == 0 {
			continue
		}
		q := &Program{Name: name}
		if rolls {
			q.Target, q.Preflight, q.Held, q.RetryAt = p.Target, p.Preflight, p.Held, p.RetryAt
		}
		for _, i := range p.Instances {
			raw, err := json.Marshal(i)
			if err != nil {
				return err
			}
			j := &Instance{}
			if err := json.Unmarshal(raw, j); err != nil {
				return err
			}
			q.Instances = append(q.Instances, j)
		}
		w.Programs[name] = q
	}
	s.w, s.answers = w, nil
	return nil
}

// recall is what a new control does before it hears what became of the instances.
func (s *stage) recall() error {
	last := spec.Spec{Programs: map[string]spec.Program{}}
	for name, p := range s.desired {
		if p != nil {
			last.Programs[name] = *p
		}
	}
	s.w = Recall(s.w, last)
	return nil
}

func eventWords(e Event) string {
	switch e.Kind {
	case EventState:
		out := fmt.Sprintf("%s %s -> %s, run %d", e.ID, e.From, e.State, e.Run)
		if e.PID != 0 {
			out += fmt.Sprintf(", pid %d", e.PID)
		}
		if e.Exit != nil {
			out += ", " + e.Exit.Words()
		}
		if e.Cause != "" {
			out += fmt.Sprintf(" (%s)", e.Cause)
		}
		if e.Detail != "" {
			out += ": " + e.Detail
		}
		return out
	case EventRunEnded:
		x := e.Exit
		return fmt.Sprintf("%s run %d is over after %s: %s (%s)", e.ID, x.Run, x.Duration, x.Words(), x.Cause)
	case EventIgnored:
		return fmt.Sprintf("%s ignored in %s: %s", e.ID, e.State, e.Detail)
	default:
	}
	who := e.ID.String()
	if e.ID.Index < 0 {
		who = e.ID.Program
	}
	return strings.TrimSuffix(fmt.Sprintf("%s %s: %s", who, e.Kind, e.Detail), ": ")
}

func actionWords(a Action) string {
	out := fmt.Sprintf("%s %s", a.Kind, a.ID)
	if a.Run != 0 {
		out += fmt.Sprintf(" run %d", a.Run)
	}
	if a.Signal != 0 {
		out += " " + a.Signal.String()
	}
	return out
}

func factWords(f Fact) string {
	out := fmt.Sprintf("%s %s", f.ID, f.Kind)
	if f.Exit != nil {
		out += ", " + f.Exit.Words()
	}
	return out
}

func changeWords(c Change) string {
	out := fmt.Sprintf("%s %s: %s", c.What, c.ID, c.Reason)
	if len(c.Keys) > 0 {
		out += " [" + strings.Join(c.Keys, " ") + "]"
	}
	if c.Later {
		out += ", later"
	}
	return out
}

// statusWords is one line about an instance: what a person would ask for.
func statusWords(i *Instance, now time.Time) string {
	out := fmt.Sprintf("%s %s, run %d, starts %d", i.ID, i.State, i.Run, i.Starts)
	for _, x := range []struct {
		say string
		is  bool
	}{
		{fmt.Sprintf("attempt %d", i.Attempt), i.Attempt > 0},
		{"flapping", i.Flapping},
		{i.Finished, i.Finished != ""},
		{"restart owed", i.Cycle},
		{"rolling", i.Rolling},
		{"main gone", i.MainGone},
		{"escalated", i.Escalated},
		{"draining", i.Draining},
		{"waits for " + i.Waits, i.Waits != ""},
		{"until " + i.Until.Sub(now).String(), !i.Until.IsZero()},
		{"tune asked", i.Tune == TuneAsked},
		{"tune lost", i.Tune == TuneLost},
		{fmt.Sprintf("pending %v", i.Pending), len(i.Pending) > 0},
		{"by uid " + byWords(i.By), i.By != nil},
	} {
		if x.is {
			out += ", " + x.say
		}
	}
	return out
}

func byWords(by *spec.Requester) string {
	if by == nil {
		return ""
	}
	return strconv.Itoa(by.UID)
}
