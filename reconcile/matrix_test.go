package reconcile

import (
	"os"
	"strings"
	"testing"
)

// situations are what an instance can be in, finer than its state: how it came
// there, as lines of a story.
var situations = []struct{ name, lines string }{
	{"starting, ordered", "desired web"},
	{"starting, started", "desired web ; started web/0"},
	{"running", "desired web min_uptime=0s ; started web/0"},
	{"running, flapping", "desired web min_uptime=0s flap_count=1 delay=0s ; started web/0 ; exit web/0 code=1 ; started web/0"},
	{"running, restart owed", "desired web min_uptime=0s ; started web/0 ; restart web/0"},
	{"stopping", "desired web min_uptime=0s ; started web/0 ; down web"},
	{"stopping, wanted again", "desired web min_uptime=0s ; started web/0 ; down web ; up web"},
	{"stopping, sweeping after a crash", "desired web min_uptime=0s ; started web/0 ; exit web/0 code=1 left=1"},
	{"stopping, draining", "desired web min_uptime=0s before={\"run\":{\"command\":\"drain\"}} ; started web/0 ; down web"},
	{"stopping, killed", "desired web min_uptime=0s timeout=0s ; started web/0 ; down web"},
	{"exited, down", "desired web min_uptime=0s ; started web/0 ; down web ; exit web/0 signal=TERM"},
	{"exited, done", "desired web min_uptime=0s when=failure ; started web/0 ; exit web/0"},
	{"exited, gave up", "desired web min_uptime=0s give_up=1 ; started web/0 ; exit web/0 code=1"},
	{"backoff", "desired web min_uptime=0s ; started web/0 ; exit web/0 code=1"},
	{"backoff, after a failed start", "desired web ; failed web/0 step=changing_to_/srv reason=no_such_file_or_directory"},
}

// Every fact, as a story would say it.
var factMatrix = []string{
	"started web/0", "failed web/0 step=starting reason=no_such_file_or_directory", "ready web/0", "exit web/0 code=0", "exit web/0 code=1",
	"exit web/0 signal=KILL left=2", "emptied web/0", "deadline web/0", "adopted web/0 launch=same", "adopted web/0 launch=same stopping",
	"adopted web/0 run=9 launch=same", "adopted web/0 run=9 launch=other stopping", "lost web/0", "tuned web/0",
	"drained web/0 answer=exit_code_1", "tuned web/0 refused=nofile:needs_restart:_operation_not_permitted", "preflight web", "preflight web it is gone", "exit web/0 run=9 code=1",
}

// Every wish: what a person or an edit can want.
var wishMatrix = []string{
	"up web", "down web", "down web/0", "edit web x0", "edit web x2", "edit web args=[\"new\"]", "edit web nice=3", "edit web stop_signal=\"INT\"",
	"remove web", "restart web/0", "start web/0", "signal web/0 HUP", "force web", "shutdown", "control dies", "boot",
}

// Each situation, each fact: what is told, what is ordered, and where it ends
// when from then on all goes well.
func TestEveryFactInEverySituation(t *testing.T) { golden(t, "testdata/matrix/facts.txt", factMatrix) }

// Each situation, each wish.
func TestEveryWishInEverySituation(t *testing.T) { golden(t, "testdata/matrix/wishes.txt", wishMatrix) }

func golden(t *testing.T, file string, columns []string) {
	var out strings.Builder
	for _, s := range situations {
		out.WriteString("## " + s.name + "\n")
		for _, line := range columns {
			out.WriteString(line + "\n")
			for _, l := range cell(t, s.lines, line) {
				out.WriteString("  " + l + "\n")
			}
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil && !*update {
		t.Fatal(err)
	}
	if out.String() == string(raw) {
		return
	}
	if !*update {
		t.Fatalf("%s is another one now (run with -update and look at the difference):\n%s", file, firstDifference(string(raw), out.String()))
	}
	if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// cell plays a line in a situation, and then lets all go well.
func cell(t *testing.T, situation, line string) []string {
	t.Helper()
	s := newStage()
	play := func(l string) {
		if err := s.do(strings.TrimSpace(l)); err != nil {
			t.Fatalf("%s, then %s: %v", situation, l, err)
		}
		if err := Check(s.w); err != nil {
			t.Fatalf("%s, then %s: %v", situation, l, err)
		}
	}
	for l := range strings.SplitSeq(situation, ";") {
		play(l)
	}
	s.take()
	play(line)
	told := s.take()
	s.rest(t)
	return append(told, s.inTheEnd()...)
}

// rest answers everything that was ordered, and lets time pass, until nothing
// moves.
func (s *stage) rest(t *testing.T) {
	t.Helper()
	s.quiet = true
	if err := s.do("auto all"); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		for _, p := range s.w.Programs {
			for _, i := range p.Instances {
				s.finish(i, p)
			}
		}
		if err := s.do("advance 2m"); err != nil {
			t.Fatal(err)
		}
	}
	s.quiet = false
}

// finish answers what was ordered before the kernel answered by itself.
func (s *stage) finish(i *Instance, p *Program) {
	switch {
	case i.State == StateStarting && i.StartedAt.IsZero():
		s.fact(Fact{Kind: FactStarted, ID: i.ID, Run: i.Run, PID: 100 + int(i.Run)})
	case i.State == StateStopping && i.MainGone:
		s.fact(Fact{Kind: FactEmptied, ID: i.ID, Run: i.Run})
	case i.Draining:
		s.fact(Fact{Kind: FactDrained, ID: i.ID, Run: i.Run})
	case i.State == StateStopping:
		s.fact(Fact{Kind: FactExited, ID: i.ID, Run: i.Run, Exit: &Exit{Code: -1, Signal: 15}})
	}
	if p.Preflight == PreflightAsked {
		s.fact(Fact{Kind: FactPreflight, ID: i.ID, Launch: p.Target})
	}
}

func (s *stage) inTheEnd() []string {
	out := []string{"in the end: nothing"}
	for _, name := range s.names() {
		p := s.w.Programs[name]
		if p == nil {
			continue
		}
		for n, i := range p.Instances {
			if line := "in the end: " + statusWords(i, s.now); n == 0 {
				out[0] = line
			} else {
				out = append(out, line)
			}
		}
		if p.Held != "" {
			out = append(out, "in the end held: "+p.Held)
		}
	}
	return out
}
