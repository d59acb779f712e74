package watch

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// interest says which events of a watched directory matter.
type interest struct {
	names map[string]bool // whatever happens to these
	want  wanted          // of a walked directory: the files that count
}

// matters reports whether an event about name in the directory does.
func (i interest) matters(name string, op fsnotify.Op) bool {
	switch {
	case i.names[name]:
		return true
	case i.want == nil || strings.HasPrefix(name, "."):
		return false
	case op.Has(fsnotify.Create) || op.Has(fsnotify.Remove) || op.Has(fsnotify.Rename):
		return true // it may be a directory
	}
	return i.want(name)
}

// ears listen to the directories of a configuration. One goroutine takes every
// event at once, so that the kernel's queue stays short; all that is kept of
// them is when the last one came.
type ears struct {
	inotify *fsnotify.Watcher
	poke    chan struct{} // holds one when something was heard since the last take

	mu        sync.Mutex
	interests map[string]interest // by watched directory
	nodes     map[string]node
	last      time.Time
	done      chan struct{}
}

// newEars fails when the user has no inotify instance left.
func newEars() (*ears, error) {
	in, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	e := &ears{inotify: in, poke: make(chan struct{}, 1), nodes: map[string]node{}, done: make(chan struct{})}
	go e.hear()
	return e, nil
}

func (e *ears) close() {
	_ = e.inotify.Close() // ends hear; nothing is lost with it
	<-e.done
}

func (e *ears) hear() {
	defer close(e.done)
	events, failures := e.inotify.Events, e.inotify.Errors
	for events != nil || failures != nil {
		select {
		case ev, ok := <-events:
			if !ok {
				events = nil
			} else if e.matters(ev) {
				e.heard()
			}
		case _, ok := <-failures: // an overflow: anything may have happened
			if !ok {
				failures = nil
			} else {
				e.heard()
			}
		}
	}
}

func (e *ears) heard() {
	e.mu.Lock()
	e.last = time.Now()
	e.mu.Unlock()
	select {
	case e.poke <- struct{}{}:
	default:
	}
}

func (e *ears) matters(ev fsnotify.Event) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, self := e.interests[ev.Name]; self {
		return true
	}
	return e.interests[filepath.Dir(ev.Name)].matters(filepath.Base(ev.Name), ev.Op)
}

// stillFor is how long nothing was heard.
func (e *ears) stillFor(now time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return now.Sub(e.last)
}

// listenTo makes the directories of s, and no others, those that are listened
// to. It fails when the user has no inotify watch left; a directory that
// vanished meanwhile, or that we may not read, is left out.
func (e *ears) listenTo(s *scan) error {
	wish, nodes := interests(s)
	e.mu.Lock()
	e.interests = wish
	e.mu.Unlock()
	for dir, n := range e.nodes {
		if nodes[dir] != n {
			_ = e.inotify.Remove(dir) // gone by itself when the directory is
			delete(e.nodes, dir)
		}
	}
	for dir, n := range nodes {
		// Again also where nothing changed: a directory that was removed and made
		// anew may have the same inode number, and costs one system call.
		err := e.inotify.Add(dir)
		switch {
		case err == nil:
			e.nodes[dir] = n
		case !slices.ContainsFunc(unlistenable, func(errno unix.Errno) bool { return errors.Is(err, errno) }):
			return err
		}
	}
	return nil
}

// unlistenable are the reasons that are the directory's own.
var unlistenable = []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ELOOP}

// interests are the directories to listen to, each inode under one path only:
// inotify knows no more.
func interests(s *scan) (map[string]interest, map[string]node) {
	out, nodes, first := map[string]interest{}, map[string]node{}, map[node]string{}
	at := func(dir string) string {
		var st unix.Stat_t
		if unix.Stat(dir, &st) != nil {
			return ""
		}
		n := nodeOf(&st)
		if path, ok := first[n]; ok {
			return path
		}
		first[n], nodes[dir] = dir, n
		out[dir] = interest{names: map[string]bool{}}
		return dir
	}
	for _, d := range s.dirs {
		if dir := at(d.path); dir != "" && out[dir].want == nil {
			out[dir] = interest{names: out[dir].names, want: d.want}
		}
	}
	steps, _ := s.steps()
	for _, st := range steps {
		if dir := at(st.dir); dir != "" {
			out[dir].names[st.name] = true
		}
	}
	return out, nodes
}
