package proc

import (
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/runtime/keeper"
	"github.com/procnanny/procnanny/spec"
)

func bootNS(t *testing.T) int64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	return ts.Nano()
}

// near checks a time and makes it comparable.
func near(t *testing.T, got *time.Time, ago time.Duration) {
	t.Helper()
	if d := time.Since(*got) - ago; d < -time.Second || d > 5*time.Second {
		t.Errorf("time is %v ago, should be %v", time.Since(*got), ago)
	}
	*got = time.Time{}
}

func TestTake(t *testing.T) {
	p, f := newFake(t)
	at := bootNS(t) - int64(time.Hour)
	base := keeper.Fact{Run: 4, Program: "web", Index: 1, AtNS: at}
	with := func(kind keeper.FactKind, change func(k *keeper.Fact)) keeper.Fact {
		k := base
		k.Kind = kind
		if change != nil {
			change(&k)
		}
		return k
	}
	id := reconcile.InstanceID{Program: "web", Index: 1}
	tests := []struct {
		in   keeper.Fact
		want reconcile.Fact
	}{
		{with(keeper.FactStarted, func(k *keeper.Fact) { k.PID = 9 }), reconcile.Fact{Kind: reconcile.FactStarted, ID: id, Run: 4, PID: 9}},
		{
			with(keeper.FactStartFailed, func(k *keeper.Fact) { k.Step, k.Errno, k.Reason = "s", 2, "s: r" }),
			reconcile.Fact{Kind: reconcile.FactStartFailed, ID: id, Run: 4, Step: "s", Errno: 2, Reason: "s: r"},
		},
		{
			with(keeper.FactExited, func(k *keeper.Fact) { k.Code, k.Left = 3, 2 }),
			reconcile.Fact{Kind: reconcile.FactExited, ID: id, Run: 4, Left: 2, Exit: &reconcile.Exit{Code: 3}},
		},
		{
			with(keeper.FactExited, func(k *keeper.Fact) { k.Code, k.Signal, k.Core = -1, 11, true }),
			reconcile.Fact{Kind: reconcile.FactExited, ID: id, Run: 4, Exit: &reconcile.Exit{Code: -1, Signal: 11, Core: true}},
		},
		{
			with(keeper.FactExited, func(k *keeper.Fact) { k.Code = -1 }),
			reconcile.Fact{Kind: reconcile.FactExited, ID: id, Run: 4, Exit: &reconcile.Exit{Code: -1, Unknown: true}},
		},
		{with(keeper.FactEmptied, nil), reconcile.Fact{Kind: reconcile.FactEmptied, ID: id, Run: 4}},
		{
			with(keeper.FactTuned, func(k *keeper.Fact) { k.Digest, k.Refused = "d", map[string]string{"nofile": "no"} }),
			reconcile.Fact{Kind: reconcile.FactTuned, ID: id, Run: 4, Tuning: "d", Refused: map[string]string{"nofile": "no"}},
		},
		{
			with(keeper.FactPreflight, func(k *keeper.Fact) { k.Digest, k.Reason = "d", "why" }),
			reconcile.Fact{Kind: reconcile.FactPreflight, ID: reconcile.InstanceID{Program: "web", Index: -1}, Run: 4, Launch: "d", Reason: "why"},
		},
	}
	in := []keeper.Fact{{Kind: keeper.FactHello}, {Kind: keeper.FactAsked, Signal: 15}}
	for _, tt := range tests {
		in = append(in, tt.in)
	}
	p.Take(in)
	if len(f.facts) != len(tests) {
		t.Fatalf("%d facts of %d", len(f.facts), len(tests))
	}
	for i, tt := range tests {
		got := f.facts[i]
		if wall, boot := machineClock(); got.Booted.Sub(wall.Add(-time.Duration(boot))).Abs() > time.Hour {
			t.Errorf("fact %d is dated by a clock that says that we were booted at %v", i, got.Booted)
		}
		got.Booted = time.Time{}
		near(t, &got.At, time.Hour)
		if got.Exit != nil {
			near(t, &got.Exit.At, time.Hour)
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("fact %d is %+v, should be %+v", i, got, tt.want)
		}
	}
	p.Take([]keeper.Fact{{Kind: keeper.FactHello}})
	if len(f.facts) != len(tests) {
		t.Error("facts without news were handed on")
	}
}

// world has instances of web in the given states, run 10 plus index.
func world(states ...reconcile.State) reconcile.World {
	g := &reconcile.Program{Name: "web"}
	for n, s := range states {
		g.Instances = append(g.Instances, &reconcile.Instance{ID: reconcile.InstanceID{Program: "web", Index: n}, State: s, Run: reconcile.RunID(10 + n)})
	}
	return reconcile.World{Programs: map[string]*reconcile.Program{"web": g}, NextRun: 20}
}

func TestAdopt(t *testing.T) {
	p, f := newFake(t)
	started, ended := bootNS(t)-int64(2*time.Hour), bootNS(t)-int64(time.Hour)
	held := func(n int, change func(r *keeper.Run)) keeper.Run {
		r := keeper.Run{Run: uint64(10 + n), Program: "web", Index: n, PID: 100 + n, StartedNS: started, LaunchDigest: "l", TuningDigest: "t", Generation: 4}
		if change != nil {
			change(&r)
		}
		return r
	}
	exit := keeper.Fact{Kind: keeper.FactExited, Code: 7, AtNS: ended}
	h := keeper.Hello{Runs: []keeper.Run{
		held(0, nil),
		held(1, func(r *keeper.Run) { r.Stopping = true }),
		held(2, func(r *keeper.Run) { r.Ended, r.Exit = true, exit }),
		held(3, func(r *keeper.Run) { r.Ended, r.Emptied, r.Exit = true, true, exit }),
		// 4 is not held.
		held(5, func(r *keeper.Run) { r.Ended, r.Emptied, r.Exit = true, true, exit }), // on record as exited
		held(6, func(r *keeper.Run) { r.Run = 99 }),                                    // on record with another run
		held(7, func(r *keeper.Run) {
			r.Ended, r.Emptied, r.Exit = true, true, keeper.Fact{Kind: keeper.FactStartFailed, Step: "executing", Errno: 2, Reason: "executing: no"}
		}),
		held(8, func(r *keeper.Run) { r.Ended, r.Exit = true, exit }),                             // on record as exited, and left somebody behind
		held(9, func(r *keeper.Run) { r.Run, r.Ended, r.Emptied, r.Exit = 60, true, true, exit }), // newer than what is on record
		held(10, func(r *keeper.Run) {
			r.Ended, r.Emptied, r.Exit = true, true, keeper.Fact{Kind: keeper.FactStartFailed, Errno: int(syscall.EOWNERDEAD), Reason: "nobody knows"}
		}),
		held(100, func(r *keeper.Run) { r.Run, r.Program, r.Index, r.PID = 50, "other", 0, 150 }), // not on record
		held(101, func(r *keeper.Run) {
			r.Run, r.Program, r.Index, r.Ended, r.Emptied, r.Exit = 51, "new", 0, true, true, exit
		}), // nor this
		held(102, func(r *keeper.Run) {
			r.Run, r.Program, r.Index, r.Ended, r.Emptied, r.Exit = 19, "gone", 0, true, true, exit
		}), // its end was, and then the instance was forgotten
	}}
	w := world(
		reconcile.StateRunning, reconcile.StateStopping, reconcile.StateRunning, reconcile.StateStarting,
		reconcile.StateRunning, reconcile.StateExited, reconcile.StateRunning, reconcile.StateStarting, reconcile.StateExited, reconcile.StateBackoff,
		reconcile.StateStarting,
	)
	var got []string
	for _, fact := range p.Adopt(h, w) {
		text := map[reconcile.FactKind]string{
			reconcile.FactAdopted: "adopted", reconcile.FactExited: "exited", reconcile.FactEmptied: "emptied", reconcile.FactLost: "lost", reconcile.FactStartFailed: "failed",
		}[fact.Kind] + " " + fact.ID.String()
		if fact.Stopping {
			text += " stopping"
		}
		got = append(got, text)
		if (fact.Kind == reconcile.FactAdopted || fact.Kind == reconcile.FactExited) && (fact.PID < 100 && fact.Exit == nil || fact.Launch != "l" || fact.Tuning != "t" || fact.Generation != 4) {
			t.Errorf("adopted, or ended, as %+v", fact)
		}
		if unseen := fact.ID.Index == 10; unseen && (fact.Exit == nil || !fact.Exit.Unknown || fact.Reason == "") {
			t.Errorf("a start that nobody saw is %+v", fact)
		} else if fact.Exit != nil && !unseen {
			near(t, &fact.Exit.Start, 2*time.Hour)
			near(t, &fact.Exit.At, time.Hour)
			if left := fact.ID.Index == 2; fact.Exit.Code != 7 || (fact.Left > 0) != left {
				t.Errorf("exited as %+v", fact)
			}
		}
		if fact.Kind == reconcile.FactAdopted {
			near(t, &fact.At, 2*time.Hour)
		}
	}
	want := "adopted web/0, adopted web/1 stopping, exited web/2, adopted web/3, exited web/3, emptied web/3, lost web/4, lost web/6, failed web/7, lost web/10, adopted web/6, exited web/9, emptied web/9, adopted other/0, exited new/0, emptied new/0"
	if text := strings.Join(got, ", "); text != want {
		t.Errorf("facts are %s, should be %s", text, want)
	}
	type brief struct {
		kind keeper.OrderKind
		run  uint64
	}
	var orders []brief
	for _, o := range f.orders {
		orders = append(orders, brief{o.Kind, o.Run})
		if o.Kind == keeper.OrderKill && o.Signal != spec.SIGKILL {
			t.Errorf("killed with %v", o.Signal)
		}
	}
	wantOrders := []brief{{keeper.OrderAck, 15}, {keeper.OrderKill, 18}, {keeper.OrderAck, 19}}
	if !reflect.DeepEqual(orders, wantOrders) {
		t.Errorf("orders are %v, should be %v", orders, wantOrders)
	}
	// What was left behind is nobody's news; its emptiness is acknowledged.
	p.Take([]keeper.Fact{{Kind: keeper.FactExited, Run: 18, Program: "web"}, {Kind: keeper.FactEmptied, Run: 18, Program: "web"}})
	if last := f.orders[len(f.orders)-1]; len(f.facts) != 0 || last.Kind != keeper.OrderAck || last.Run != 18 || len(p.disowned) != 0 {
		t.Errorf("facts are %+v, the last order is %+v", f.facts, last)
	}
}

func TestAck(t *testing.T) {
	p, f := newFake(t)
	p.Ack()
	p.Ack(3, 4)
	if len(f.orders) != 2 || f.sends != 1 || f.orders[1].Kind != keeper.OrderAck || f.orders[1].Run != 4 {
		t.Errorf("%d messages: %+v", f.sends, f.orders)
	}
}

// Output that cannot be written is told once, and observed as long as it lasts.
func TestOutputFaults(t *testing.T) {
	var told []OutputFact
	p := New(Config{Send: func([]keeper.Order) error { return nil }, Facts: func([]reconcile.Fact) {}, Output: func(o OutputFact) { told = append(told, o) }})
	id := reconcile.InstanceID{Program: "web", Index: 1}
	say := func(reason string, dropping bool, dropped int64, news int, fault string) {
		t.Helper()
		p.Take([]keeper.Fact{{Kind: keeper.FactOutput, Run: 7, Program: "web", Index: 1, Reason: reason, Dropping: dropping, Dropped: dropped}})
		if len(told) != news || news > 0 && (told[news-1].Reason != reason || told[news-1].ID != id) {
			t.Fatalf("told %+v", told)
		}
		if s := p.outputState(id); s.Fault != fault || s.Dropped != dropped {
			t.Fatalf("state %+v, not %q", s, fault)
		}
	}
	say("full", false, 0, 1, "its output waits: full")
	say("full", false, 0, 1, "its output waits: full")
	say("full", true, 5, 2, "its output is dropped: full")
	say("full", true, 9, 2, "its output is dropped: full")
	say("", false, 9, 3, "")
	p.Do([]reconcile.Order{order(reconcile.ActionForget, 1, 7, nil)})
	if s := p.outputState(id); s.Dropped != 0 {
		t.Errorf("an instance that is gone has %+v", s)
	}
}

// Whoever is interrupted between two clocks looks again, and in the end believes
// the two readings that were closest.
func TestClocksAreReadAtOnce(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	for name, tt := range map[string]struct {
		// breaks are how long the readings of the wall clock are held up.
		breaks []time.Duration
		looks  int
		off    time.Duration
	}{
		"undisturbed":       {[]time.Duration{0}, 1, 0},
		"interrupted once":  {[]time.Duration{3 * time.Millisecond, 0}, 2, 0},
		"interrupted often": {[]time.Duration{9e6, 8e6, 2e6, 7e6, 6e6}, 5, time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			since, looks := time.Duration(0), 0
			boot := func() int64 { return int64(time.Hour + since) }
			wall, ns, apart := atOnce(func() time.Time {
				at := start.Add(since)
				since += tt.breaks[looks] // and then we are interrupted
				looks++
				return at
			}, boot)
			if off := time.Duration(ns) - time.Hour - wall.Sub(start); looks != tt.looks || off != tt.off || apart != 2*tt.off {
				t.Errorf("%d looks, the clocks are off by %v, known to within %v", looks, off, apart)
			}
		})
	}
}
