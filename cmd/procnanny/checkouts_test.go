package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/rpc/zmq"
)

const (
	// checkoutsVar sets how many checkouts TestCheckoutsAreWhole makes.
	checkoutsVar = "PROCNANNY_TEST_CHECKOUTS"
	tracked      = 100 // files of a revision
)

// tags are the revisions; in each, all files say which one it is. In the last one
// half of the files have other names.
var tags = []string{"old", "new", "other", "moved"}

// gardener has a configuration that is a git work tree.
type gardener struct {
	*mortal
	config string
	seen   uint64 // generations up to it were looked at
	shown  int
}

// Git checks out one revision of a hundred files after the other, also before the
// last one was read, beside programs that write and crash: each generation is one
// revision, none is refused, and the last one is in force in the end.
func TestCheckoutsAreWhole(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git on this machine")
	}
	t.Parallel()
	g := &gardener{mortal: newMortal(t)}
	g.config = g.dir + "/config"
	g.plant()
	ctx, cancel := context.WithCancel(context.Background())
	refusals := g.refusals(ctx)
	checkouts := count(checkoutsVar, 8, 6)
	for n := range checkouts {
		tag := tags[n%len(tags)]
		g.git("checkout", "-q", tag)
		switch rand.IntN(3) {
		case 0: // the next one comes at once
		case 1:
			time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
		default:
			g.arrives(tag)
		}
		g.inspect()
	}
	g.arrives(tags[(checkouts-1)%len(tags)])
	g.inspect()
	cancel()
	for _, r := range <-refusals {
		t.Errorf("something was refused: %s", r)
	}
	g.settled(time.Time{})
	t.Logf("%d checkouts, %d generations", checkouts, g.shown)
}

func (g *gardener) git(args ...string) string {
	g.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=x", "-c", "user.email=x@x", "-C", g.config}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// plant makes the revisions. A mixture of them would contradict itself as well.
func (g *gardener) plant() {
	g.t.Helper()
	g.git("init", "-q", "-b", "main", ".")
	for _, tag := range tags {
		g.git("rm", "-q", "-f", "--ignore-unmatch", "*.cue")
		for i := range tracked {
			name := fmt.Sprintf("f%03d.cue", i)
			if tag == "moved" && i%2 == 0 {
				name = fmt.Sprintf("g%03d.cue", i)
			}
			pad := strings.Repeat("x", i*10)
			check(g.t, os.WriteFile(g.config+"/"+name, fmt.Appendf(nil, "_revision: %q // %s\nprograms: p%03d: {command: \"sleep\", args: [%[1]q], instances: 0}\n", tag, pad, i), 0o644))
		}
		g.git("add", ".")
		g.git("commit", "-q", "-m", tag)
		g.git("tag", tag)
	}
	g.arrives("moved")
	c, _ := (&sower{mortal: g.mortal}).look()
	g.seen = c.Generation
}

// arrives waits until a revision is in force, and all of it.
func (g *gardener) arrives(tag string) {
	g.t.Helper()
	commit := g.git("rev-parse", tag)
	check(g.t, poll(func() (bool, string) {
		var reply struct {
			Config struct {
				Commit string `msgpack:"commit"`
			} `msgpack:"config"`
			Programs map[string]struct {
				Args []string `msgpack:"args"`
			} `msgpack:"programs"`
		}
		check(g.t, g.client.Call(context.Background(), "status", nil, &reply))
		found := map[string]int{}
		for name, p := range reply.Programs {
			if strings.HasPrefix(name, "p") {
				found[p.Args[0]]++
			}
		}
		return reply.Config.Commit == commit && found[tag] == tracked && len(found) == 1, fmt.Sprintf("%s (%s) does not come: %v, %s", tag, commit, found, reply.Config.Commit)
	}))
}

// inspect compares each new generation with what is desired now: all programs
// differ, or none.
func (g *gardener) inspect() {
	g.t.Helper()
	ctx := context.Background()
	var kept struct {
		Generations []struct {
			Number   uint64 `msgpack:"generation"`
			Programs int    `msgpack:"programs"`
		} `msgpack:"generations"`
	}
	check(g.t, g.client.Call(ctx, "generations", nil, &kept))
	for _, gen := range kept.Generations {
		if gen.Number <= g.seen {
			continue
		}
		if gen.Number != g.seen+1 {
			g.t.Errorf("after generation %d comes %d", g.seen, gen.Number)
		}
		g.seen = gen.Number
		g.shown++
		var reply struct {
			Differences []struct {
				Field      string   `msgpack:"field"`
				Desired    []string `msgpack:"desired"`
				Generation []string `msgpack:"generation"`
			} `msgpack:"differences"`
		}
		check(g.t, g.client.Call(ctx, "diff", map[string]any{"generation": gen.Number}, &reply))
		pairs := map[string]int{}
		for _, d := range reply.Differences {
			pairs[fmt.Sprint(d.Field, d.Desired, d.Generation)]++
		}
		for pair, n := range pairs {
			if n != tracked || len(pairs) != 1 {
				g.t.Errorf("generation %d is a mixture: %d times %s, of %v", gen.Number, n, pair, pairs)
			}
		}
		if want := tracked + 1 + crashers; gen.Programs != want {
			g.t.Errorf("generation %d has %d programs, not %d", gen.Number, gen.Programs, want)
		}
	}
}

// refusals collects what is told of refused files until ctx ends.
func (g *gardener) refusals(ctx context.Context) <-chan []string {
	g.t.Helper()
	sub, err := zmq.Subscribe("ipc://"+g.dir+"/run/events.sock", []string{"config"})
	check(g.t, err)
	out := make(chan []string, 1)
	go func() {
		defer sub.Close()
		var all []string
		for ctx.Err() == nil {
			_, body, err := sub.NextRaw(ctx)
			if err != nil {
				continue
			}
			if strings.Contains(string(body), "rejected") && !strings.Contains(string(body), "configuration is busy") { // that is an honest answer
				all = append(all, fmt.Sprintf("%q", body))
			}
		}
		out <- all
	}()
	return out
}
