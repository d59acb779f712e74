package output

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// packedSuffix is of a put aside file that somebody compressed with gzip(1), or
// something like it: we do not, but we find its bytes, and it counts as what it
// was.
const packedSuffix = ".gz"

const (
	// unpackedMax bounds what one file may become; it is held in memory.
	unpackedMax = 256 << 20
	// unpackedMost is how many stay for the next page, unpackedFor how long at most
	// when others are read.
	unpackedMost = 4
	unpackedFor  = time.Minute
)

// unpacked are files that were decompressed lately, so that a page costs no more
// than a page.
type unpacked struct {
	mu   sync.Mutex
	list []unpackedFile // the one used last at the end
}

type unpackedFile struct {
	dev, ino uint64
	size     int64 // compressed
	changed  int64 // Unix, ns
	fd       int   // in memory
	length   int64
	used     time.Time
}

// open returns a descriptor, which is the caller's, of what a compressed file
// holds, and its length.
func (u *unpacked) open(dir int, name string) (int, int64, error) {
	packed, st, err := openRegular(dir, name, unix.O_RDONLY)
	if err != nil {
		return -1, 0, err
	}
	defer unix.Close(packed)
	u.mu.Lock()
	defer u.mu.Unlock()
	f, known := u.take(&st)
	if !known {
		f = unpackedFile{dev: st.Dev, ino: st.Ino, size: st.Size, changed: st.Mtim.Nano()}
		if f.fd, f.length, err = unpack(packed, st.Size); err != nil {
			return -1, 0, fmt.Errorf("cannot decompress %s: %w", name, err)
		}
	}
	f.used = time.Now()
	u.list = append(u.list, f)
	u.prune(f.used)
	fd, err := unix.FcntlInt(uintptr(f.fd), unix.F_DUPFD_CLOEXEC, 0)
	return fd, f.length, err
}

// take takes a file out of the list, if it still is what it was.
func (u *unpacked) take(st *unix.Stat_t) (unpackedFile, bool) {
	for i, f := range u.list {
		if f.dev == st.Dev && f.ino == st.Ino && f.size == st.Size && f.changed == st.Mtim.Nano() {
			u.list = append(u.list[:i], u.list[i+1:]...)
			return f, true
		}
	}
	return unpackedFile{}, false
}

func (u *unpacked) prune(now time.Time) {
	for len(u.list) > unpackedMost || len(u.list) > 0 && now.Sub(u.list[0].used) > unpackedFor {
		_ = unix.Close(u.list[0].fd)
		u.list = u.list[1:]
	}
}

// unpack decompresses into memory.
func unpack(packed int, size int64) (int, int64, error) {
	fd, err := unix.MemfdCreate("procnanny-output", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, 0, err
	}
	n, err := inflate(io.NewSectionReader(preader(packed), 0, size), fd)
	if err != nil {
		_ = unix.Close(fd)
		return -1, 0, err
	}
	return fd, n, nil
}

func inflate(from io.Reader, to int) (n int64, err error) {
	z, err := gzip.NewReader(from)
	if err != nil {
		return 0, err
	}
	b := make([]byte, stampBlock)
	for {
		k, err := z.Read(b)
		if n+int64(k) > unpackedMax {
			return n, fmt.Errorf("it becomes more than %d bytes", int64(unpackedMax))
		}
		if werr := pwriteFull(to, b[:k], n); werr != nil {
			return n, werr
		}
		n += int64(k)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// preader reads a descriptor at a place.
type preader int

// ReadAt is as package io wants it.
func (p preader) ReadAt(b []byte, at int64) (int, error) {
	n, err := preadFull(int(p), b, at)
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

// openSegment opens a put aside file, or what it was before it was compressed.
func (u *unpacked) openSegment(dir int, name string) (int, int64, error) {
	if strings.HasSuffix(name, packedSuffix) {
		return u.open(dir, name)
	}
	fd, st, err := openRegular(dir, name, unix.O_RDONLY)
	if errors.Is(err, unix.ENOENT) {
		return u.open(dir, name+packedSuffix)
	}
	return fd, st.Size, err
}
