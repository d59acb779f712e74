package store

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
)

// BenchmarkSustained is events recorded and committed, one a turn with the
// instance that it is about.
func BenchmarkSustained(b *testing.B) {
	bench := newBench(b)
	s, _ := bench.open()
	body := make([]byte, 150)
	list := make([]*reconcile.Instance, 200)
	for n := range list {
		list[n] = living("web", n, reconcile.RunID(n+1))
	}
	before := memory(b)
	b.ResetTimer()
	for n := range b.N {
		i := list[n%len(list)]
		s.Record(reconcile.Batch{Changed: []*reconcile.Instance{i}, NextRun: 1000}, []Draft{{
			Topic: "state.web." + strconv.Itoa(n%len(list)), Time: time.Now(), Encode: func(seq, prev uint64) []byte { return append([]byte(nil), body...) },
		}})
		if n%1000 == 999 { // a burst may not run away from the disk
			for s.waiting() > 30_000 {
				time.Sleep(time.Millisecond)
			}
		}
	}
	settled(b, s)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	after := memory(b)
	b.ReportMetric(float64(after["RssAnon"]-before["RssAnon"])/1024, "MiB-anon")
	b.ReportMetric(float64(after["RssFile"]-before["RssFile"])/1024, "MiB-file")
	if lost := bench.told(); len(lost) > 0 {
		b.Fatal(lost)
	}
}

func (s *Store) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.q.events)
}

// memory is what the kernel counts, in KiB.
func memory(b *testing.B) map[string]int {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	out := map[string]int{}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "kB" {
			out[strings.TrimSuffix(f[0], ":")], _ = strconv.Atoi(f[1])
		}
	}
	return out
}

// BenchmarkRecord is one turn: one instance, one event.
func BenchmarkRecord(b *testing.B) {
	s, _ := newBench(b).open()
	web := changed(living("web", 0, 1))
	drafts := []Draft{draft("state.web.0")}
	b.ReportAllocs()
	for range b.N {
		s.Record(web, drafts)
	}
}

func BenchmarkQueries(b *testing.B) {
	s, _ := newBench(b).open()
	for n := range 100_000 {
		i, ev := crashed(living(fmt.Sprint("p", n%10), n%50, reconcile.RunID(n+1)), 1)
		batch := changed(i)
		batch.Events = []reconcile.Event{ev}
		s.Record(batch, []Draft{draft("state.x")})
		for n%1000 == 999 && s.waiting() > 10_000 {
			time.Sleep(time.Millisecond)
		}
	}
	settled(b, s)
	index := 7
	b.Run("runs", func(b *testing.B) {
		for range b.N {
			if runs, err := s.Runs(RunQuery{Program: "p7", Limit: 100}); err != nil || len(runs) != 100 {
				b.Fatal(len(runs), err)
			}
		}
	})
	b.Run("runs of an instance", func(b *testing.B) {
		for range b.N {
			if runs, err := s.Runs(RunQuery{Program: "p7", Instance: &index, Limit: 1000}); err != nil || len(runs) != 1000 {
				b.Fatal(len(runs), err)
			}
		}
	})
	b.Run("events", func(b *testing.B) {
		for range b.N {
			if events, err := s.Events(1, 1000); err != nil || len(events) != 1000 {
				b.Fatal(len(events), err)
			}
		}
	})
}
