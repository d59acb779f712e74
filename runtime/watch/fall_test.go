package watch

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// More events than the kernel keeps are an overflow, after which everything is
// looked at.
func TestOverflow(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	queue, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	must(t, err)
	if queue > 100_000 {
		t.Skip("the queue of this machine is too long to be filled in a test")
	}
	dir := realDir(t)
	write(t, dir+"/a.cue", "one")
	write(t, dir+"/noise", "")
	e, err := newEars()
	must(t, err)
	t.Cleanup(e.close)
	must(t, e.listenTo(scanPath(dir+"/a.cue"))) // the noise does not matter
	e.mu.Lock()                                 // hear cannot go on: the queue fills up
	from, to := dir+"/noise", dir+"/more"
	for range queue/2 + 5000 { // two events each, some of which are taken already
		if err = os.Rename(from, to); err != nil {
			break
		}
		from, to = to, from
	}
	write(t, dir+"/a.cue", "two") // nobody hears of this
	e.mu.Unlock()
	must(t, err)
	select {
	case <-e.poke:
	case <-time.After(patience):
		t.Error("an overflow is not heard")
	}
}

// lockedBuffer is a log that two goroutines use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// quietWatcher is a watcher that has not begun, with its log.
func quietWatcher(t *testing.T, dir string) (*follower, *lockedBuffer) {
	log := &lockedBuffer{}
	return &follower{Watcher: New(dir, slog.New(slog.NewTextHandler(log, nil))), t: t, got: make(chan Reading, 10)}, log
}

// Without an inotify instance it looks by itself, says so once, and tries again
// from time to time.
func TestWithoutInotify(t *testing.T) {
	dir := realDir(t)
	write(t, dir+"/a.cue", "one")
	f, log := quietWatcher(t, dir)
	f.poll, f.safety = 20*time.Millisecond, 100*time.Millisecond
	var tries atomic.Int32
	f.hear = func() (*ears, error) {
		if tries.Add(1) < 4 {
			return nil, unix.EMFILE
		}
		return newEars()
	}
	f.run()
	f.nextSaying("a.cue", "one")
	if !strings.Contains(log.String(), "looking at the configuration each second") || !strings.Contains(log.String(), "too many open files") {
		t.Errorf("it does not say so: %q", log.String())
	}
	for _, text := range []string{"two", "three", "four"} {
		write(t, dir+"/a.cue", text)
		f.nextSaying("a.cue", text)
	}
	for end := time.Now().Add(patience); !strings.Contains(log.String(), "inotify is back"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not try again: %q", log.String())
		}
	}
	if n := strings.Count(log.String(), "each second"); n != 1 {
		t.Errorf("it said so %d times", n)
	}
	write(t, dir+"/a.cue", "five")
	f.nextSaying("a.cue", "five")
}

// When there is no watch left for one more directory, it looks by itself.
func TestWithoutAWatch(t *testing.T) {
	dir := realDir(t)
	write(t, dir+"/a.cue", "one")
	f, log := quietWatcher(t, dir)
	f.poll = 20 * time.Millisecond
	f.hear = func() (*ears, error) {
		e, err := newEars()
		if err == nil {
			err = e.inotify.Close() // no directory can be added to it
		}
		return e, err
	}
	f.run()
	f.nextSaying("a.cue", "one")
	write(t, dir+"/a.cue", "two")
	f.nextSaying("a.cue", "two")
	if !strings.Contains(log.String(), "looking at the configuration each second") {
		t.Errorf("it does not say so: %q", log.String())
	}
}

// An event that never came is made up for by the slow look.
func TestLostEvents(t *testing.T) {
	dir := realDir(t)
	write(t, dir+"/a.cue", "one")
	f, _ := quietWatcher(t, dir)
	f.safety = 50 * time.Millisecond
	var lame *ears
	f.hear = func() (e *ears, err error) {
		lame, err = newEars()
		return lame, err
	}
	f.run()
	f.nextSaying("a.cue", "one")
	must(t, lame.inotify.Remove(dir))
	write(t, dir+"/a.cue", "two")
	f.nextSaying("a.cue", "two")
	write(t, dir+"/a.cue", "three") // the look listens to the directory again
	f.nextSaying("a.cue", "three")
}

// From the end of the last write to the reading: at most 50 ms at the median.
func TestSettlingIsQuick(t *testing.T) {
	dir := realDir(t)
	for i := range 50 {
		write(t, fmt.Sprintf("%s/f%d.cue", dir, i), "x")
	}
	f := follow(t, dir)
	f.next()
	var took []time.Duration
	for i := range 31 {
		text := fmt.Sprint("text ", i)
		write(t, dir+"/a.cue", text)
		began := time.Now()
		f.nextSaying("a.cue", text)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	median := took[len(took)/2]
	t.Logf("settling: median %v, longest %v", median, took[len(took)-1])
	if median > 50*time.Millisecond {
		t.Errorf("settling takes %v at the median", median)
	}
}

// A file that is saved all the time is applied all the same.
func TestSavedAllTheTime(t *testing.T) {
	dir := realDir(t)
	write(t, dir+"/a.cue", "0")
	f := follow(t, dir)
	f.next()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			_ = os.WriteFile(dir+"/a.log", []byte(fmt.Sprint(i)), 0o644) // nobody's business
			sleep(ctx, time.Millisecond)
		}
	}()
	write(t, dir+"/b.cue", "new")
	f.nextSaying("b.cue", "new")
	cancel()
	<-done
}

// The watcher ends with its context, also while files are busy.
func TestRunEnds(t *testing.T) {
	dir := realDir(t)
	write(t, dir+"/a.cue", "one")
	w, err := os.OpenFile(dir+"/a.cue", os.O_WRONLY, 0)
	must(t, err)
	defer w.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	done := make(chan struct{})
	go func() {
		New(dir, slog.New(slog.DiscardHandler)).Run(ctx, func(Reading) {})
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("it does not end")
	}
}
