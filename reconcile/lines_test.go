package reconcile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// lines is what a story can say. Each is played before the turn that follows.
var lines map[string]func(*stage, []string) error

func init() { // together refers to it
	lines = map[string]func(*stage, []string) error{
		"desired":   desiredLine,
		"edit":      editLine,
		"remove":    func(s *stage, a []string) error { delete(s.desired, a[0]); return nil },
		"down":      func(s *stage, a []string) error { return s.admin(a, true) },
		"up":        func(s *stage, a []string) error { return s.admin(a, false) },
		"reset":     resetLine,
		"plan":      planLine,
		"started":   factLine(FactStarted),
		"failed":    factLine(FactStartFailed),
		"ready":     factLine(FactReady),
		"exit":      factLine(FactExited),
		"emptied":   factLine(FactEmptied),
		"deadline":  factLine(FactDeadline),
		"adopted":   factLine(FactAdopted),
		"lost":      factLine(FactLost),
		"tuned":     factLine(FactTuned),
		"drained":   factLine(FactDrained),
		"preflight": preflightLine,
		"restart":   commandLine(CommandRestart),
		"start":     commandLine(CommandStart),
		"signal":    commandLine(CommandSignal),
		"force":     commandLine(CommandForce),
		"shutdown":  commandLine(CommandShutdown),
		"advance":   advanceLine,
		"auto":      autoLine,
		"status":    statusLine,
		"together":  togetherLine,
		"recall":    func(s *stage, _ []string) error { return s.recall() },
		"control":   func(s *stage, _ []string) error { return s.controlDies(true) },
		"boot":      func(s *stage, _ []string) error { err := s.controlDies(false); s.w.Booting = true; return err },
	}
}

func desiredLine(s *stage, args []string) error {
	p := spec.Defaults()
	p.Command = "/bin/" + args[0]
	p.Restart.Jitter = 0
	if err := edits(&p, args[1:]); err != nil {
		return err
	}
	s.desired[args[0]] = &p
	return nil
}

func editLine(s *stage, args []string) error {
	old := s.desired[args[0]]
	if old == nil {
		return fmt.Errorf("no such program")
	}
	p := *old
	if err := edits(&p, args[1:]); err != nil {
		return err
	}
	s.desired[args[0]] = &p
	s.w.Generation++
	return nil
}

// edits reads x3 and key=value words into p.
func edits(p *spec.Program, words []string) error {
	for _, word := range words {
		if n, ok := strings.CutPrefix(word, "x"); ok && !strings.Contains(word, "=") {
			count, err := strconv.Atoi(n)
			if err != nil {
				return err
			}
			p.Instances = count
			continue
		}
		key, value, _ := strings.Cut(word, "=")
		path, ok := paths[key]
		if !ok {
			path = key
		}
		if !strings.ContainsAny(value, `[{"`) && !isNumber(value) && value != "true" && value != "null" {
			value = strconv.Quote(value)
		}
		q, err := p.Set(path, []byte(value))
		if err != nil {
			return err
		}
		q.Admin = p.Admin
		*p = q
	}
	return nil
}

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

// paths are short names for what stories set often.
var paths = map[string]string{
	"delay": "restart.delay", "max_delay": "restart.max_delay", "factor": "restart.factor", "when": "restart.when",
	"jitter": "restart.jitter", "give_up": "restart.give_up", "flap_count": "restart.flap.count", "flap_within": "restart.flap.within",
	"min_uptime": "start.min_uptime", "timeout": "stop.timeout", "escalate": "stop.escalate", "stop_signal": "stop.signal",
	"max_unavailable": "update.max_unavailable", "nofile": "limits.nofile", "before": "stop.before", "after": "start.after",
}

// admin sets what overrides would: a program or one index down or up.
func (s *stage) admin(args []string, down bool) error {
	id, whole, err := target(args[0])
	old := s.desired[id.Program]
	if err != nil || old == nil {
		return fmt.Errorf("no such program: %s (%w)", args[0], err)
	}
	p := *old
	if whole {
		p.Admin = spec.Admin{Down: down}
	} else {
		p.Admin = spec.Admin{Down: p.Admin.Down, Index: cloneWith(p.Admin.Index, id.Index, down)}
	}
	s.desired[id.Program] = &p
	return nil
}

// resetLine takes the overrides of admin state away.
func resetLine(s *stage, args []string) error {
	p := *s.desired[args[0]]
	p.Admin = spec.Admin{}
	s.desired[args[0]] = &p
	return nil
}

func cloneWith(m map[int]bool, index int, down bool) map[int]bool {
	out := map[int]bool{index: down}
	for k, v := range m {
		if k != index {
			out[k] = v
		}
	}
	return out
}

// target reads web or web/1.
func target(word string) (id InstanceID, whole bool, err error) {
	program, index, one := strings.Cut(word, "/")
	if !one {
		return InstanceID{program, -1}, true, nil
	}
	n, err := strconv.Atoi(index)
	return InstanceID{program, n}, false, err
}

// togetherLine plays several lines, divided by semicolons, before one turn.
func togetherLine(s *stage, args []string) error {
	for line := range strings.SplitSeq(strings.Join(args, " "), ";") {
		words := strings.Fields(line)
		do := lines[words[0]]
		if do == nil {
			return fmt.Errorf("no such line: %s", words[0])
		}
		if err := do(s, words[1:]); err != nil {
			return err
		}
	}
	return nil
}

// targets are the instances that a word means: web is all of it.
func (s *stage) targets(word string) ([]InstanceID, error) {
	id, whole, err := target(word)
	if err != nil || !whole {
		return []InstanceID{id}, err
	}
	p := s.w.Programs[id.Program]
	if p == nil {
		return nil, fmt.Errorf("no such program")
	}
	var out []InstanceID
	for _, i := range p.Instances {
		out = append(out, i.ID)
	}
	return out, nil
}

// planLine shows what an edit would do, and does not do it.
func planLine(s *stage, args []string) error {
	all := spec.Spec{Programs: map[string]spec.Program{}}
	for name, p := range s.desired {
		all.Programs[name] = *p
	}
	if len(args) > 1 && args[0] == "remove" {
		delete(all.Programs, args[1])
	} else if len(args) > 0 {
		p, ok := all.Programs[args[0]]
		if !ok {
			p = spec.Defaults()
		}
		if err := edits(&p, args[1:]); err != nil {
			return err
		}
		all.Programs[args[0]] = p
	}
	plan := Diff(all, s.w, s.now)
	if plan.Empty() {
		s.say("nothing to do")
	}
	for _, c := range plan.Changes {
		s.say("%s", changeWords(c))
	}
	return nil
}

// factLine reads "exit web/0 code=1 left=2"; a whole program is every instance
// of it that waits for such a fact.
func factLine(kind FactKind) func(*stage, []string) error {
	return func(s *stage, args []string) error {
		ids, err := s.targets(args[0])
		if err != nil {
			return err
		}
		for _, id := range ids {
			_, i := s.w.instance(id)
			if kind == FactStarted && len(ids) > 1 && (i.State != StateStarting || i.PID != 0) {
				continue
			}
			f := Fact{Kind: kind, ID: id, At: s.now}
			if i != nil {
				f.Run, f.Tuning = i.Run, i.Tuning
			}
			if err := s.fill(&f, args[1:]); err != nil {
				return err
			}
			if kind == FactStarted || kind == FactAdopted {
				f.PID = 100 + int(f.Run)
			}
			var events []Event
			s.w, events = Apply(s.w, f, s.now)
			s.hear(events)
		}
		return nil
	}
}

func (s *stage) fill(f *Fact, words []string) error {
	if f.Kind == FactExited {
		f.Exit = &Exit{}
	}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		n, _ := strconv.Atoi(value)
		switch key {
		case "code":
			f.Exit.Code = n
		case "signal":
			sig, err := spec.ParseSignal(value)
			if err != nil {
				return err
			}
			f.Exit.Code, f.Exit.Signal = -1, sig
		case "unseen":
			f.Exit, f.Reason = &Exit{Code: -1, Unknown: true}, "whether it ran nobody knows"
		case "core":
			f.Exit.Core = true
		case "oom":
			f.Exit.OutOfMemory = true
		case "left":
			f.Left = n
		case "run":
			f.Run = RunID(n)
		case "ago":
			d, err := time.ParseDuration(value)
			if err != nil {
				return err
			}
			f.At = s.now.Add(-d)
		case "began":
			d, err := time.ParseDuration(value)
			if err != nil {
				return err
			}
			f.Exit.Start, f.PID = s.now.Add(-d), 100+int(f.Run)
		case "stopping":
			f.Stopping = true
		case "launch":
			f.Launch = spec.Digest(value)
			if p := s.desired[f.ID.Program]; value == "same" && p != nil {
				f.Launch, f.Tuning = p.Launch.Digest(), p.Tuning.Digest()
			}
		case "step":
			f.Step = strings.ReplaceAll(value, "_", " ")
		case "reason":
			f.Reason = strings.ReplaceAll(value, "_", " ")
		case "answer":
			f.Drain = &Drain{OK: value == "200_OK", Answer: strings.ReplaceAll(value, "_", " ")}
		case "refused":
			name, why, _ := strings.Cut(value, ":")
			f.Refused = map[string]string{name: strings.ReplaceAll(why, "_", " ")}
		default:
			return fmt.Errorf("no such word: %s", word)
		}
	}
	return nil
}

func preflightLine(s *stage, args []string) error {
	f := Fact{Kind: FactPreflight, ID: InstanceID{args[0], 0}, Launch: s.desired[args[0]].Launch.Digest()}
	if len(args) > 1 {
		f.Reason = strings.Join(args[1:], " ")
	}
	var events []Event
	s.w, events = Apply(s.w, f, s.now)
	s.hear(events)
	return nil
}

func commandLine(kind CommandKind) func(*stage, []string) error {
	return func(s *stage, args []string) error {
		c := Command{Kind: kind, By: spec.Requester{How: "rpc", UID: 1000, PID: 7}}
		for _, word := range args {
			if kind == CommandForce {
				c.Program = word
				continue
			}
			if sig, err := spec.ParseSignal(word); err == nil && kind == CommandSignal {
				c.Signal = sig
				continue
			}
			ids, err := s.targets(word)
			if err != nil {
				return err
			}
			c.Targets = append(c.Targets, ids...)
		}
		w, events, actions, outcomes := Execute(s.w, c, s.now)
		s.w = w
		for _, o := range outcomes {
			if o.Reason == "" {
				o.Reason = "yes"
			}
			s.say("%s: %s", o.ID, o.Reason)
		}
		s.hear(events)
		s.carry(actions)
		return nil
	}
}

func advanceLine(s *stage, args []string) error {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	return s.advance(d)
}

// autoLine makes the kernel answer by itself: starts, stops, preflights.
func autoLine(s *stage, args []string) error {
	kinds := map[string][]ActionKind{
		"starts": {ActionStart}, "stops": {ActionSignal, ActionKill, ActionSweep}, "preflights": {ActionPreflight},
		"tunes": {ActionTune}, "drains": {ActionDrain},
		"all": {ActionStart, ActionSignal, ActionKill, ActionSweep, ActionPreflight, ActionTune, ActionDrain}, "nothing": nil,
	}
	if slices.Contains(args, "nothing") {
		clear(s.auto)
	}
	for _, word := range args {
		if _, ok := kinds[word]; !ok {
			return fmt.Errorf("no such word: %s", word)
		}
		for _, k := range kinds[word] {
			s.auto[k] = true
		}
	}
	return nil
}

func statusLine(s *stage, args []string) error {
	for _, name := range s.names() {
		p := s.w.Programs[name]
		if p == nil || len(args) > 0 && args[0] != name {
			continue
		}
		if p.Held != "" {
			s.say("%s held: %s", name, p.Held)
		}
		for _, i := range p.Instances {
			s.say("%s", statusWords(i, s.now))
		}
	}
	return nil
}
