package launch

// #cgo CFLAGS: -O2 -Wall -Wextra
// #cgo noescape pn_launch
// #cgo nocallback pn_launch
// #include "child.h"
import "C"

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

// arenaKept is the largest arena that is kept for the next launch, in bytes.
const arenaKept = 256 << 10

// builder compiles one launch: the steps for the child, and one arena with
// everything that their addresses point to.
type builder struct {
	r     *Request
	io    Stdio
	check bool // a preflight: nothing is executed
	self  credentials

	arena  []byte
	words  []int // offsets in arena of words that are themselves offsets
	steps  []C.struct_pn_step
	labels []label
	job    C.struct_pn_job
	failed *StepError // what cannot even be tried
}

// label says in words what a step does; it is put together only on failure.
type label struct {
	format string
	a, b   any
}

func (l label) String() string {
	switch {
	case l.b != nil:
		return fmt.Sprintf(l.format, l.a, l.b)
	case l.a != nil:
		return fmt.Sprintf(l.format, l.a)
	}
	return l.format
}

var builders = sync.Pool{New: func() any { return new(builder) }}

func newBuilder(r *Request, io Stdio) *builder {
	b, _ := builders.Get().(*builder)
	b.r, b.io, b.check, b.failed = r, io, false, nil
	b.arena, b.words, b.steps, b.labels = b.arena[:0], b.words[:0], b.steps[:0], b.labels[:0]
	b.job = C.struct_pn_job{cgroup: -1, escrow: -1}
	b.self = ourCredentials()
	return b
}

func (b *builder) release() {
	b.r = nil
	if cap(b.arena) <= arenaKept {
		builders.Put(b)
	}
}

// deposit has the child leave something on the socket fd.
func (b *builder) deposit(escrow *Escrow, fd int) {
	deposit, withdrawal := b.data(escrow.Deposit), b.data(escrow.Withdrawal)
	j := &b.job
	j.escrow = C.int32_t(fd)
	j.deposit, j.deposit_bytes = C.uint64_t(deposit.v), C.uint64_t(len(escrow.Deposit))
	j.withdrawal, j.withdrawal_bytes = C.uint64_t(withdrawal.v), C.uint64_t(len(escrow.Withdrawal))
	for i := range min(len(escrow.Keep), len(j.keep)) {
		j.keep[i] = C.int32_t(escrow.Keep[i])
		j.kept++
	}
}

// compile adds the steps of every row, in order.
func (b *builder) compile() {
	for i := range sequence {
		if add := sequence[i].add; add != nil && b.failed == nil {
			add(b)
		}
	}
}

// arg is an argument of a step: a number, or the offset of something in the
// arena, whose address it becomes.
type arg struct {
	v  uint64
	at bool
}

func num[T ~int | ~uint32 | ~uint64](v T) arg { return arg{v: uint64(v)} }

// add appends a step.
func (b *builder) add(l label, op C.int32_t, nr uintptr, args ...arg) {
	s := C.struct_pn_step{op: op, nr: C.int32_t(nr)}
	for i, v := range args {
		s.a[i] = C.uint64_t(v.v)
		if v.at {
			s.addr |= 1 << i
		}
	}
	b.steps = append(b.steps, s)
	b.labels = append(b.labels, l)
}

// call appends a step that is one system call.
func (b *builder) call(l label, nr uintptr, args ...arg) { b.add(l, C.PN_CALL, nr, args...) }

// fail makes the launch one that cannot even be tried.
func (b *builder) fail(errno syscall.Errno, format string, a any) {
	if b.failed == nil {
		b.failed = &StepError{Step: label{format: format, a: a}.String(), Errno: errno}
	}
}

// data puts bytes into the arena, aligned for any C type.
func (b *builder) data(p []byte) arg {
	for len(b.arena)%8 != 0 {
		b.arena = append(b.arena, 0)
	}
	at := len(b.arena)
	b.arena = append(b.arena, p...)
	return arg{uint64(at), true}
}

func (b *builder) words64(values ...uint64) arg {
	at := b.data(nil)
	for _, v := range values {
		b.arena = binary.NativeEndian.AppendUint64(b.arena, v)
	}
	return at
}

// str puts a C string into the arena. One with a NUL byte inside would arrive
// shortened, and is refused.
func (b *builder) str(s string) arg {
	if strings.IndexByte(s, 0) >= 0 {
		b.fail(syscall.EINVAL, "passing %q, which has a NUL byte in it", s)
	}
	at := len(b.arena)
	b.arena = append(append(b.arena, s...), 0)
	return arg{uint64(at), true}
}

// strs puts a NULL-terminated array of C strings into the arena.
func (b *builder) strs(list []string) arg {
	at := b.data(make([]byte, 8*(len(list)+1)))
	for i, s := range list {
		word, text := int(at.v)+8*i, b.str(s) // which may move the arena
		binary.NativeEndian.PutUint64(b.arena[word:], text.v)
		b.words = append(b.words, word)
	}
	return at
}

// run relocates offsets to addresses and lets the child run. The arena does
// not move meanwhile: it is an argument of the call.
func (b *builder) run() *StepError {
	if b.failed != nil {
		return b.failed
	}
	b.data([]byte{0}) // there is always a first byte
	base := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b.arena))))
	for _, word := range b.words {
		v := binary.NativeEndian.Uint64(b.arena[word:])
		binary.NativeEndian.PutUint64(b.arena[word:], v+base)
	}
	for i := range b.steps {
		for m := uint32(b.steps[i].addr); m != 0; m &= m - 1 {
			b.steps[i].a[bits.TrailingZeros32(m)] += C.uint64_t(base)
		}
	}
	b.job.count = C.uint64_t(len(b.steps))
	if C.pn_launch(&b.job, unsafe.SliceData(b.steps), unsafe.Pointer(unsafe.SliceData(b.arena))) == 0 {
		return nil
	}
	return b.explain()
}

// explain puts what the child wrote down into words.
func (b *builder) explain() *StepError {
	errno := syscall.Errno(b.job.error)
	step := int(b.job.step)
	if step < 0 {
		return &StepError{Step: "creating the process", Errno: errno}
	}
	if op := b.steps[step].op; op == C.PN_EXEC || op == C.PN_FIND {
		return b.explainExec(int(b.job.which), errno)
	}
	return &StepError{Step: b.labels[step].String(), Errno: errno}
}

// givenNoFile is the limit of open files that this process was started with:
// Go's runtime raised the soft one since.
func givenNoFile() syscall.Rlimit {
	return syscall.Rlimit{Cur: uint64(C.pn_nofile_soft), Max: uint64(C.pn_nofile_hard)}
}
