package main

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"testing"
)

// writebackSource is loaded into the kernel that we boot as a process: it writes
// down what that asks of its disk, and what it says on its console, in the one
// order in which it happened. Then a cut of the power can be had afterwards, at
// any point, with any of what the disk was not yet told to keep.
const writebackSource = `
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int record = -1;
static long self;
static struct stat disk;

__attribute__((constructor)) static void begin(void) {
	const char *d = getenv("PROCNANNY_TEST_DISK"), *r = getenv("PROCNANNY_TEST_RECORD");
	if (!d || !r || stat(d, &disk)) _exit(99);
	int fd = open(r, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if ((record = fcntl(fd, F_DUPFD_CLOEXEC, 300)) < 0) _exit(99);
	close(fd);
	self = syscall(SYS_getpid);
}

static int is_disk(int fd) {
	struct stat st;
	return !fstat(fd, &st) && st.st_ino == disk.st_ino && st.st_dev == disk.st_dev;
}

static void note(long long kind, long long at, const void *data, size_t n) {
	long long head[3] = {kind, at, n};
	struct iovec v[2] = {{head, sizeof head}, {(void *)data, n}};
	if (syscall(SYS_writev, record, v, 2) != (long)(sizeof head + n)) _exit(98);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
	ssize_t done = syscall(SYS_pwrite64, fd, data, n, at);
	if (done > 0 && is_disk(fd)) note('W', at, data, done);
	return done;
}

// A request to the disk's thread, as the kernel's driver (arch/um/drivers/ubd_kern.c)
// has it: one without segments is a flush, which its thread answers without asking
// the host.
struct request {
	void *of;
	int fds[2];
	unsigned long offsets[2];
	unsigned long long offset;
	int sectorsize, error, segments;
};

static void look_for_flush(const void *data, size_t n) {
	for (size_t i = 0; i + sizeof(void *) <= n; i += sizeof(void *)) {
		struct request r;
		struct iovec here = {&r, sizeof r}, there = {*(void **)((char *)data + i), sizeof r};
		if (syscall(SYS_process_vm_readv, self, &here, 1L, &there, 1L, 0L) == sizeof r && is_disk(r.fds[0]) && r.segments == 0)
			note('F', 0, 0, 0);
	}
}

ssize_t write(int fd, const void *data, size_t n) {
	if (fd != 1 && is_disk(fd)) _exit(97);
	if (fd != 1 && n && n % sizeof(void *) == 0 && syscall(SYS_getpid) == self) look_for_flush(data, n); // else it is the thread's answer
	ssize_t done = syscall(SYS_write, fd, data, n);
	if (done > 0 && fd == 1) note('C', 0, data, done);
	return done;
}

ssize_t writev(int fd, const struct iovec *v, int n) {
	if (is_disk(fd)) _exit(97);
	return syscall(SYS_writev, fd, v, n);
}

int fallocate64(int fd, int mode, off64_t at, off64_t n) {
	if (!is_disk(fd)) return syscall(SYS_fallocate, fd, mode, at, n);
	errno = EOPNOTSUPP; // zeroes are written then
	return -1;
}
`

// step is something that a machine did: wrote to its disk, told it to keep what it
// had written (a flush), or said something.
type step struct {
	kind byte // W, F or C
	at   int64
	data []byte
}

const stepHead = 24

// stepsOf reads what was written down, as far as it is whole.
func stepsOf(raw []byte) (steps []step) {
	for len(raw) >= stepHead {
		n := binary.NativeEndian.Uint64(raw[16:])
		if n > uint64(len(raw)-stepHead) {
			break
		}
		steps = append(steps, step{raw[0], int64(binary.NativeEndian.Uint64(raw[8:])), raw[stepHead:][:n:n]})
		raw = raw[stepHead+n:]
	}
	return steps
}

// A disk writes whole sectors, bytes.
const sector = 512

// cutDisk is the disk as it is when the power is cut after so many steps: what was
// flushed is there. Of what was written since each sector may be there or not,
// earlier or later ones: keep is how probable. Torn means that of one write some
// sectors may be there, and some not.
func cutDisk(image []byte, steps []step, keep float64, torn bool, rnd *rand.Rand) {
	flushed := 0
	for i, s := range steps {
		if s.kind == 'F' {
			flushed = i
		}
	}
	for i, s := range steps {
		part := len(s.data)
		if torn && i > flushed {
			part = sector
		}
		for from := 0; s.kind == 'W' && from < len(s.data); from += part {
			if i < flushed || rnd.Float64() < keep {
				copy(image[s.at+int64(from):], s.data[from:min(from+part, len(s.data))])
			}
		}
	}
}

// saveDisk writes an image with holes where it has zeroes.
func saveDisk(t *testing.T, name string, image []byte) {
	t.Helper()
	f, err := os.Create(name)
	check(t, err)
	zero := make([]byte, blockSize)
	for at := 0; at < len(image); at += blockSize {
		if block := image[at:min(at+blockSize, len(image))]; !bytes.Equal(block, zero[:len(block)]) {
			_, err := f.WriteAt(block, int64(at))
			check(t, err)
		}
	}
	check(t, f.Truncate(int64(len(image))))
	check(t, f.Close())
}

// What was flushed is always there, in its last form; of what was not there may be
// anything that was written, and nothing else.
func TestUnflushedWritesMayBeLost(t *testing.T) {
	fill := func(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }
	steps := []step{
		{'W', 0, fill('a', 2*sector)},
		{'W', 0, fill('b', sector)},
		{'F', 0, nil},
		{'C', 0, []byte("said")},
		{'W', sector, fill('c', 2*sector)},
		{'W', 2 * sector, fill('d', sector)},
	}
	seen := map[string]int{}
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		image := make([]byte, 4*sector)
		cutDisk(image, steps, []float64{0, 0.5, 1}[seed%3], seed%2 == 0, rnd)
		form := ""
		for i := range 4 {
			if part := image[i*sector:][:sector]; !bytes.Equal(part, fill(part[0], sector)) {
				t.Fatalf("sector %d is torn", i)
			}
			form += string(max(image[i*sector], '.'))
		}
		if seen[form]++; form[0] != 'b' || form[3] != '.' || seed%3 == 0 && form != "ba.." || seed%3 == 2 && form != "bcd." {
			t.Fatalf("seed %d: %s", seed, form)
		}
	}
	for _, form := range []string{"ba..", "bac.", "bad.", "bc..", "bcc.", "bcd."} {
		if seen[form] == 0 {
			t.Errorf("%s never came: %v", form, seen)
		}
	}
	raw := make([]byte, stepHead, 2*stepHead+3)
	raw[0], raw[8], raw[16] = 'W', 7, 2
	raw = append(raw, "xy"...)
	if got := stepsOf(append(raw, raw[:stepHead+1]...)); len(got) != 1 || got[0].kind != 'W' || got[0].at != 7 || string(got[0].data) != "xy" {
		t.Errorf("%+v", got)
	}
}
