package lean

import (
	"os"
	"regexp"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func rss(t *testing.T) int {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		t.Skipf("this kernel does not say: %v", err)
	}
	m := regexp.MustCompile(`(?m)^Rss:\s+(\d+) kB`).FindSubmatch(raw)
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTrimGivesBackAndKeepsWhatWasWritten(t *testing.T) {
	// A private mapping of a file with a page that we wrote, then made read-only:
	// what a dynamic linker leaves behind.
	f, err := os.CreateTemp(t.TempDir(), "mapped")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{7}, 1<<19); err != nil { // the file's page is dirty
		t.Fatal(err)
	}
	written, err := unix.Mmap(int(f.Fd()), 0, 1<<16, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(written)
	written[100] = 42
	if err := unix.Mprotect(written, unix.PROT_READ); err != nil {
		t.Fatal(err)
	}
	clean, err := unix.Mmap(int(f.Fd()), 0, 1<<20, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(clean)

	before := rss(t)
	if err := Trim(); err != nil {
		t.Fatal(err)
	}
	after := rss(t)
	if after > before-256 {
		t.Errorf("resident %d kB before, %d kB after: expected at least 256 kB less", before, after)
	}
	if written[100] != 42 {
		t.Error("a written page was lost")
	}
	if clean[0] != 0 || clean[1<<19] != 7 {
		t.Error("a page of a file came back as something else")
	}
}

func TestParseMapping(t *testing.T) {
	for line, want := range map[string]struct{ ok, skip bool }{
		"00400000-00a00000 r-xp 00000000 fe:00 1234   /usr/bin/procnannyd":        {true, false},
		"00a00000-00b00000 rw-p 00600000 fe:00 1234   /usr/bin/procnannyd":        {true, true},
		"7f0000000000-7f0000001000 r--s 00000000 00:19 99 /var/lib/x/history.db":  {true, false},
		"7ffd1000-7ffd3000 r-xp 00000000 00:00 0                          [vdso]": {true, true},
		"Size:               4 kB": {false, false},
		"VmFlags: rd ex mr mw me":  {false, false},
	} {
		m, ok := parseMapping([]byte(line))
		if ok != want.ok || ok && m.skip != want.skip {
			t.Errorf("%q: %+v, %v", line, m, ok)
		}
	}
	if dirty([]byte("Private_Dirty:         0 kB")) || !dirty([]byte("Private_Dirty:         4 kB")) || dirty([]byte("Shared_Dirty: 4 kB")) {
		t.Error("dirty does not read the line")
	}
}
