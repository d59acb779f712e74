package sim

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// desired is a specification of web and its neighbours, without chance.
func desired(change func(p *spec.Program), names ...string) spec.Spec {
	s := spec.Spec{Programs: map[string]spec.Program{}}
	for _, name := range append(names, "web") {
		p := spec.Defaults()
		p.Command, p.Restart.Jitter = name, 0
		if change != nil {
			change(&p)
		}
		s.Programs[name] = p
	}
	return s
}

// of matches one program, or one instance of it.
func of(program string, index ...int) Match {
	return func(id reconcile.InstanceID) bool {
		return id.Program == program && (len(index) == 0 || id.Index == index[0])
	}
}

// text is a report as a test compares it.
func text(r *Report) string {
	var b strings.Builder
	for _, l := range r.Lines {
		what := l.What
		if len(l.States) > 0 {
			what = strings.Join(l.States, " -> ")
		}
		fmt.Fprintf(&b, "%s %s%v %s", l.At, l.Program, l.Indexes, what)
		if l.Why != "" {
			fmt.Fprintf(&b, " (%s)", l.Why)
		}
		if l.Times > 0 {
			fmt.Fprintf(&b, " x%d until %s", l.Times, l.Until)
		}
		b.WriteString("\n")
	}
	for _, p := range r.Programs {
		fmt.Fprintf(&b, "%s: starts %d, crashes %d, exits %d, stops %d, killed %d, wanted %s, running %s, down %s, longest %s, %v\n",
			p.Program, p.Starts, p.Crashes, p.Exits, p.Stops, p.Killed, p.Wanted, p.Running, p.Down, p.Longest, p.End)
	}
	return b.String()
}

// fewer is less where time is short.
func fewer(n int) int {
	if testing.Short() {
		return n / 5
	}
	return n
}

func play1(t *testing.T, s Scenario) string {
	t.Helper()
	r, err := s.Play()
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Play()
	if err != nil || text(again) != text(r) || !reflect.DeepEqual(again.Programs, r.Programs) {
		t.Errorf("the same scenario ends in two ways: %v\n%s\n%s", err, text(r), text(again))
	}
	for _, p := range r.Programs {
		living := p.End["starting"] + p.End["running"] + p.End["stopping"]
		if p.Starts != p.Crashes+p.Exits+p.Stops+living || p.Running > p.Wanted || p.Longest > p.Down {
			t.Errorf("it does not add up: %+v", p)
		}
	}
	return text(r)
}

// Each key that says when, and each policy, plays its part; times are those that
// a person works out from the documentation.
func TestScenarios(t *testing.T) {
	for _, c := range []struct {
		name string
		s    Scenario
		want string
	}{
		{"delay, factor, max_delay, flapping, and what repeats", Scenario{
			Spec: desired(func(p *spec.Program) {
				p.Restart.MaxDelay, p.Start.MinUptime, p.Restart.Flap.Count = spec.Seconds(2), 0, 3
			}),
			For: 20 * time.Second, Deaths: []Death{{Match: of("web"), After: time.Second, Ending: Ending{Code: 3}}},
		}, `0s web[0] new -> starting (boot)
0s web[0] starting -> running
1s web[0] running -> backoff (exit code 3, attempt 1, next start in 500ms)
1.5s web[0] backoff -> starting (restart after exit)
1.5s web[0] starting -> running
2.5s web[0] running -> backoff (exit code 3, attempt 2, next start in 1s)
3.5s web[0] backoff -> starting (restart after exit)
3.5s web[0] starting -> running
4.5s web[0] running -> backoff (exit code 3, attempt 3, next start in 2s)
4.5s web[0] flapping (3 unplanned ends within 1m0s)
6.5s web[0] backoff -> starting (restart after exit)
6.5s web[0] starting -> running
7.5s web[0] running -> backoff (exit code 3, attempt 4, next start in 2s)
9.5s web[0] backoff -> starting (restart after exit)
9.5s web[0] starting -> running
10.5s web[0] running -> backoff (exit code 3, attempt 5, next start in 2s)
12.5s web[0] backoff -> starting -> running -> backoff x3 until 19.5s
web: starts 8, crashes 8, exits 0, stops 0, killed 0, wanted 20s, running 8s, down 12s, longest 2s, map[backoff:1]
`},
		{"give_up", Scenario{
			Spec: desired(func(p *spec.Program) { p.Restart.GiveUp = 2 }),
			For:  time.Minute, Deaths: []Death{{Match: of("web"), After: 100 * time.Millisecond, Ending: Ending{Code: -1, Signal: 11}}},
		}, `0s web[0] new -> starting (boot)
100ms web[0] starting -> backoff (signal SEGV, attempt 1, next start in 500ms)
600ms web[0] backoff -> starting (restart after exit)
700ms web[0] starting -> exited (signal SEGV, gave up)
web: starts 2, crashes 2, exits 0, stops 0, killed 0, wanted 1m0s, running 0s, down 1m0s, longest 1m0s, map[exited:1]
`},
		{"a job that is done is not missed", Scenario{
			Spec: desired(func(p *spec.Program) { p.Restart.When.Mode = "failure" }),
			For:  time.Minute, Deaths: []Death{{Match: of("web"), At: 10 * time.Second}},
		}, `0s web[0] new -> starting (boot)
1s web[0] starting -> running
10s web[0] running -> exited (exit code 0, done)
web: starts 1, crashes 0, exits 1, stops 0, killed 0, wanted 10s, running 9s, down 1s, longest 1s, map[exited:1]
`},
		{"a stop that is not heard", Scenario{
			Spec: desired(func(p *spec.Program) { p.Stop.Timeout = spec.Seconds(5) }),
			For:  time.Minute, Slow: []Slow{{Match: of("web"), Never: true}},
			Acts: []Act{{At: 10 * time.Second, Words: "stop", Stop: of("web")}, {At: 30 * time.Second, Words: "start", Start: of("web")}},
		}, `0s web[0] new -> starting (boot)
1s web[0] starting -> running
10s [] stop
10s web[0] running -> stopping (stop)
15s web[0] stopping -> exited (signal KILL)
30s [] start
30s web[0] exited -> starting (command)
31s web[0] starting -> running
web: starts 2, crashes 0, exits 0, stops 1, killed 1, wanted 40s, running 38s, down 2s, longest 1s, map[running:1]
`},
		{"a roll, one at a time, which takes as long as the stops and starts", Scenario{
			Spec: desired(func(p *spec.Program) { p.Instances, p.Update.MaxUnavailable = 3, spec.CountOrPercent{N: 1} }),
			For:  time.Minute, Slow: []Slow{{Match: of("web"), Takes: 2 * time.Second}},
			Acts: []Act{{At: 10 * time.Second, Words: "edit", Edit: new(desired(func(p *spec.Program) {
				p.Instances, p.Update.MaxUnavailable, p.Args = 2, spec.CountOrPercent{N: 1}, []string{"new"}
			}))}},
		}, `0s web[0 1 2] new -> starting (boot)
1s web[0 1 2] starting -> running
10s [] edit
10s web[0] running -> stopping (replaced)
10s web[2] running -> stopping (scaled down)
12s web[0] stopping -> starting (signal TERM, config change)
12s web[2] stopping -> exited (signal TERM)
13s web[0] starting -> running
13s web[1] running -> stopping (replaced)
15s web[1] stopping -> starting (signal TERM, config change)
16s web[1] starting -> running
web: starts 5, crashes 0, exits 0, stops 3, killed 0, wanted 2m10s, running 2m1s, down 1s, longest 1s, map[running:2]
`},
		{"an edit for which nothing is stopped, since it could not start", Scenario{
			Spec: desired(nil), For: time.Minute, Broken: []Broken{{Match: of("web"), From: 5 * time.Second, Until: 20 * time.Second}},
			Acts: []Act{{At: 10 * time.Second, Words: "edit", Edit: new(desired(func(p *spec.Program) { p.Dir = "/new" }))}},
		}, `0s web[0] new -> starting (boot)
1s web[0] starting -> running
10s [] edit
10s web[] held (preflight: executing: no such file or directory)
40s web[] resumed (the preflight is good now)
40s web[0] running -> stopping (replaced)
40s web[0] stopping -> starting (signal TERM, config change)
41s web[0] starting -> running
web: starts 2, crashes 0, exits 0, stops 1, killed 0, wanted 1m0s, running 58s, down 2s, longest 1s, map[running:1]
`},
		{"exit_when", Scenario{
			Spec: func() spec.Spec { s := desired(nil, "main"); s.ExitWhen = "main"; return s }(),
			For:  time.Hour, Deaths: []Death{{Match: of("main"), At: 10 * time.Second}}, Slow: []Slow{{Match: of("web"), Takes: 3 * time.Second}},
		}, `0s main[0] new -> starting (boot)
0s web[0] new -> starting (boot)
1s main[0] starting -> running
1s web[0] starting -> running
10s [] exit_when: main has ended, and the daemon stops everything and ends
10s main[0] running -> backoff (exit code 0, attempt 1, next start in 500ms)
10s main[0] backoff -> exited
10s web[0] running -> stopping (shutdown)
13s web[0] stopping -> exited (signal TERM)
main: starts 1, crashes 0, exits 1, stops 0, killed 0, wanted 13s, running 9s, down 4s, longest 3s, map[exited:1]
web: starts 1, crashes 0, exits 0, stops 1, killed 0, wanted 13s, running 9s, down 4s, longest 3s, map[exited:1]
`},
		{"scaling by hand, until the file says otherwise", Scenario{
			Spec: desired(nil), For: 30 * time.Second,
			Acts: []Act{
				{At: 5 * time.Second, Words: "scale", Scale: map[string]int{"web": 3}},
				{At: 10 * time.Second, Words: "edit", Edit: new(desired(func(p *spec.Program) { p.Stop.Timeout = 1 }))},
				{At: 20 * time.Second, Words: "edit", Edit: new(desired(func(p *spec.Program) { p.Instances = 2 }))},
			},
		}, `0s web[0] new -> starting (boot)
1s web[0] starting -> running
5s [] scale
5s web[1 2] new -> starting (scale)
6s web[1 2] starting -> running
10s [] edit
20s [] edit
20s web[2] running -> stopping (scaled down)
20s web[2] stopping -> exited (signal TERM)
web: starts 3, crashes 0, exits 0, stops 1, killed 0, wanted 1m10s, running 1m7s, down 1s, longest 1s, map[running:2]
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := play1(t, c.s); got != c.want {
				t.Errorf("it became\n%s", got)
			}
		})
	}
}

// Random lives have the mean that was asked for, and follow from the seed.
func TestRandomLives(t *testing.T) {
	s := Scenario{Spec: desired(func(p *spec.Program) { p.Instances = 20 }), For: time.Duration(fewer(10)) * time.Hour, Seed: 1}
	s.Deaths = []Death{{Match: of("web"), About: 10 * time.Minute, Ending: Ending{Code: 1}}}
	first := play1(t, s)
	r, err := s.Play()
	if err != nil {
		t.Fatal(err)
	}
	if n, want := r.Programs[0].Crashes, 20*int(s.For/(10*time.Minute)); n < want*8/10 || n > want*12/10 {
		t.Errorf("20 that live for 10 minutes each crash %d times in %s", n, s.For)
	}
	s.Seed = 2
	if play1(t, s) == first {
		t.Error("another seed makes the same history")
	}
}

// A day of a program that crashes once a minute is some lines.
func TestADayIsShort(t *testing.T) {
	s := Scenario{Spec: desired(func(p *spec.Program) { p.Instances = 3 }), For: 24 * time.Hour}
	s.Deaths = []Death{{Match: of("web", 1), Every: time.Minute, Ending: Ending{Code: 1}}}
	r, err := s.Play()
	if err != nil || len(r.Lines) > 30 || r.Programs[0].Crashes != 1440 || r.Dropped != 0 {
		t.Errorf("%v\n%s", err, text(r))
	}
}

// What never ends is refused, with how far it came.
func TestTooMuch(t *testing.T) {
	defer func(n int) { most = n }(most)
	most = 2000
	s := Scenario{Spec: desired(func(p *spec.Program) { p.Restart.Delay = 0 }), For: time.Hour, Deaths: []Death{{Match: of("web"), After: 1, Ending: Ending{Code: 1}}}}
	if r, err := s.Play(); err == nil || !strings.Contains(err.Error(), "cannot simulate more than 2000 events") {
		t.Errorf("%v, %+v", err, r)
	}
}

// Crash loops follow policy: programs that end as soon as they run flap within
// ten seconds, and are started as often as the delays say, jitter and all.
func TestCrashLoopsFollowPolicy(t *testing.T) {
	n, lasts := fewer(50), time.Hour
	s := Scenario{Spec: spec.Spec{Programs: map[string]spec.Program{}}, For: lasts}
	p := spec.Defaults()
	for i := range n {
		p.Command = fmt.Sprint("p", i)
		s.Spec.Programs[p.Command] = p
	}
	s.Deaths = []Death{{Match: func(reconcile.InstanceID) bool { return true }, After: time.Millisecond, Ending: Ending{Code: 1}}}
	least, most := 0, 0 // starts in an hour, by the longest and the shortest delays
	for at := time.Duration(0); at < lasts; least++ {
		_, longest := Delay(&p.Restart, least+1)
		at += longest + execTime
	}
	for at := time.Duration(0); at < lasts; most++ {
		shortest, _ := Delay(&p.Restart, most+1)
		at += shortest + execTime
	}
	r, err := s.Play()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Programs {
		if p.Starts < least || p.Starts > most || !p.Flapping || p.Running > 0 {
			t.Errorf("%+v; by policy there are %d to %d starts", p, least, most)
		}
	}
	flapping := 0
	for _, l := range r.Lines {
		if l.What == "flapping" {
			if flapping++; l.At > 10*time.Second {
				t.Errorf("%s is known to flap after %s", l.Program, l.At)
			}
		}
	}
	if flapping != n {
		t.Errorf("%d of %d flap", flapping, n)
	}
}

// A thousand that end in one instant are a thousand ends, each once.
func TestManyEndInOneInstant(t *testing.T) {
	many := fewer(1000)
	s := Scenario{Spec: desired(func(p *spec.Program) { p.Instances = many }), For: 30 * time.Second}
	for n := range 10 {
		s.Deaths = append(s.Deaths, Death{Match: of("web"), At: time.Duration(2+2*n) * time.Second, Ending: Ending{Code: n}})
	}
	s.Spec.Programs["web"] = func() spec.Program {
		p := s.Spec.Programs["web"]
		p.Restart.Factor = 1
		return p
	}()
	r, err := s.Play()
	if err != nil {
		t.Fatal(err)
	}
	if p := r.Programs[0]; p.Crashes+p.Exits != 10*many || p.Exits != many || p.Starts != 11*many {
		t.Errorf("%+v", p)
	}
}
