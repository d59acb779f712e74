package sim

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/procnanny/procnanny/reconcile"
)

// How long a walk is, and how many steps all walks have together: seconds here,
// millions with PROCNANNY_TEST_SIM_STEPS.
const (
	walkLen    = 250
	shortSteps = 10_000
)

// number is an environment variable's.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("cannot read %s: %v", name, err)
	}
	return n
}

// Commands, edits, crashes, deaths of ours and of the machine, lost and late
// facts: after each step every promise holds, and when all is quiet the world is
// what is desired. Each walk follows from its seed alone.
func TestWalks(t *testing.T) {
	steps := number(t, "PROCNANNY_TEST_SIM_STEPS", shortSteps)
	if testing.Short() {
		steps /= 5
	}
	first := number(t, "PROCNANNY_TEST_SIM_SEED", 1)
	began := time.Now()
	r := takeAll(t, first, max(steps/walkLen, 1))
	t.Logf("seeds %d to %d: %d steps in %s: %+v", first, first+r.walks-1, r.walks*walkLen, time.Since(began).Round(time.Millisecond), r.count)
	// Some rows are so rare that a million steps take them or do not, as chance will:
	// that is told, and no failure. Each by itself is tested in reconcile.
	missing := r.cover.missing()
	t.Logf("rows of the tables that could be taken and were not:\n%s", strings.Join(reachable(r.cover), "\n"))
	for row, why := range unreachable {
		if !slices.Contains(missing, row) {
			t.Errorf("%s was taken, though %s", row, why)
		}
	}
}

// results are of many walks.
type results struct {
	mu    sync.Mutex
	walks uint64
	count Count
	cover *Coverage
}

// takeAll takes n walks, on all processors, until one fails.
func takeAll(t *testing.T, first, n uint64) *results {
	r := &results{cover: NewCoverage()}
	seeds := make(chan uint64)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for seed := range seeds {
				cover := NewCoverage()
				s := tell(seed, walkLen)
				w, err := walk(s, Config{}, cover)
				if err != nil {
					t.Error(explain(s, Config{}, err))
				}
				r.add(w, cover)
			}
		})
	}
	for seed := first; seed < first+n && !t.Failed(); seed++ {
		seeds <- seed
	}
	close(seeds)
	workers.Wait()
	return r
}

func (r *results) add(w *walker, cover *Coverage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.walks++
	r.cover.add(cover)
	r.count.add(w.m.Count())
}

func (c *Count) add(o Count) {
	c.Turns += o.Turns
	c.Orders += o.Orders
	c.Facts += o.Facts
	c.Starts += o.Starts
	c.Exits += o.Exits
	c.Controls += o.Controls
	c.Keepers += o.Keepers
	c.Boots += o.Boots
}

// explain is what a person needs who wants to see a failure again: the seed, and
// the shortest story that fails in the same way.
func explain(s story, c Config, err error) string {
	short := shrink(s, fails(c, err))
	_, again := walk(short, c, nil)
	return fmt.Sprintf("seed %d: %v\n(PROCNANNY_TEST_SIM_SEED=%d takes it again.) The shortest story that fails like this, for a file testdata/NAME.story:\n\n%s# %v\n",
		s.seed, err, s.seed, short, again)
}

// fails reports whether a story fails in the same way as one that failed.
func fails(c Config, like error) func(story) bool {
	return func(s story) bool {
		_, err := walk(s, c, nil)
		return err != nil && sort(err) == sort(like)
	}
}

var numbers = regexp.MustCompile(`[a-z]*/?[0-9][-0-9a-zµ.: +]*|\[.*|{.*`)

// sort is a failure without its names and numbers.
func sort(err error) string {
	_, what, _ := strings.Cut(err.Error(), "at ")
	return numbers.ReplaceAllString(what, "#")
}

// What a simulation once found stays found: stories that failed, as short as
// they could be made.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.story")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".story"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s, err := parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := walk(s, Config{}, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// history is a digest of everything that is written down in a walk.
func history(t *testing.T, s story) uint64 {
	t.Helper()
	h := fnv.New64a()
	_, err := walk(s, Config{Heard: func(b reconcile.Batch) {
		raw, err := json.Marshal(b)
		if err != nil {
			t.Error(err)
		}
		_, _ = h.Write(raw)
	}}, nil)
	if err != nil {
		t.Error(err)
	}
	return h.Sum64()
}

// The same seed makes the same history, to the byte, and so does the story that
// was written down; another seed makes another.
func TestASeedIsAHistory(t *testing.T) {
	s := tell(42, walkLen)
	first := history(t, s)
	if again := history(t, tell(42, walkLen)); again != first {
		t.Error("the same seed made another history")
	}
	read, err := parse(s.String())
	if err != nil || history(t, read) != first {
		t.Errorf("the story that was written down is another one: %v", err)
	}
	if history(t, tell(43, walkLen)) == first {
		t.Error("another seed made the same history")
	}
}

// Each mistake that is made on purpose is found, by the promise that it breaks,
// and comes down to a story of a few steps.
func TestFlawsAreFound(t *testing.T) {
	for _, c := range []struct {
		flaw  Flaw
		words string
		most  int // steps of the shortest story
	}{
		{FlawLost, "it does not live|should run|not come to an end", 12},
		{FlawEarly, "two copies|is stopped, but", 12},
		{FlawByNumber, "a signal for run", 14},
		{FlawGuess, "nobody saw the end", 12},
		{FlawAmnesia, "told again|never was|two copies|one before|had", 12},
	} {
		t.Run(c.words, func(t *testing.T) {
			t.Parallel()
			s, err := seek(Config{Flaw: c.flaw})
			if err == nil {
				t.Fatal("it was not found")
			}
			if !regexp.MustCompile(c.words).MatchString(err.Error()) {
				t.Errorf("it was found as: %v", err)
			}
			short := shrink(s, fails(Config{Flaw: c.flaw}, err))
			_, again := walk(short, Config{Flaw: c.flaw}, nil)
			if again == nil || sort(again) != sort(err) || len(short.steps) > c.most {
				t.Errorf("%v\ncame down to %d steps:\n%s%v", err, len(short.steps), short, again)
			}
			if _, err := walk(short, Config{}, nil); err != nil {
				t.Errorf("the story fails without the flaw: %v", err)
			}
		})
	}
}

// seek takes walks until one fails.
func seek(c Config) (story, error) {
	for seed := range uint64(40) {
		s := tell(seed, walkLen)
		if _, err := walk(s, c, nil); err != nil {
			return s, err
		}
	}
	return story{}, nil
}

// A story that cannot be read is refused, with its line.
func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"seed x", "fly", "edit wings=2", "edit program=9", "edit program=-1", "edit program"} {
		if _, err := parse("seed 1\n" + text); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
