package lean

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Trim gives back to the system what this process has in memory and can have
// again: freed heap, and the clean pages of mapped files, its own text among
// them. What is used again comes back from the page cache, a page fault each
// (about a microsecond for 64 KiB). It costs some milliseconds; the error says
// why less was given back, and nothing else depends on it.
func Trim() error {
	clean, err := mappings()
	debug.FreeOSMemory() // the list's garbage too
	if err != nil {
		return fmt.Errorf("cannot list mappings: %w", err)
	}
	return drop(clean)
}

func mappings() ([]mapping, error) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var clean []mapping
	in := bufio.NewScanner(f)
	for in.Scan() {
		if m, ok := parseMapping(in.Bytes()); ok {
			clean = append(clean, m)
			continue
		}
		// A private page that was written (a relocation) would be lost; what is
		// shared is the file's own page, whoever wrote it.
		if n := len(clean); n > 0 && !clean[n-1].shared && dirty(in.Bytes()) {
			clean[n-1].skip = true
		}
	}
	return clean, in.Err()
}

// mapping is a line of smaps that begins a mapping, proc(5).
type mapping struct {
	from, to uintptr
	shared   bool
	skip     bool // it is no file, can be written, or was
}

func parseMapping(line []byte) (mapping, bool) {
	var m mapping
	if len(line) == 0 || line[0] >= 'A' && line[0] <= 'Z' {
		return m, false // a line about the mapping before
	}
	var perms string
	var offset uint64
	var dev string
	var inode uint64
	n, _ := fmt.Sscanf(string(line), "%x-%x %s %x %s %d", &m.from, &m.to, &perms, &offset, &dev, &inode)
	if n != 6 || len(perms) != 4 {
		return m, false
	}
	m.shared = perms[3] == 's'
	m.skip = inode == 0 || perms[1] == 'w'
	return m, true
}

// dirty reports whether a line says that pages of the mapping were written, or
// swapped out, which only written ones are.
func dirty(line []byte) bool {
	for _, key := range []string{"Private_Dirty:", "Swap:", "Anonymous:"} {
		if rest, ok := bytes.CutPrefix(line, []byte(key)); ok {
			return !bytes.Equal(bytes.TrimSpace(rest), []byte("0 kB"))
		}
	}
	return false
}

func drop(list []mapping) error {
	for _, m := range list {
		if m.skip {
			continue
		}
		if err := advise(m.from, m.to-m.from, unix.MADV_DONTNEED); err != nil {
			return fmt.Errorf("cannot give back %d bytes at %#x: %w", m.to-m.from, m.from, err)
		}
		if !m.shared && m.to-m.from >= large {
			cut(m)
		}
	}
	return nil
}

// A page fault of Linux 6.18 and later brings the whole folio back that the page
// cache has there, up to 2 MiB for a byte, unless that is longer than the
// mapping. So a large mapping is cut into pieces of what a fault brought before.
const (
	large = 1 << 20
	piece = 64 << 10
)

// cut makes every other piece a mapping of its own, by something that means
// nothing for the text of a program: core dumps leave it out, as they do anyway.
func cut(m mapping) {
	for at := (m.from + piece - 1) &^ (piece - 1); at+piece <= m.to; at += 2 * piece {
		if advise(at, piece, unix.MADV_DONTDUMP) != nil {
			return
		}
	}
}

func advise(at, n uintptr, advice uintptr) error {
	if _, _, e := unix.Syscall(unix.SYS_MADVISE, at, n, advice); e != 0 && e != unix.EINVAL {
		return e
	}
	return nil
}
