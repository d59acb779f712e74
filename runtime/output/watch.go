package output

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Watch tells a reader, in any process, that streams grew. It is one inotify
// instance for any number of programs; the one who drains pays nothing for it
// but the kernel's note, one a Drain.
type Watch struct {
	dir  *Dir
	file *os.File
	fd   int

	root int32 // the watch on the log directory: programs removed or renamed

	mu       sync.Mutex
	programs map[int32]string
	buf      [16 << 10]byte // of Wait
}

// Grown is a stream that may have more. Index -1: any stream of the program,
// because the kernel lost count or the directory was removed; add it again.
type Grown struct {
	Program string
	Index   int
	Stream  string
}

// Watch makes a Watch. Close it.
func (d *Dir) Watch() (*Watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cannot watch log directory %s: %w", d.path, err)
	}
	w := &Watch{dir: d, file: os.NewFile(uintptr(fd), "inotify"), fd: fd, programs: map[int32]string{}}
	// A directory with an open file in it does not tell of its own removal.
	w.root, err = w.add(d.root, unix.IN_DELETE|unix.IN_MOVED_FROM)
	if err != nil {
		_ = w.file.Close()
		return nil, fmt.Errorf("cannot watch log directory %s: %w", d.path, err)
	}
	return w, nil
}

// add watches an open directory: its path could be another by now.
func (w *Watch) add(dir int, mask uint32) (int32, error) {
	wd, err := unix.InotifyAddWatch(w.fd, "/proc/self/fd/"+strconv.Itoa(dir), mask|unix.IN_ONLYDIR)
	return int32(wd), err
}

// Close ends the watch, and a Wait that goes on.
func (w *Watch) Close() error { return w.file.Close() }

// Add watches a program. What was written before it returned may not be told:
// read once afterwards.
func (w *Watch) Add(program string) error {
	if _, err := newStream(program, 0, ""); err != nil {
		return err
	}
	dir, err := w.dir.openProgram(program, true)
	if err != nil {
		return fmt.Errorf("cannot watch the output of %s: %w", program, err)
	}
	defer unix.Close(dir)
	wd, err := w.add(dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO)
	if err != nil {
		return fmt.Errorf("cannot watch the output of %s: %w", program, err)
	}
	w.mu.Lock()
	w.programs[wd] = program
	w.mu.Unlock()
	return nil
}

// Remove stops watching a program.
func (w *Watch) Remove(program string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forget(program)
}

// forget is Remove for one who holds the lock; it says whether there was one.
func (w *Watch) forget(program string) bool {
	found := false
	for wd, name := range w.programs {
		if name == program {
			_, _ = unix.InotifyRmWatch(w.fd, uint32(wd))
			delete(w.programs, wd)
			found = true
		}
	}
	return found
}

// Wait blocks until streams grew and names each of them once. It returns
// os.ErrClosed after Close. One goroutine waits.
func (w *Watch) Wait() ([]Grown, error) {
	for {
		n, err := w.file.Read(w.buf[:])
		if err != nil {
			return nil, fmt.Errorf("cannot watch log directory %s: %w", w.dir.path, err)
		}
		if out := w.decode(w.buf[:n]); len(out) > 0 {
			return out, nil
		}
	}
}

// decode reads inotify's events; what is not a live file's is left out.
func (w *Watch) decode(b []byte) []Grown {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Grown
	seen := map[Grown]bool{}
	add := func(g Grown) {
		if !seen[g] {
			seen[g] = true
			out = append(out, g)
		}
	}
	for len(b) >= unix.SizeofInotifyEvent {
		event := *(*unix.InotifyEvent)(unsafe.Pointer(&b[0]))
		b = b[unix.SizeofInotifyEvent:]
		raw := b[:min(int(event.Len), len(b))]
		b = b[len(raw):]
		name := string(bytes.TrimRight(raw, "\x00"))
		program, known := w.programs[event.Wd]
		switch {
		case event.Mask&unix.IN_Q_OVERFLOW != 0:
			for _, program := range w.programs {
				add(Grown{program, -1, ""})
			}
		case event.Wd == w.root && w.forget(name):
			add(Grown{name, -1, ""})
		case known && event.Mask&unix.IN_IGNORED != 0:
			delete(w.programs, event.Wd)
			add(Grown{program, -1, ""})
		case known:
			if index, stream, ok := parseLive(name); ok {
				add(Grown{program, index, stream})
			}
		}
	}
	return out
}

// parseLive takes the name of a live file apart.
func parseLive(name string) (index int, stream string, ok bool) {
	base, ok := strings.CutSuffix(name, logSuffix)
	if !ok {
		return 0, "", false
	}
	number, stream, _ := strings.Cut(base, ".")
	index, err := strconv.Atoi(number)
	st, bad := newStream("x", index, stream)
	return index, stream, err == nil && bad == nil && st.live() == name
}
