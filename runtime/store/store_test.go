package store

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
	"github.com/procnanny/procnanny/spec"
)

// ways of a store's end, after each of which the next one must know all.
var ends = map[string]func(*testing.T, *Store){
	"closed":                    func(t *testing.T, s *Store) { s.Close() },
	"killed":                    func(t *testing.T, s *Store) { abandon(s) },
	"killed after a commit":     func(t *testing.T, s *Store) { settled(t, s); abandon(s) },
	"killed after a compaction": func(t *testing.T, s *Store) { compact(t, s); abandon(s) },
}

func compact(t *testing.T, s *Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.j.rewrite(s.snapshot); err != nil {
		t.Fatal(err)
	}
}

func TestANewControlFindsTheWorldAsItWas(t *testing.T) {
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			s, rec := b.open()
			if rec.Rebooted || !rec.World.Booting || rec.World.NextRun != 1 || len(rec.Loss) > 0 {
				t.Fatalf("a new store found %+v", rec)
			}
			web := living("web", 0, 1)
			s.Record(changed(web, living("web", 1, 2), living("gone", 0, 3)), []Draft{draft("state.web.0")})
			ended, ev := crashed(web, 7)
			batch := changed(ended)
			batch.Events, batch.NextRun, batch.Gone = []reconcile.Event{ev}, 9, []reconcile.InstanceID{id("gone", 0)}
			batch.Programs = []*reconcile.Program{
				{Name: "web", Instances: batch.Changed, Target: "x", Preflight: reconcile.PreflightGood, Held: "it fails", RetryAt: epoch, Forced: "y"}, {Name: "gone"},
			}
			events := s.Record(batch, []Draft{draft("state.web.0"), draft("state.web.1")})
			if events[0].Seq != 2 || events[0].Prev != 1 || events[1].Seq != 3 || events[1].Prev != 0 {
				t.Fatalf("numbered %+v", events)
			}
			end(t, s)

			s, rec = b.open()
			if rec.Rebooted || rec.World.Booting || rec.World.NextRun != 9 || len(rec.Loss) > 0 || len(rec.World.Programs) != 1 {
				t.Fatalf("found %+v", rec)
			}
			p := rec.World.Programs["web"]
			if p.Held != "it fails" || p.Target != "x" || p.Preflight != reconcile.PreflightGood || !p.RetryAt.Equal(epoch) || p.Forced != "y" || p.Spec != nil {
				t.Errorf("the roll is %+v", p)
			}
			if len(p.Instances) != 2 || !same(*p.Instances[0], *ended) || !same(*p.Instances[1], *living("web", 1, 2)) {
				t.Errorf("found %+v %+v\nwant  %+v", p.Instances[0], p.Instances[1], ended)
			}
			checkGapless(t, s, 3)
			if e := s.Record(reconcile.Batch{}, []Draft{draft("state.web.1")})[0]; e.Seq != 4 || e.Prev != 3 {
				t.Errorf("goes on with %+v", e)
			}
			runs, err := s.Runs(RunQuery{Program: "web"})
			if err != nil || len(runs) != 2 || runs[0].Exit == nil || runs[0].Exit.Code != 7 || !runs[1].End.IsZero() || runs[1].PID != 1002 {
				t.Errorf("runs are %+v, %v", runs, err)
			}
			if runs[0].StartCause != reconcile.CauseBoot || runs[0].By == nil || runs[0].By.UID != 7 || runs[0].Generation != 3 {
				t.Errorf("the ended run does not know its start: %+v", runs[0])
			}
		})
	}
}

// same compares values whose times may differ in their location.
func same(a, b any) bool { return reflect.DeepEqual(plain(a), plain(b)) }

func plain(v any) string { return fmt.Sprintf("%x", reflected(v)) }

func TestEveryFieldOfAnInstanceComesBack(t *testing.T) {
	var i reconcile.Instance
	fill(reflect.ValueOf(&i).Elem(), 1)
	var got reconcile.Instance
	if err := unpack(appendInstance(nil, &i), &got); err != nil {
		t.Fatal(err)
	}
	v := reflect.ValueOf(got)
	for n := range v.NumField() {
		if v.Field(n).IsZero() {
			t.Errorf("%s is lost", v.Type().Field(n).Name)
		}
	}
	if !same(i, got) {
		t.Errorf("got  %+v\nwant %+v", got, i)
	}
	x := reflect.ValueOf(*got.LastExit)
	for n := range x.NumField() {
		if x.Field(n).IsZero() {
			t.Errorf("the exit's %s is lost", x.Type().Field(n).Name)
		}
	}
}

// fill sets every field to something that is not zero.
func fill(v reflect.Value, n int) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(epoch.Add(time.Duration(n) * time.Hour)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n+i)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n+1)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, n)
		fill(value, n)
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString(fmt.Sprint("text ", n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(n))
	case reflect.Uint8: // an enumeration
		v.SetUint(uint64(n%3 + 1))
	case reflect.Uint64, reflect.Uint32:
		v.SetUint(uint64(n))
	default:
		panic("fill does not know " + v.Type().String())
	}
}

func TestWhatPeopleWantIsDurable(t *testing.T) {
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			s, _ := b.open()
			index := 2
			overrides := []spec.Override{
				{Program: "web", Field: "instances", Value: []byte("5"), Replaced: []byte("3"), By: spec.Requester{How: "rpc", UID: 4}, At: epoch, Reason: "load"},
				{Program: "web", Index: &index, Field: spec.FieldAdmin, Value: []byte(`"down"`), UntilBoot: true, Until: epoch},
			}
			if err := s.SetOverrides(overrides); err != nil {
				t.Fatal(err)
			}
			overrides[0].Reason = "the caller's slice is the caller's"
			for n := range 25 {
				g, err := s.AddGeneration(generation(n))
				if err != nil || g.Number != uint64(n+1) || g.Programs != 1 || g.Instances != 3 {
					t.Fatalf("generation %d: %+v, %v", n, g, err)
				}
				if n == 4 {
					if err := s.SetPinned(5); err != nil {
						t.Fatal(err)
					}
				}
			}
			end(t, s)

			s, rec := b.open()
			if len(rec.Overrides) != 2 || rec.Overrides[0].Reason != "load" || *rec.Overrides[1].Index != 2 || !rec.Overrides[1].Until.Equal(epoch) {
				t.Errorf("overrides are %+v", rec.Overrides)
			}
			if rec.Pinned != 5 || len(rec.Generations) != 20 || rec.Generations[0].Number != 5 || rec.Generations[19].Number != 25 || rec.Generations[1].Number != 7 {
				t.Errorf("pinned %d of %+v", rec.Pinned, rec.Generations)
			}
			if rec.Generations[19].Spec.Programs != nil {
				t.Error("a list carries specs")
			}
			g, err := s.Generation(25)
			if err != nil || !reflect.DeepEqual(g.Spec, generation(24).Spec) || !reflect.DeepEqual(g.Source, generation(24).Source) || g.Commit != "c24" {
				t.Errorf("generation 25 is %+v, %v", g, err)
			}
			if _, err := s.Generation(6); err == nil {
				t.Error("generation 6 should be gone")
			}
		})
	}
}

func generation(n int) Generation {
	p := spec.Defaults()
	p.Command, p.Args, p.Instances = "/bin/true", []string{fmt.Sprint(n)}, 3
	return Generation{
		Digest: fmt.Sprint("d", n), Commit: fmt.Sprint("c", n), At: epoch, By: spec.Requester{How: "file"},
		Spec: spec.Spec{Programs: map[string]spec.Program{"web": p}}, Source: spec.Source{Root: "/etc", Files: map[string][]byte{"a.cue": {byte(n), 0xff}}},
	}
}

func TestABootEndsWhatLived(t *testing.T) {
	for name, end := range ends {
		for _, tmpfs := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, journal gone %t", name, tmpfs), func(t *testing.T) {
				testBoot(t, end, tmpfs)
			})
		}
	}
}

func testBoot(t *testing.T, end func(*testing.T, *Store), tmpfs bool) {
	b := newBench(t)
	s, _ := b.open()
	web := living("web", 0, 1)
	done := living("job", 0, 2)
	done.State, done.Finished, done.LastExit = reconcile.StateExited, "done", exitOf(done, 0)
	s.Record(changed(web, done), []Draft{draft("a"), draft("a")})
	settled(t, s)
	s.Record(reconcile.Batch{}, []Draft{draft("a")})
	end(t, s)

	b.c.BootID, b.c.BootedAt = "boot-2", epoch.Add(time.Hour)
	if tmpfs {
		removeAll(t, b.c.RunDir)
	}
	s, rec := b.open()
	if !rec.Rebooted || !rec.World.Booting || rec.World.NextRun < 3 || len(rec.Ended) != 1 {
		t.Fatalf("found %+v", rec)
	}
	i := rec.World.Programs["web"].Instances[0]
	if i.State != reconcile.StateExited || i.Alive() || i.Starts != 1 || i.LastExit == nil || !i.LastExit.Unknown || i.LastExit.Run != 1 || !i.LastExit.At.Equal(epoch.Add(time.Hour)) {
		t.Errorf("web is %+v, exit %+v", i, i.LastExit)
	}
	if i := rec.World.Programs["job"].Instances[0]; i.Finished != "" || i.LastExit.Code != 0 || i.LastExit.Unknown || i.Starts != 2 {
		t.Errorf("job is %+v", i)
	}
	runs, err := s.Runs(RunQuery{Program: "web"})
	if err != nil || len(runs) != 1 || runs[0].Exit == nil || !runs[0].Exit.Unknown || runs[0].StartCause != reconcile.CauseBoot {
		t.Errorf("runs are %+v, %v", runs, err)
	}
	e := s.Record(reconcile.Batch{}, []Draft{draft("a")})[0]
	switch journal, closed := !tmpfs, e.Seq == 4; {
	case e.Seq < 4:
		t.Errorf("the numbers went back to %d", e.Seq)
	case journal && (!closed || len(rec.Loss) > 0):
		t.Errorf("with the journal there nothing is lost: next is %d, loss %q", e.Seq, rec.Loss)
	case !closed && len(rec.Loss) == 0:
		t.Errorf("numbers were skipped to %d and nobody was told", e.Seq)
	}
	settled(t, s)
	abandon(s)
	if _, rec := b.open(); rec.Rebooted || len(rec.Ended) > 0 || rec.World.NextRun < 3 {
		t.Errorf("the boot was found twice: %+v", rec)
	}
}

// The preflight of a roll is stored by name; by number it was before.
func TestRollsWithNumbersAreRead(t *testing.T) {
	want := reconcile.Roll{Target: "x", Preflight: reconcile.PreflightBad, Held: "it fails", RetryAt: epoch, Forced: "y"}
	now := appendRoll(nil, &want)
	if !bytes.Contains(now, []byte("bad")) {
		t.Errorf("stored as %q", now)
	}
	before := reflected(map[string]any{"target": "x", "preflight": 3, "held": "it fails", "retry_at": epoch, "forced": "y"})
	for _, raw := range [][]byte{now, before} {
		got, ok := unpackRoll(raw)
		if !got.RetryAt.Equal(epoch) {
			t.Errorf("%q is to be tried again at %v", raw, got.RetryAt)
		}
		if got.RetryAt = epoch; !ok || got != want {
			t.Errorf("%q is read as %+v, %v", raw, got, ok)
		}
	}
	for _, bad := range []any{map[string]any{"preflight": 4}, map[string]any{"preflight": "fine"}, "rubbish"} {
		if got, ok := unpackRoll(reflected(bad)); ok {
			t.Errorf("%v is read as %+v", bad, got)
		}
	}
}
