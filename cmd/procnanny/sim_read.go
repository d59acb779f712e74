package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/runtime/sim"
	"github.com/procnanny/procnanny/spec"
)

// simReader makes a scenario of flags.
type simReader struct {
	*app
	ctx      context.Context
	scenario *sim.Scenario
	// specs are all files that take part: somebody must be meant in one of them.
	specs []*spec.Spec
}

// simFlag is one flag and what reads its values.
type simFlag struct {
	name   string
	values []string
	read   func(r *simReader, text string) error
}

// read reads every flag; edits first, since others may speak of their programs.
func (r *simReader) read(f simFlags) error {
	for _, flag := range []simFlag{
		{"edit", f.edit, (*simReader).readEdit},
		{"crash", f.crash, readDeath(sim.Ending{Code: 1})},
		{"exit", f.exit, readDeath(sim.Ending{Code: 0})},
		{"broken", f.broken, (*simReader).readBroken},
		{"slow", f.slow, (*simReader).readSlow},
		{"stop", f.stop, readAct("stop", func(a *sim.Act, m sim.Match) { a.Stop = m })},
		{"start", f.start, readAct("start", func(a *sim.Act, m sim.Match) { a.Start = m })},
		{"restart", f.restart, readAct("restart", func(a *sim.Act, m sim.Match) { a.Restart = m })},
		{"scale", f.scale, (*simReader).readScale},
	} {
		for _, text := range flag.values {
			err := flag.read(r, text)
			var said *exit
			if err != nil && !errors.As(err, &said) {
				err = fmt.Errorf("cannot read --%s %s: %w", flag.name, safe(text), err)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// cutLast divides text at the last sep: names and paths may have one, too.
func cutLast(text, sep string) (before, after string, err error) {
	at := strings.LastIndex(text, sep)
	if at <= 0 || at == len(text)-1 {
		return "", "", fmt.Errorf("expected something before and behind %q", sep)
	}
	return text[:at], text[at+1:], nil
}

// who reads a target. It must mean something in one of the configurations.
func (r *simReader) who(text string) (sim.Match, error) {
	t, err := rpc.ParseTarget(text)
	if err != nil {
		return nil, err
	}
	for _, s := range r.specs {
		for name := range s.Programs {
			if t.Matches(name) {
				return func(id reconcile.InstanceID) bool {
					return t.Matches(id.Program) && (t.Index == nil || *t.Index == id.Index)
				}, nil
			}
		}
	}
	if t.Glob() {
		return nil, fmt.Errorf("nothing matches %q", t.Program)
	}
	return nil, fmt.Errorf("there is no program %q", t.Program)
}

// duration reads a time that passes.
func duration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil || d < 0 {
		return 0, fmt.Errorf("expected a duration such as 3s or 10m, found %q", text)
	}
	return d, nil
}

// readDeath reads WHO@WHEN[=HOW].
func readDeath(ending sim.Ending) func(*simReader, string) error {
	return func(r *simReader, text string) error {
		who, when, err := cutLast(text, "@")
		if err != nil {
			return err
		}
		d := sim.Death{Ending: ending}
		when, how, given := strings.Cut(when, "=")
		if given {
			if d.Ending, err = readEnding(how); err != nil {
				return err
			}
		}
		if d.Match, err = r.who(who); err != nil {
			return err
		}
		if err := readWhen(&d, when); err != nil {
			return err
		}
		r.scenario.Deaths = append(r.scenario.Deaths, d)
		return nil
	}
}

// readWhen reads 3s, "every 10m", "after 3s" or "about 10m".
func readWhen(d *sim.Death, text string) (err error) {
	word, rest, two := strings.Cut(text, " ")
	if !two {
		d.At, err = duration(text)
		return err
	}
	to, ok := map[string]*time.Duration{"every": &d.Every, "after": &d.After, "about": &d.About}[word]
	if !ok {
		return fmt.Errorf("expected 3s, \"every 10m\", \"after 3s\" or \"about 10m\", found %q", text)
	}
	if *to, err = duration(rest); err == nil && *to <= 0 {
		err = errors.New("it takes more than no time")
	}
	return err
}

// readEnding reads an exit code or a signal.
func readEnding(text string) (sim.Ending, error) {
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n <= 255 {
		return sim.Ending{Code: n}, nil
	}
	sig, err := spec.ParseSignal(text)
	if _, number := strconv.Atoi(text); err != nil || number == nil {
		return sim.Ending{}, fmt.Errorf("expected an exit code from 0 to 255 or a signal, found %q", text)
	}
	return sim.Ending{Code: -1, Signal: sig}, nil
}

func (r *simReader) readBroken(text string) error {
	who, when, err := cutLast(text, "@")
	if err != nil {
		return err
	}
	from, until, ok := strings.Cut(when, "..")
	if !ok {
		return fmt.Errorf("expected FROM..UNTIL, such as 1h..2h, found %q", when)
	}
	var b sim.Broken
	if b.Match, err = r.who(who); err != nil {
		return err
	}
	if b.From, err = duration(from); err != nil {
		return err
	}
	b.Until, err = duration(until)
	r.scenario.Broken = append(r.scenario.Broken, b)
	return err
}

func (r *simReader) readSlow(text string) error {
	who, takes, err := cutLast(text, "=")
	if err != nil {
		return err
	}
	s := sim.Slow{Never: takes == "never"}
	if !s.Never {
		if s.Takes, err = duration(takes); err != nil {
			return err
		}
	}
	s.Match, err = r.who(who)
	r.scenario.Slow = append(r.scenario.Slow, s)
	return err
}

// readAct reads WHO@WHEN for something that a person does.
func readAct(word string, set func(*sim.Act, sim.Match)) func(*simReader, string) error {
	return func(r *simReader, text string) error {
		who, when, err := cutLast(text, "@")
		if err != nil {
			return err
		}
		a := sim.Act{Words: word + " " + who}
		if a.At, err = duration(when); err != nil {
			return err
		}
		match, err := r.who(who)
		set(&a, match)
		r.scenario.Acts = append(r.scenario.Acts, a)
		return err
	}
}

func (r *simReader) readScale(text string) error {
	what, when, err := cutLast(text, "@")
	if err != nil {
		return err
	}
	program, count, err := cutLast(what, "=")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > rpc.MaxIndex {
		return fmt.Errorf("expected a number of instances, found %q", count)
	}
	if _, err := r.who(program); err != nil {
		return err
	}
	at, err := duration(when)
	r.scenario.Acts = append(r.scenario.Acts, sim.Act{At: at, Words: fmt.Sprintf("scale %s to %d", program, n), Scale: map[string]int{program: n}})
	return err
}

// readEdit evaluates the other files now, so that what is wrong with them is
// known before anything is printed.
func (r *simReader) readEdit(text string) error {
	path, when, err := cutLast(text, "@")
	if err != nil {
		return err
	}
	at, err := duration(when)
	if err != nil {
		return err
	}
	files, err := r.evaluated(r.ctx, path)
	if err != nil {
		return err
	}
	r.specs = append(r.specs, files)
	r.scenario.Acts = append(r.scenario.Acts, sim.Act{At: at, Words: "edit: " + path, Edit: files})
	return nil
}
