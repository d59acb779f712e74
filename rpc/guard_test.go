package rpc

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"golang.org/x/sys/unix"
)

// hostile are messages that crash, hang or fool a decoder without a guard.
var hostile = map[string]string{
	"nothing":                      "",
	"array of 4G":                  "\xdd\xff\xff\xff\xff",
	"array of 4G with a value":     "\xdd\xff\xff\xff\xff\x01",
	"map of 4G":                    "\xdf\xff\xff\xff\xff",
	"bytes of 4G":                  "\xc6\xff\xff\xff\xff",
	"string of 4G":                 "\xdb\xff\xff\xff\xff",
	"array of 64K":                 "\xdc\xff\xff",
	"map of 64K":                   "\xde\xff\xff",
	"map half there":               "\x82\xa1a\x01\xa1b",
	"string half there":            "\xa5abc",
	"length half there":            "\xda\x01",
	"no payload":                   "\xcf\x01\x02",
	"a million nested arrays":      strings.Repeat("\x91", 1_000_000),
	"a million nested maps":        strings.Repeat("\x81\xa1a", 300_000),
	"two values":                   "\x01\x02",
	"a request and a byte":         "\x81\xa7request\xa5dance\x00",
	"extension":                    "\x81\xa7request\xd4\x01\x02",
	"timestamp":                    "\xd6\xff\x00\x00\x00\x00",
	"extension of 4G":              "\xc9\xff\xff\xff\xff\x01",
	"reserved":                     "\xc1",
	"a map as key":                 "\x81\x80\x01",
	"an array as key":              "\x81\x91\x01\x01",
	"more values than the limit":   "\xdd\x00\x01\x00\x01" + strings.Repeat("\x01", 65537),
	"longer than the limit":        strings.Repeat("\x01", MaxRequest+1),
	"deeper than the limit by one": strings.Repeat("\x91", MaxDepth+1) + "\x01",
}

// processorTime is what this goroutine's thread has used: a busy machine adds
// nothing to it.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestGuardRefusesWhatHurts(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for name, msg := range hostile {
		start := processorTime(t)
		err := Guard([]byte(msg))
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if took := processorTime(t) - start; took > 100*time.Millisecond {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

func TestGuardAcceptsWhatIsSound(t *testing.T) {
	many := map[string]any{"request": "create", "program": "x", "command": "y"}
	env := map[string]string{}
	for i := range 5000 {
		env[strings.Repeat("V", 1+i%30)+string(rune('a'+i%26))+strings.Repeat("x", i/26)[:min(i/26, 40)]] = strings.Repeat("v", 50)
	}
	many["env"] = env
	big, err := msgpack.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	for name, msg := range map[string][]byte{
		"a scalar":           {0x01},
		"an empty map":       {0x80},
		"as deep as allowed": []byte(strings.Repeat("\x91", MaxDepth) + "\x01"),
		"a large env":        big,
		"every scalar": []byte("\xdc\x00\x12\xc0\xc2\xc3\xca\x00\x00\x00\x00\xcb\x00\x00\x00\x00\x00\x00\x00\x00\xcc\x01\xcd\x00\x01\xce\x00\x00\x00\x01" +
			"\xcf\x00\x00\x00\x00\x00\x00\x00\x01\xd0\xff\xd1\xff\xff\xd2\xff\xff\xff\xff\xd3\xff\xff\xff\xff\xff\xff\xff\xff\xa1a\xd9\x01a\xda\x00\x01a\xdb\x00\x00\x00\x01a\xe0"),
		"odd keys":     []byte("\x84\xc0\x01\xc2\x02\xca\x7f\xc0\x00\x00\x03\xff\x04"),
		"bytes as key": []byte("\x83\xc4\x01a\x01\xc5\x00\x01b\x01\xc6\x00\x00\x00\x00\x01"),
	} {
		if err := Guard(msg); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := DecodeValue(msg); err != nil {
			t.Errorf("%s: guarded, but not decodable: %v", name, err)
		}
	}
}

func TestGuardAllocatesNothing(t *testing.T) {
	msg := []byte("\x82\xa7request\xa6status\xa1x\x93\x01\x02\x03")
	if n := testing.AllocsPerRun(100, func() { _ = Guard(msg) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzGuard: whatever passes can be decoded, by the library, in bounded memory.
func FuzzGuard(f *testing.F) {
	for _, msg := range hostile {
		if len(msg) < 1000 {
			f.Add([]byte(msg))
		}
	}
	for _, m := range Methods() {
		f.Add(exampleBytes(f, m))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		if Guard(msg) != nil {
			return
		}
		if _, err := decodeRequest(msg); err != nil && !errors.Is(err, errNoText) {
			t.Errorf("%q passed, but cannot be decoded: %v", msg, err)
		}
		if _, err := DecodeValue(msg); err != nil {
			t.Errorf("%q passed, but cannot be decoded: %v", msg, err)
		}
		r := bytes.NewReader(msg)
		if err := msgpack.NewDecoder(r).Skip(); err != nil || r.Len() != 0 {
			t.Errorf("%q passed, but the library sees %d bytes behind it, %v", msg, r.Len(), err)
		}
	})
}
