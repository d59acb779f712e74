package watch

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/procnanny/procnanny/spec"
	"golang.org/x/sys/unix"
)

// Bounds of a configuration.
const (
	maxBytes   = 64 << 20 // of all files together
	maxFiles   = 20_000
	maxEntries = 100_000 // directory entries looked at, wanted or not
	maxDepth   = 32      // of directories below the root
)

// entry is one file of the configuration as stat saw it.
type entry struct {
	name                   string // slash-separated, below the root
	dev, ino, mode         uint64
	size, mtimeNS, ctimeNS int64
}

// node identifies an inode.
type node struct{ dev, ino uint64 }

// walked is a directory whose entries were looked at.
type walked struct {
	path string // absolute
	want wanted
}

// scan is what a look at the directory found, without contents.
type scan struct {
	root, single string
	entries      []entry
	dirs         []walked // the root first
	links        []string // symlinks that were followed, absolute
	newestNS     int64    // latest ctime of a file or a walked directory
	problems     spec.Problems

	bytes int64
	seen  int
	full  bool // a cap was hit: nothing more is looked at
}

// scanPath looks at a file or a directory. It opens no file.
func scanPath(p string) *scan {
	p = filepath.Clean(p)
	if abs, err := filepath.Abs(p); err == nil {
		p = abs
	}
	s := &scan{root: p}
	var st unix.Stat_t
	if err := unix.Stat(p, &st); err != nil {
		s.problem(p, "cannot read the configuration: %v", reason(err))
		return s
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		s.walk("", 0, []node{nodeOf(&st)}, rootFile)
		return s
	}
	s.root, s.single = filepath.Dir(p), filepath.Base(p)
	s.links = append(s.links, p)
	s.file(s.single, &st)
	var mod unix.Stat_t
	if unix.Stat(filepath.Join(s.root, "cue.mod"), &mod) == nil && unix.Stat(s.root, &st) == nil {
		s.walk("", 0, []node{nodeOf(&st)}, noFile) // a module: the file may import its packages
	}
	return s
}

// wanted says whether a file of that name belongs to the configuration.
type wanted func(name string) bool

func noFile(string) bool  { return false }
func anyFile(string) bool { return true }
func cueFile(name string) bool {
	return path.Ext(name) == ".cue"
}

func rootFile(name string) bool {
	switch path.Ext(name) {
	case ".cue", ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// walk looks at one directory below the root. above are the directories on the
// way to it: a link back to one of them is a loop.
func (s *scan) walk(rel string, depth int, above []node, want wanted) {
	dir := filepath.Join(s.root, filepath.FromSlash(rel))
	list, err := os.ReadDir(dir)
	if err != nil {
		s.problem(dir, "cannot read directory: %v", reason(err))
		return
	}
	s.dirs = append(s.dirs, walked{dir, want})
	s.sawDir(dir)
	for _, d := range list {
		if s.seen++; s.seen > maxEntries {
			s.stop(dir, "holds more than %d files and directories", maxEntries)
		}
		if s.full {
			return
		}
		if strings.HasPrefix(d.Name(), ".") {
			continue
		}
		s.visit(path.Join(rel, d.Name()), d, depth, above, want)
	}
}

// visit looks at one directory entry.
func (s *scan) visit(rel string, d fs.DirEntry, depth int, above []node, want wanted) {
	link := d.Type()&fs.ModeSymlink != 0
	if mayBeDir := d.Type()&(fs.ModeDir|fs.ModeSymlink|fs.ModeIrregular) != 0; !mayBeDir && !want(d.Name()) {
		return
	}
	abs := filepath.Join(s.root, filepath.FromSlash(rel))
	var st unix.Stat_t
	if err := unix.Stat(abs, &st); err != nil {
		if want(d.Name()) && (link || !errors.Is(err, unix.ENOENT)) {
			s.problem(abs, "cannot read file: %v", reason(err))
		}
		return
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case isDir && link && depth > 0: // CUE packages live in real directories
	case isDir:
		s.descend(rel, abs, link, depth, above, nodeOf(&st))
	case want(d.Name()):
		if link {
			s.links = append(s.links, abs)
		}
		s.file(rel, &st)
	}
}

// descend walks a subdirectory: below the root only CUE files count, which
// others import; of the module's own directory everything does.
func (s *scan) descend(rel, abs string, link bool, depth int, above []node, n node) {
	if slices.Contains(above, n) {
		s.problem(abs, "is a link to a directory that it lies in")
		return
	}
	if depth+1 > maxDepth {
		s.stop(abs, "lies deeper than %d directories", maxDepth)
		return
	}
	if link {
		s.links = append(s.links, abs)
	}
	next := cueFile
	if rel == "cue.mod" || depth > 0 && strings.HasPrefix(rel, "cue.mod/") {
		next = anyFile
	}
	s.walk(rel, depth+1, append(slices.Clip(above), n), next)
}

// file adds a file, or says why it cannot be one.
func (s *scan) file(rel string, st *unix.Stat_t) {
	abs := filepath.Join(s.root, filepath.FromSlash(rel))
	if kind := kindOf(st.Mode); kind != "" {
		s.problem(abs, "is %s, not a regular file", kind)
		return
	}
	e := entryOf(rel, st)
	s.newestNS = max(s.newestNS, e.ctimeNS)
	if s.bytes += e.size; s.bytes > maxBytes {
		s.stop(abs, "is %d bytes large: the configuration would be larger than %d MiB", e.size, maxBytes>>20)
		return
	}
	if s.entries = append(s.entries, e); len(s.entries) > maxFiles {
		s.stop(s.root, "holds more than %d configuration files", maxFiles)
	}
}

func (s *scan) sawDir(dir string) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) == nil {
		s.newestNS = max(s.newestNS, st.Ctim.Nano())
	}
}

func (s *scan) problem(file, format string, args ...any) {
	s.problems = append(s.problems, spec.Problem{File: file, Message: fmt.Sprintf(format, args...)})
}

func (s *scan) stop(file, format string, args ...any) {
	s.problem(file, format, args...)
	s.full = true
}

// stat is a fingerprint of what was found: equal ones mean that nothing was
// written, replaced, added or removed between two looks.
func (s *scan) stat() string {
	h := sha256.New()
	var b []byte
	for _, e := range s.entries {
		b = binary.AppendUvarint(b[:0], uint64(len(e.name)))
		b = append(b, e.name...)
		for _, v := range [...]uint64{e.dev, e.ino, e.mode, uint64(e.size), uint64(e.mtimeNS), uint64(e.ctimeNS)} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		h.Write(b)
	}
	for _, d := range s.dirs { // a new one may be filled before anybody listens to it
		_, _ = fmt.Fprintf(h, "/%s\n", d.path)
	}
	for _, p := range s.problems {
		_, _ = fmt.Fprintf(h, "!%s\n", p.Error())
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// quietFor is how long ago the last file or directory changed.
func (s *scan) quietFor(now time.Time) time.Duration {
	return time.Duration(now.UnixNano() - s.newestNS)
}

func entryOf(name string, st *unix.Stat_t) entry {
	return entry{
		name: name, dev: uint64(st.Dev), ino: st.Ino, mode: uint64(st.Mode), size: st.Size,
		mtimeNS: st.Mtim.Nano(), ctimeNS: st.Ctim.Nano(),
	}
}

func nodeOf(st *unix.Stat_t) node { return node{uint64(st.Dev), st.Ino} }

// kindOf names what is no regular file.
func kindOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return ""
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFDIR:
		return "a directory"
	}
	return "a special file"
}

// reason is the errno alone: the place is named by the problem's File.
func reason(err error) error {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return errno
	}
	return err
}
