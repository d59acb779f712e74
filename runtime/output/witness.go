package output

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// witness is a file in memory that outlives us. Where bytes reach their file
// first and leave their pipe then (carry.go), it says whether they have left:
// by a mark and a byte which differ until the very read(2) that takes them out
// puts the last of them, which the mark is, into that byte. Of each pipe:
//
//	0  its inode, 8 bytes
//	8  offset of the byte that is its first while the two differ, 8 bytes
//	16 mark
//	17 byte
type witness struct {
	fd int
	// page is the file, mapped. Only the kernel writes there: to touch what
	// somebody cut off the file would end us.
	page []byte
	// doubts is how many entries of a former process differ.
	doubts atomic.Int32

	mu      sync.Mutex
	entries [witnessSize / entrySize]entry
}

// entry is what a witness has of one pipe. Whoever has the sink has it.
type entry struct {
	w     *witness
	at    int64
	inode uint64 // 0: it is free; guarded by mu
	doubt bool   // a former process left it so, with this head
	head  int64
}

const (
	witnessSize = 4096
	entrySize   = 32
	entryMark   = 16 // and the byte after it
	tmpfs       = 0x01021994
)

// Witness names the file by which the output of fast programs is moved without
// holding them up (see Decisions). It has to be on a tmpfs, and to be there for
// the next process that does the work of this one. Call it before the first
// Drain. With an error all goes on as without it.
func (d *Dir) Witness(path string) error {
	w, err := openWitness(path)
	if err != nil {
		return fmt.Errorf("cannot use %s: %w", path, err)
	}
	d.witness = w
	return nil
}

func openWitness(path string) (*witness, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	w := &witness{fd: fd}
	if err = w.load(); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *witness) load() error {
	var fs unix.Statfs_t
	err := unix.Fstatfs(w.fd, &fs)
	switch {
	case err != nil:
		return err
	case fs.Type != tmpfs: // a disk could hold up who writes to the page, or cut it in two
		return errors.New("it is not on a tmpfs")
	}
	if err := unix.Fallocate(w.fd, 0, 0, witnessSize); err != nil {
		return err
	}
	b := make([]byte, witnessSize)
	if _, err := preadFull(w.fd, b, 0); err != nil {
		return err
	}
	for i := range w.entries {
		e := &w.entries[i]
		e.w, e.at = w, int64(i)*entrySize
		if v := b[e.at:]; v[entryMark] != v[entryMark+1] {
			e.inode, e.head, e.doubt = order.Uint64(v), int64(order.Uint64(v[8:])), true
			w.doubts.Add(1)
		}
	}
	w.page, err = unix.Mmap(w.fd, 0, witnessSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	return err
}

func (w *witness) close() {
	if w == nil {
		return
	}
	if w.page != nil {
		_ = unix.Munmap(w.page)
	}
	_ = unix.Close(w.fd)
}

// find returns the entry of a pipe, or a free one; nil: there is none.
func (w *witness) find(inode uint64, free bool) (e *entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.entries {
		switch v := &w.entries[i]; {
		case v.inode == inode:
			return v
		case v.inode == 0 && e == nil && free:
			e = v
		}
	}
	if e != nil {
		e.inode = inode
	}
	return e
}

// doubted is the entry that a former process left about a pipe, or nil.
func (w *witness) doubted(pipe int) *entry {
	if w == nil || w.doubts.Load() == 0 {
		return nil
	}
	var st unix.Stat_t
	if unix.Fstat(pipe, &st) != nil {
		return nil
	}
	if e := w.find(st.Ino, false); e != nil && e.doubt {
		return e
	}
	return nil
}

// target is its byte.
func (e *entry) target() *byte { return &e.w.page[e.at+entryMark+1] }

// end says that none is in both.
func (e *entry) end() {
	_ = pwriteFull(e.w.fd, []byte{0, 0}, e.at+entryMark)
	if e.doubt {
		e.doubt = false
		e.w.doubts.Add(-1)
	}
}

// free gives the entry back.
func (e *entry) free() {
	if e == nil {
		return
	}
	e.end()
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.inode = 0
}
