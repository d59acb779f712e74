package output

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is the log directory. Read, Streams and Watch may be called from anywhere,
// also in another process; the rest in one process: a sink by one goroutine at a
// time, several sinks at once.
type Dir struct {
	path   string
	root   int
	device uint64
	gid    int // of new files and directories; -1: the process's own

	mu    sync.Mutex // guards what follows, for no longer than a look into memory
	sinks map[key]*Sink
	// listed are the put aside files of streams that no sink has opened yet, by
	// program and base: a directory is read once, not once for each instance.
	listed map[string]map[string][]int64
	spare  []*lens // not in use
	null   int     // /dev/null, to drop bytes; -1: not yet opened
	grown  int64   // bytes that pipes got beyond their first capacity

	unpacked unpacked // has a lock of its own
	witness  *witness // has, too; nil: none

	// alarm hears of what was found and dealt with; never nil.
	alarm func(Alarm)
	now   func() time.Time
}

type key struct {
	program string
	index   int
	stream  string
}

// Alarm says that somebody else touched the files of a stream, or that a part
// of the work which can wait could not be done. The output itself is safe.
type Alarm struct {
	Program string
	File    string // relative to the log directory
	Err     error
}

// Open opens the log directory and makes it if need be, 0750. The directories
// above it are the caller's to trust; below it nothing is followed. gid, unless
// it is -1, is the group of every file and directory made.
func Open(dir string, gid int) (*Dir, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open log directory %s: %w", dir, err)
	}
	d := &Dir{
		path: path, root: -1, gid: gid, null: -1,
		sinks: map[key]*Sink{}, listed: map[string]map[string][]int64{},
		alarm: func(Alarm) {}, now: time.Now,
	}
	if d.root, err = d.openRoot(); err != nil {
		return nil, fmt.Errorf("cannot open log directory %s: %w", dir, err)
	}
	var st unix.Stat_t
	if unix.Fstat(d.root, &st) == nil {
		d.device = st.Dev
	}
	return d, nil
}

// Device is where the directory is, and so all files unless somebody put others
// in their place.
func (d *Dir) Device() uint64 { return d.device }

// OnAlarm sets who hears of alarms; it is called from within Drain, so
// from several goroutines if several drain.
func (d *Dir) OnAlarm(f func(Alarm)) { d.alarm = f }

func (d *Dir) openRoot() (int, error) {
	err := os.MkdirAll(filepath.Dir(d.path), 0o755)
	if err != nil {
		return -1, err
	}
	made := true
	if err = os.Mkdir(d.path, dirMode); errors.Is(err, fs.ErrExist) {
		made = false
	} else if err != nil {
		return -1, err
	}
	fd, err := unix.Open(d.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil && made {
		if err = d.own(fd, dirMode); err != nil {
			_ = unix.Close(fd)
		}
	}
	return fd, err
}

// reopen makes the log directory again after somebody removed it. The number
// of the descriptor stays, so that readers on other goroutines need no lock.
func (d *Dir) reopen() error {
	fd, err := d.openRoot()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	d.mu.Lock()
	d.listed = map[string]map[string][]int64{}
	d.mu.Unlock()
	return unix.Dup3(fd, d.root, unix.O_CLOEXEC)
}

// Close closes all sinks and the directory; nobody drains any more. Nothing is
// lost by not calling it.
func (d *Dir) Close() {
	for _, s := range d.sinks {
		s.Idle()
	}
	clear(d.sinks)
	for _, l := range d.spare {
		l.close()
	}
	d.spare = nil
	d.witness.close()
	d.witness = nil
	for _, f := range d.unpacked.list {
		_ = unix.Close(f.fd)
	}
	d.unpacked.list = nil
	for _, fd := range []*int{&d.root, &d.null} {
		if *fd >= 0 {
			_ = unix.Close(*fd)
		}
		*fd = -1
	}
}

// Sink returns the sink of one stream of one instance: "" is stdout and stderr
// in one, else "stdout" or "stderr". The same stream has one sink, which gets
// the policy of the last call. Nothing is opened or made until the first byte.
func (d *Dir) Sink(program string, index int, name string, p Policy) *Sink {
	k := key{program, index, name}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.sinks[k]; ok {
		s.SetPolicy(p)
		return s
	}
	st, err := newStream(program, index, name)
	s := &Sink{dir: d, key: k, stream: st, invalid: err, fd: -1, stageFD: -1, dropFD: -1, staged: true, policy: p, device: d.device}
	d.sinks[k] = s
	return s
}

// Forget drops what memory holds of an instance that is gone. Its files stay,
// and an instance that comes later under the same name continues them.
func (d *Dir) Forget(program string, index int) {
	for _, name := range streams {
		d.mu.Lock()
		s, ok := d.sinks[key{program, index, name}]
		d.mu.Unlock()
		if ok {
			s.Close()
		}
	}
}

// segments takes what is known of a stream's put aside files, oldest first. The
// directory is read without the lock; that two may do so at once does no harm.
func (d *Dir) segments(dir int, st stream) ([]int64, error) {
	d.mu.Lock()
	all, ok := d.listed[st.program]
	d.mu.Unlock()
	if !ok {
		var err error
		if all, err = listSegments(dir); err != nil {
			return nil, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !ok {
		d.listed[st.program] = all
	}
	segs := all[st.base]
	delete(all, st.base)
	return segs, nil
}

// giveBack is for a sink that ends: the next one need not read the directory.
func (d *Dir) giveBack(st stream, segs []int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all, ok := d.listed[st.program]
	switch {
	case ok && len(segs) > 0:
		all[st.base] = segs
	case ok:
		delete(all, st.base)
	}
}

// unlist has the directory of a program read again.
func (d *Dir) unlist(program string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.listed, program)
}

// listSegments reads a program's directory: starts by base, sorted.
func listSegments(dir int) (map[string][]int64, error) {
	// A descriptor of its own: reading moves its position.
	fd, err := openAt(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "log directory")
	defer f.Close()
	all := map[string][]int64{}
	for {
		names, err := f.Readdirnames(1000)
		for _, name := range names {
			if base, start, ok := parseSegment(name); ok {
				all[base] = append(all[base], start)
			}
		}
		if err != nil || len(names) == 0 {
			break
		}
	}
	for base, starts := range all {
		slices.Sort(starts)
		all[base] = slices.Compact(starts) // while one is compressed it is there twice
	}
	return all, nil
}
