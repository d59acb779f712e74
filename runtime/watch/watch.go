package watch

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/procnanny/procnanny/runtime/lean"
	"github.com/procnanny/procnanny/spec"
)

// How often somebody looks who heard nothing.
const (
	safetyEvery = 30 * time.Second // in case that an event was lost
	pollEvery   = time.Second      // without inotify
)

// Reading is what the configuration says, or why it cannot be read.
type Reading struct {
	Source      spec.Source
	Fingerprint Fingerprint
	// Problems say that the files are unreadable, or busy for more than 2 s (Source
	// is empty then), or not to be believed (see Trust).
	Problems spec.Problems
	// Commit is the git commit that the directory has checked out, when it is a
	// clean work tree.
	Commit string
}

// same reports whether two readings say the same.
func (r Reading) same(o Reading) bool {
	return r.Fingerprint.Digest == o.Fingerprint.Digest && r.Problems.Error() == o.Problems.Error()
}

// withoutText is what must be known of a reading when the next one comes.
func (r Reading) withoutText() Reading {
	names := make(map[string][]byte, len(r.Source.Files))
	for name := range r.Source.Files {
		names[name] = nil
	}
	r.Source.Files = names
	return r
}

// lacks reports whether a file that o had is gone, the whole of them included.
func (r Reading) lacks(o Reading) bool {
	for name := range o.Source.Files {
		if _, ok := r.Source.Files[name]; !ok {
			return true
		}
	}
	return false
}

// Watcher follows one configuration.
type Watcher struct {
	// Trust, unless nil, says after each reading why the files are not to be
	// believed, such as that somebody else can write them by now. Set it before
	// Run.
	Trust func() error

	path string
	log  *slog.Logger
	kick chan struct{}

	hear         func() (*ears, error)
	safety, poll time.Duration

	ears    *ears     // nil without inotify
	deaf    bool      // and that was said
	retryAt time.Time // when inotify is tried again
	last    Reading   // that was handed on, without its text
	asked   string    // what git looked like when it was asked about last
}

// New makes a watcher of path, a file or a directory, which need not exist.
func New(path string, log *slog.Logger) *Watcher {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return &Watcher{path: path, log: log, kick: make(chan struct{}, 1), hear: newEars, safety: safetyEvery, poll: pollEvery}
}

// Kick has the files read now and handed on even if they say what they said
// before: users, groups and the like may have changed.
func (w *Watcher) Kick() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// Run calls changed with what the files say, then once for each settled change
// of content, for a commit of what was not one (within the time of the safety
// look), and for each Kick, one call after the other, until ctx ends.
func (w *Watcher) Run(ctx context.Context, changed func(Reading)) {
	defer w.deafen()
	w.listen()
	aged, always := true, true
	for ctx.Err() == nil {
		w.settle(ctx, aged, func(r Reading) {
			again := !always && r.same(w.last)
			if again {
				w.last.Fingerprint.Stat = r.Fingerprint.Stat // touched, no more
				if !w.gitMoved() {
					return
				}
			}
			if r.Commit = w.ask(ctx, r); again && r.Commit == "" {
				return
			}
			w.last, always = r.withoutText(), false
			changed(r)
		})
		aged, always = w.wait(ctx)
	}
}

// Look waits until nobody writes the configuration, 2 s at most, and reads it
// once. It may be called beside Run.
func (w *Watcher) Look(ctx context.Context) Reading {
	r := w.reading(Settle(ctx, w.path))
	r.Commit = w.commit(ctx, r)
	return r
}

// settle reads the configuration as soon as nobody writes it, and hands it on.
// When that takes long, it first hands on who is at work.
func (w *Watcher) settle(ctx context.Context, aged bool, tell func(Reading)) {
	deadline, told, patient := time.Now().Add(busyAfter), false, false
	for ctx.Err() == nil {
		r, b := w.try(ctx, aged)
		if b == nil && !patient && r.lacks(w.last) {
			patient = true // a file is gone: perhaps its new version is on its way
			sleep(ctx, vanished)
			continue
		}
		if b == nil {
			tell(r)
			return
		}
		pause := quiet
		if time.Now().After(deadline) {
			pause = busyRetry
			if !told {
				told = true
				tell(Reading{Problems: spec.Problems{b.problem()}})
			}
		}
		sleep(ctx, pause)
	}
}

// try waits until it was quiet and reads once.
func (w *Watcher) try(ctx context.Context, aged bool) (Reading, *busy) {
	if !w.stillness(ctx) {
		return Reading{}, &busy{w.path, "files change all the time"}
	}
	src, fp, err := settled(w.path, aged || w.ears == nil, w.listenTo)
	if b, ok := errors.AsType[*busy](err); ok {
		return Reading{}, b
	}
	return w.reading(src, fp, err), nil
}

// reading is what was read, and why it cannot be had or is not to be believed.
func (w *Watcher) reading(src spec.Source, fp Fingerprint, err error) Reading {
	r := Reading{Source: src, Fingerprint: fp}
	if err != nil && !errors.As(err, &r.Problems) {
		r.Problems = spec.Problems{{File: w.path, Message: err.Error()}}
	}
	if w.Trust == nil {
		return r
	}
	if err := w.Trust(); err != nil {
		r.Problems = append(r.Problems, spec.Problem{File: w.path, Message: err.Error()})
	}
	return r
}

// ask is commit, and remembers what git looked like before.
func (w *Watcher) ask(ctx context.Context, r Reading) string {
	w.asked = gitState(w.path)
	return w.commit(ctx, r)
}

// gitMoved reports whether files that were no commit may be one by now: they
// were saved, handed on, and then committed.
func (w *Watcher) gitMoved() bool {
	return w.last.Commit == "" && len(w.last.Problems) == 0 && gitState(w.path) != w.asked
}

// commit asks git after the files were read: only if they are still the same
// does its answer describe what was read.
func (w *Watcher) commit(ctx context.Context, r Reading) string {
	if len(r.Problems) > 0 {
		return ""
	}
	c := commit(ctx, r.Source)
	if c == "" || scanPath(w.path).stat() != r.Fingerprint.Stat {
		return ""
	}
	return c
}

// stillness waits for the quiet time without an event, for as long as a
// configuration may be busy. It reports whether there was one.
func (w *Watcher) stillness(ctx context.Context) bool {
	if w.ears == nil {
		return true
	}
	for deadline := time.Now().Add(busyAfter); ; {
		now := time.Now()
		rest := quiet - w.ears.stillFor(now)
		if rest <= 0 {
			return true
		}
		if now.After(deadline) || ctx.Err() != nil {
			return false
		}
		sleep(ctx, rest)
	}
}

// wait returns when there is a reason to read: something was heard or is not
// what it was, or somebody wants it (always).
func (w *Watcher) wait(ctx context.Context) (aged, always bool) {
	for {
		every, heard := w.poll, (chan struct{})(nil)
		if w.ears != nil {
			every, heard = lean.Beat(w.safety), w.ears.poke
		}
		unread := len(w.last.Problems) > 0
		if unread { // nobody tells when a descriptor or a disk is to be had again
			every = w.poll
		}
		timer := time.NewTimer(every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false, false
		case <-w.kick:
			timer.Stop()
			return true, true
		case <-heard:
			timer.Stop()
			return false, false
		case <-timer.C:
		}
		if unread || !w.unchanged() || w.gitMoved() {
			return true, false
		}
	}
}

// unchanged looks whether the files are still those that were handed on.
func (w *Watcher) unchanged() bool {
	if w.ears == nil && time.Now().After(w.retryAt) {
		w.listen()
	}
	s := scanPath(w.path)
	w.listenTo(s)
	return s.stat() == w.last.Fingerprint.Stat
}

// listen gets inotify if there is any.
func (w *Watcher) listen() {
	w.retryAt = time.Now().Add(w.safety)
	ears, err := w.hear()
	if err != nil {
		w.sayDeaf(err)
		return
	}
	w.ears = ears
}

// listenTo follows the directories of s. Without a watch left it polls instead.
func (w *Watcher) listenTo(s *scan) {
	if w.ears == nil {
		return
	}
	if err := w.ears.listenTo(s); err != nil {
		w.sayDeaf(err)
		w.deafen()
		return
	}
	if w.deaf {
		w.deaf = false
		w.log.Info("inotify is back", "path", w.path)
	}
}

func (w *Watcher) sayDeaf(err error) {
	if !w.deaf {
		w.deaf = true
		w.log.Warn("no inotify left: looking at the configuration each second instead", "path", w.path, "error", err)
	}
}

func (w *Watcher) deafen() {
	if w.ears != nil {
		w.ears.close()
		w.ears, w.retryAt = nil, time.Now().Add(w.safety)
	}
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
