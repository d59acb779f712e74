package watch

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/procnanny/procnanny/spec"
	"golang.org/x/sys/unix"
)

// Times of settling.
const (
	quiet     = 10 * time.Millisecond  // without a change before the files are read
	vanished  = 200 * time.Millisecond // that a file may be away between its old and its new version
	busyAfter = 2 * time.Second        // of waiting before it is called busy
	busyRetry = 250 * time.Millisecond // between tries after that
)

// Fingerprint says which files were read. Two equal ones mean that nobody
// touched them; two equal digests mean that they say the same.
type Fingerprint struct {
	// Stat is a hash over inode, size, mtime and ctime of each file, and over
	// the names of the directories.
	Stat string
	// Digest is the SHA-256 over names and contents, in hex.
	Digest string
}

// busy says that the files cannot be read now, and who is at work.
type busy struct{ file, why string }

func (b *busy) Error() string { return b.file + ": " + b.why }

func (b *busy) problem() spec.Problem {
	return spec.Problem{File: b.file, Message: "configuration is busy: " + b.why}
}

// Read returns a copy of the configuration at path, a file or a directory, in
// which no file changed while it was made. It does not wait for writers:
// Settle does. The error is a spec.Problems.
func Read(path string) (spec.Source, Fingerprint, error) {
	deadline := time.Now().Add(busyAfter)
	for {
		src, fp, err := load(scanPath(path), path, nil)
		var b *busy
		if !errors.As(err, &b) {
			return src, fp, err
		}
		if time.Now().After(deadline) {
			return src, fp, spec.Problems{b.problem()}
		}
	}
}

// Settle waits until nobody is writing the configuration at path, then reads
// it. It waits 2 s at most, then says who is at work. The error is a
// spec.Problems, or the context's.
func Settle(ctx context.Context, path string) (spec.Source, Fingerprint, error) {
	deadline := time.Now().Add(busyAfter)
	for {
		src, fp, err := settled(path, true, nil)
		var b *busy
		if !errors.As(err, &b) {
			return src, fp, err
		}
		if time.Now().After(deadline) {
			return src, fp, spec.Problems{b.problem()}
		}
		select {
		case <-ctx.Done():
			return src, fp, ctx.Err()
		case <-time.After(quiet):
		}
	}
}

// settled reads the configuration if nobody is at work on it, and says busy
// otherwise. aged asks the file system whether the quiet time has passed;
// a caller that listened to events knows it. found, if set, gets the look
// before anything is read: whatever changes from then on is its to notice.
func settled(path string, aged bool, found func(*scan)) (spec.Source, Fingerprint, error) {
	s := scanPath(path)
	if found != nil {
		found(s)
	}
	if age := s.quietFor(time.Now()); aged && age >= 0 && age < quiet {
		return spec.Source{}, Fingerprint{}, &busy{s.root, "it changed just now"}
	}
	repositories := s.repositories()
	if lock := gitLock(repositories, time.Now()); lock != "" {
		return spec.Source{}, Fingerprint{}, &busy{lock, "git is at work, or was killed and left this file"}
	}
	src, fp, err := load(s, path, beingWritten)
	if err != nil {
		return src, fp, err
	}
	if lock := gitLock(repositories, time.Now()); lock != "" {
		return spec.Source{}, Fingerprint{}, &busy{lock, "git is at work"}
	}
	return src, fp, nil
}

// load reads the files that s found, and looks again afterwards: any
// difference is busy. writers, if set, asks about each open file.
func load(s *scan, path string, writers func(fd int) bool) (spec.Source, Fingerprint, error) {
	fp := Fingerprint{Stat: s.stat()}
	if len(s.problems) > 0 {
		if scanPath(path).stat() != fp.Stat { // no longer: or it would be missed that all is well
			return spec.Source{}, fp, &busy{s.root, "files change all the time"}
		}
		return spec.Source{}, fp, s.problems
	}
	src := spec.Source{Root: s.root, Single: s.single, Files: make(map[string][]byte, len(s.entries))}
	for _, e := range s.entries {
		data, err := readFile(s.root, e, writers)
		if err != nil {
			return spec.Source{}, fp, err
		}
		src.Files[e.name] = data
	}
	if scanPath(path).stat() != fp.Stat {
		return spec.Source{}, fp, &busy{s.root, "files change all the time"}
	}
	fp.Digest = digest(src)
	return src, fp, nil
}

// readFile reads one file that stat described as e. The open cannot block,
// whatever took the file's place meanwhile.
func readFile(root string, e entry, writers func(fd int) bool) ([]byte, error) {
	abs := filepath.Join(root, filepath.FromSlash(e.name))
	fd, err := unix.Open(abs, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, &busy{abs, "it was removed just now"}
	}
	if err != nil {
		return nil, spec.Problems{{File: abs, Message: "cannot read file: " + reason(err).Error()}}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || entryOf(e.name, &st) != e {
		return nil, &busy{abs, "it changed just now"}
	}
	if writers != nil && writers(fd) {
		return nil, &busy{abs, "it is open for writing"}
	}
	data := make([]byte, e.size+1) // one more: a file that grew is seen
	n, err := readFull(fd, data)
	if err != nil {
		return nil, spec.Problems{{File: abs, Message: "cannot read file: " + err.Error()}}
	}
	if int64(n) != e.size {
		return nil, &busy{abs, "its size changed just now"}
	}
	return data[:n:n], nil
}

// readFull reads until the buffer is full or the file ends.
func readFull(fd int, b []byte) (int, error) {
	n := 0
	for n < len(b) {
		m, err := unix.Read(fd, b[n:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return n, err
		case m <= 0:
			return n, nil
		default:
			n += m
		}
	}
	return n, nil
}

// beingWritten reports whether somebody has the file open for writing: the
// kernel refuses a read lease then. Where it gives no leases (another owner,
// a network file system) the answer is no.
func beingWritten(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		// Given back at once: a writer that opens the file meanwhile waits for it.
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	}
	return errors.Is(err, unix.EAGAIN)
}

// digest hashes names and contents, each with its length, in sorted order.
func digest(src spec.Source) string {
	names := make([]string, 0, len(src.Files))
	for name := range src.Files {
		names = append(names, name)
	}
	slices.Sort(names)
	h := sha256.New()
	put := func(n int) { _, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(n))) }
	put(len(src.Single))
	_, _ = io.WriteString(h, src.Single)
	for _, name := range names {
		put(len(name))
		_, _ = io.WriteString(h, name)
		put(len(src.Files[name]))
		_, _ = h.Write(src.Files[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}
