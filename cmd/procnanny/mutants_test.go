package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/procnanny/procnanny/spec"
)

const (
	// mutantsVar sets how many mutants TestMutantsChangeNothing saves.
	mutantsVar = "PROCNANNY_TEST_MUTANTS"
	// mostShards is how many daemons share them, each with some at least.
	mostShards, leastShare = 4, 8
)

// healthy are files that are good, in every format, beside the one of the
// writers.
var healthy = map[string]string{
	"policy.cue": "package site\n\nprograms: [Name=string]: {\n\tinstances?: <=32\n\tnice?: >=0\n\tstart: min_uptime: \"0s\"\n}\nprograms: [=~\"^adm\"]: {\n\tumask?: \"077\"\n}\n",
	"job.cue":    "package site\n\n#Job: {\n\tcommand: string\n\targs: [...string]\n\tnice: *5 | int\n\tlimits: core: 0\n\t...\n}\n\nprograms: web: #Job & {\n\tcommand: \"sleep\"\n\targs: [\"1000\"]\n\tinstances: 2\n\tstop: {signal: \"INT\", timeout: \"1s\"}\n}\n",
	"admin.yaml": "# by hand\nprograms:\n  admin:\n    command: sleep\n    args: ['1000']\n    env: {A: b, C: 'd e'}\n    restart:\n      delay: 1s\n      flap: {count: 5, within: 10s}\n    success_exit: [0, 3]\n",
	"timer.json": "{\"programs\": {\n  \"timer\": {\n    \"command\": \"sleep\",\n    \"args\": [\"1000\", \"$(instance)\"],\n    \"output\": {\"mode\": \"separate\", \"rotate\": {\"size\": 100000, \"keep\": 3}},\n    \"oom_score_adj\": 10\n  }\n}}\n",
}

// wrongWords are put in place of words. No number among them is large enough to
// start many processes, and no word is a program that does anything.
var wrongWords = strings.Split("5 -1 0 1.5 2.0 1e1 99999999999 64Ki 0o22 true null \"\" \"x\" \"10s\" \"TERM\" [] [1] {} {a:1} command nice user env limits "+
	"\"no such user\" >3 int|*4 string web $(x) $$ é \"é\" _ _x #D {{ }} , : programs on exit_when \"0\" 07 #\"y\"# 'b' \"\\u0000\" -0 .5 0x10 \x00 \xff \u202e *a &b !!c --- ...", " ")

// mutation changes a text at random: a word, a line, a byte, or where it ends.
func mutation(r *rand.Rand, text string) string {
	lines := strings.SplitAfter(text, "\n")
	i := r.IntN(len(lines))
	switch r.IntN(10) {
	case 0: // a line goes
		lines[i] = ""
	case 1: // a line comes twice, perhaps elsewhere
		lines[r.IntN(len(lines))] += lines[i]
	case 2: // the rest is missing
		return text[:r.IntN(len(text))]
	case 3: // a byte is another
		b := []byte(text)
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		return string(b)
	default: // a word becomes another
		words := strings.FieldsFunc(lines[i], func(r rune) bool { return strings.ContainsRune(" \t\n:,{}[]", r) })
		if len(words) > 0 {
			lines[i] = strings.Replace(lines[i], words[r.IntN(len(words))], wrongWords[r.IntN(len(wrongWords))], 1)
		}
	}
	return strings.Join(lines, "")
}

// sower is a daemon whose files are replaced by mutants and back.
type sower struct {
	*mortal
	r       *rand.Rand
	digest  string // of the healthy files
	healthy uint64 // the generation that has them
	good    *atomic.Int64
	bad     *atomic.Int64
}

// Files that were changed at random are saved over good ones that run: either they
// are refused, with the place, and nobody is touched; or they are good, and are
// applied. Then the good ones come back.
func TestMutantsChangeNothing(t *testing.T) {
	n, seed := count(mutantsVar, 16, 8), rand.Uint64()
	shards := min(mostShards, max(1, n/leastShare))
	var good, bad atomic.Int64
	t.Run("all", func(t *testing.T) {
		for shard := range shards {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				s := newSower(t, &good, &bad)
				for i := range n / shards {
					s.r = rand.New(rand.NewPCG(seed, uint64(shard*n+i)))
					s.sow()
					if t.Failed() {
						t.Logf("mutant %d,%d", seed, shard*n+i)
						return
					}
				}
			})
		}
	})
	t.Logf("%d mutants refused, %d applied", bad.Load(), good.Load())
	if bad.Load() == 0 || good.Load() == 0 && n > 100 {
		t.Error("that tests nothing")
	}
}

func newSower(t *testing.T, good, bad *atomic.Int64) *sower {
	t.Helper()
	m := newMortalWith(t, mortalOptions{change: func(programs map[string]any) {
		for i := range crashers {
			delete(programs, fmt.Sprintf("crasher%d", i))
		}
	}})
	for name, text := range healthy {
		m.save(name, text)
	}
	s := &sower{mortal: m, good: good, bad: bad}
	check(t, poll(func() (bool, string) {
		c, running := s.look()
		s.digest, s.healthy = c.Digest, c.Generation
		return c.State == "ok" && len(running) == writers+4, fmt.Sprintf("%+v %v", c, running)
	}))
	s.settledFiles()
	return s
}

// settledFiles waits until what was saved in the beginning is one generation.
func (s *sower) settledFiles() {
	s.t.Helper()
	var reply struct {
		Generation uint64 `msgpack:"generation"`
		Digest     string `msgpack:"digest"`
	}
	check(s.t, s.client.Call(context.Background(), "apply", map[string]any{"wait": true}, &reply))
	s.digest, s.healthy = reply.Digest, reply.Generation
}

// save replaces a file as an editor does.
func (m *mortal) save(name, text string) {
	m.t.Helper()
	path := filepath.Join(m.dir, "config", name)
	check(m.t, os.WriteFile(path+"~", []byte(text), 0o644))
	check(m.t, os.Rename(path+"~", path))
}

// configState is what status says of the configuration.
type configState struct {
	State      string        `msgpack:"state"`
	Generation uint64        `msgpack:"generation"`
	Digest     string        `msgpack:"digest"`
	Problems   spec.Problems `msgpack:"problems"`
}

// look says what is in force, and which processes run.
func (s *sower) look() (configState, []string) {
	s.t.Helper()
	var reply struct {
		Config   configState `msgpack:"config"`
		Programs map[string]struct {
			Instances map[int]struct {
				PID   int    `msgpack:"pid"`
				State string `msgpack:"state"`
			} `msgpack:"instances"`
		} `msgpack:"programs"`
	}
	check(s.t, s.client.Call(context.Background(), "status", nil, &reply))
	var running []string
	for name, p := range reply.Programs {
		for i, in := range p.Instances {
			if in.PID != 0 && in.State == "running" {
				running = append(running, fmt.Sprintf("%s/%d is %d", name, i, in.PID))
			}
		}
	}
	slices.Sort(running)
	return reply.Config, running
}

// sow saves a mutant, sees what becomes of it, and saves the good files again.
func (s *sower) sow() {
	s.t.Helper()
	_, before := s.look()
	name := []string{"policy.cue", "job.cue", "admin.yaml", "timer.json"}[s.r.IntN(4)]
	text := healthy[name]
	for range 1 + s.r.IntN(3) {
		text = mutation(s.r, text)
		if text == "" {
			break
		}
	}
	if text == healthy[name] {
		return
	}
	s.save(name, text)
	var now configState
	var running []string
	check(s.t, poll(func() (bool, string) {
		now, running = s.look()
		return now.State == "rejected" && !unjudged(now) || now.Digest != s.digest, fmt.Sprintf("nobody judged %s:\n%s", name, text)
	}))
	if now.State == "rejected" {
		s.bad.Add(1)
		s.judgeRefusal(now, before, running, name, text)
	} else {
		s.good.Add(1)
		s.judgeAcceptance(now, name, text)
	}
	accepted := now.State != "rejected"
	s.save(name, healthy[name])
	check(s.t, poll(func() (bool, string) {
		now, running = s.look()
		good := now.State == "ok" && now.Digest == s.digest && len(running) == writers+4
		return good && (!accepted || s.nothingToDo()), fmt.Sprintf("the good files are not in force again: %+v %v", now, running)
	}))
	if s.healthy = now.Generation; !accepted && !slices.Equal(before, running) {
		s.t.Errorf("%s was refused, and then there was %v before and %v after it:\n%s", name, before, running, text)
	}
}

// unjudged reports whether a busy machine did not let the evaluator come to an
// end. It is tried again.
func unjudged(c configState) bool {
	return slices.ContainsFunc(c.Problems, func(p spec.Problem) bool { return p.Line == 0 && strings.Contains(p.Message, "evaluat") })
}

// nothingToDo reports whether all is as the files say: a replacement may have to
// wait for its turn.
func (s *sower) nothingToDo() bool {
	s.t.Helper()
	var reply struct {
		Changes []any `msgpack:"changes"`
	}
	check(s.t, s.client.Call(context.Background(), "plan", nil, &reply))
	return len(reply.Changes) == 0
}

// judgeRefusal: nobody was touched, and it is said where the mistake is.
func (s *sower) judgeRefusal(now configState, before, running []string, name, text string) {
	s.t.Helper()
	if now.Generation != s.healthy || now.Digest != s.digest {
		s.t.Errorf("%s was refused, and generation %d is in force, it was %d:\n%s", name, now.Generation, s.healthy, text)
	}
	if !slices.Equal(before, running) {
		s.t.Errorf("%s was refused, and there was %v before and %v after it:\n%s", name, before, running, text)
	}
	for _, p := range now.Problems.Errors() {
		if p.File == "" || p.Line == 0 || p.Column == 0 || p.Message == "" {
			s.t.Errorf("%s was refused without a place: %q\n%s", name, p.Error(), text)
		}
	}
	if len(now.Problems.Errors()) == 0 {
		s.t.Errorf("%s was refused without a reason:\n%s", name, text)
	}
}

// judgeAcceptance: it is the next generation, and what is desired is what the
// files say.
func (s *sower) judgeAcceptance(now configState, name, text string) {
	s.t.Helper()
	if now.State != "ok" || now.Generation != s.healthy+1 {
		s.t.Errorf("%s was accepted, and the state is %q with generation %d, it was %d:\n%s", name, now.State, now.Generation, s.healthy, text)
	}
	var reply struct {
		Differences []any `msgpack:"differences"`
	}
	check(s.t, s.client.Call(context.Background(), "diff", nil, &reply))
	if len(reply.Differences) > 0 {
		s.t.Errorf("%s was accepted, and what is desired differs from it: %v\n%s", name, reply.Differences, text)
	}
}
