package launch

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxInterpreters is how deep the kernel follows interpreters, and so we.
const maxInterpreters = 5

// headBytes is as much of a file as the kernel itself looks at.
const headBytes = 256

// explainExec names the file, or the search, that an exec failed with.
func (b *builder) explainExec(which int, errno syscall.Errno) *StepError {
	list := b.r.Candidates
	if errno == syscall.ENOENT || errno == syscall.ENOTDIR {
		if len(list) > 1 {
			which = -1
		}
		for _, path := range list {
			if _, err := os.Stat(path); err != nil {
				continue
			}
			if in := interpreter(path); in != "" {
				return &StepError{Step: missingInterpreter(path, in), Errno: errno}
			}
		}
	}
	if len(list) > 1 && which < 0 {
		return &StepError{Step: "finding " + filepath.Base(list[0]) + " in PATH", Errno: errno}
	}
	return &StepError{Step: "executing " + list[max(which, 0)], Errno: errno}
}

func missingInterpreter(path, in string) string {
	return "executing " + path + ", whose interpreter is " + in
}

// interpreter is the file that the kernel runs for path: of a script's #! line
// or of an ELF file's loader. Empty is none, or not readable to us.
func interpreter(path string) string {
	f, head := open(path)
	if f == nil {
		return ""
	}
	defer f.Close()
	if line, ok := strings.CutPrefix(string(head), "#!"); ok {
		line, _, _ = strings.Cut(line, "\n")
		return first(strings.Fields(line))
	}
	if strings.HasPrefix(string(head), "\x7fELF") {
		return loader(f, head)
	}
	return ""
}

// open opens a regular file and reads what the kernel looks at; nil is that it
// cannot be had.
func open(path string) (f *os.File, head []byte) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, nil
	}
	head = make([]byte, headBytes)
	n, _ := f.ReadAt(head, 0)
	return f, head[:n]
}

// textual reports whether a file without interpreter is empty or a text, such as a
// script that does not begin with #!: a shell would run it, the kernel does not. By
// these few bytes the kernel, too, knows a text, for which it looks for no module;
// but somebody may have told it what to do with the file by its name.
func textual(path string) bool {
	f, head := open(path)
	if f == nil {
		return false
	}
	defer f.Close()
	for _, c := range head[:min(len(head), magicBytes)] {
		if c != '\t' && c != '\n' && (c < ' ' || c > '~') {
			return false
		}
	}
	formats, _ := os.ReadDir("/proc/sys/fs/binfmt_misc")
	return !slices.ContainsFunc(formats, func(e os.DirEntry) bool { return e.Name() != "register" && e.Name() != "status" })
}

// magicBytes is how many bytes name the kernel's module for an unknown format.
const magicBytes = 4

// loader is the PT_INTERP of a 64-bit ELF file of our own byte order. Every
// read is bounded: the file may be anything.
func loader(f *os.File, head []byte) string {
	const (
		class64, headerLen, entryLen = 2, 64, 56
		ptInterp                     = 3
		maxEntries, maxPath          = 64, 4096
	)
	if len(head) < headerLen || head[4] != class64 {
		return ""
	}
	table := int64(binary.NativeEndian.Uint64(head[32:]))
	if binary.NativeEndian.Uint16(head[54:]) != entryLen {
		return ""
	}
	entry := make([]byte, entryLen)
	for i := range min(int64(binary.NativeEndian.Uint16(head[56:])), maxEntries) {
		if _, err := f.ReadAt(entry, table+i*entryLen); err != nil {
			return ""
		}
		if binary.NativeEndian.Uint32(entry) != ptInterp {
			continue
		}
		path := make([]byte, min(binary.NativeEndian.Uint64(entry[32:]), maxPath))
		if _, err := f.ReadAt(path, int64(binary.NativeEndian.Uint64(entry[8:]))); err != nil {
			return ""
		}
		s, _, _ := strings.Cut(string(path), "\x00")
		return s
	}
	return ""
}
