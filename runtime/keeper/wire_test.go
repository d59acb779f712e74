package keeper

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/runtime/launch"
	"github.com/procnanny/procnanny/spec"
)

// fullOrder has every field set that an order can have.
func fullOrder() Order {
	tuning := spec.Tuning{
		Nice: new(-5), IONice: &spec.IONice{Class: "idle", Level: 7}, CPUs: "0-3", OOMScoreAdj: new(0),
		Limits: map[string]spec.Limit{"nofile": {Soft: 1024, Hard: spec.Unlimited}, "core": {}},
		Sched:  &spec.Sched{Policy: "fifo", Priority: 3},
		Cgroup: &spec.Cgroup{MemoryMax: new(spec.Size(spec.Unlimited)), MemoryHigh: new(spec.Size(1)), CPUMax: "150%", CPUWeight: new(1), PidsMax: new(spec.Size(7)), IOWeight: new(9)},
	}
	out := Output{RotateBytes: 1 << 40, Keep: 3, Drop: true, Timestamps: true, AgeNS: 1, TotalBytes: 2}
	return Order{
		Kind: OrderStart, Run: 1 << 63, Program: "hello world", Index: 99999, Signal: 15, Digest: "d", Tuning: &tuning, Output: &out,
		Start: &Start{
			Program: "ä\xff", Index: 1, Run: 2, Output: out, LaunchDigest: "l", TuningDigest: "t", Generation: 3,
			Launch: launch.Request{
				Candidates: []string{"/bin/a", ""}, Argv: []string{"", "x\xfe"}, Env: []string{"A=\x80\xff"}, Dir: "/", Umask: 0o77,
				Identity:     spec.Identity{UID: 65534, GID: 1, Groups: []uint32{0, 4}, Switch: true, Name: "n", Home: "h", Shell: "s"},
				Capabilities: &spec.Capabilities{Ambient: []string{"net_admin"}, Bounding: []string{"a"}},
				NoNewPrivs:   true, Stdin: "null", Mode: spec.OutputMode{Kind: "file", File: "/x"}, Tuning: tuning,
			},
			Input: "in",
		},
		Holds: true, Code: 3,
	}
}

func fullFact() Fact {
	exit := Fact{Kind: FactExited, Code: -1, Signal: 64, Core: true, Unknown: true, AtNS: -1}
	return Fact{
		Kind: FactHello, Run: 1, Program: "p", Index: 2, PID: 3, AtNS: 1 << 62, Code: -1, Signal: 9, Core: true, Left: 4, Step: "s",
		Errno: 5, Reason: "r", Digest: "d", Refused: map[string]string{"nofile": "no", "nice": ""},
		Hello: &Hello{
			Version: 1, BootID: "b", PID: 1, Binary: "/x", Contain: "cgroup", Degraded: "y", Asked: 15, NoFile: 1, Reserved: 2, More: true,
			Locks: 2, Exec: "/x", Supervised: true, Release: "1", Origin: OriginDeath, Raised: 1, First: true, Escrow: 1,
			Runs: []Run{{Run: 1, Exit: exit}, {Program: "x", Stopping: true, Ended: true, Emptied: true, Held: 7, Note: "{}"}},
		},
		Unknown: true, CPUNS: 1, PeakBytes: 2, Stream: "stdout", OutOfMemory: true, Dropping: true, Dropped: 7,
	}
}

func TestMessagesComeBackAsTheyWere(t *testing.T) {
	for _, o := range []Order{{}, fullOrder(), {Kind: OrderList, Run: Version}} {
		b, err := AppendOrder(nil, &o)
		must(t, err)
		body, rest, ok, err := cutFrame(b)
		if err != nil || !ok || len(rest) != 0 {
			t.Fatalf("frame: %v %v %d", err, ok, len(rest))
		}
		got, err := DecodeOrder(body)
		must(t, err)
		if !reflect.DeepEqual(got, o) {
			t.Errorf("got %+v\nwant %+v", got, o)
		}
	}
	for _, f := range []Fact{{}, fullFact()} {
		b, err := AppendFact(nil, &f)
		must(t, err)
		got, err := DecodeFact(b[frameHead:])
		must(t, err)
		if !reflect.DeepEqual(got, f) {
			t.Errorf("got %+v\nwant %+v", got, f)
		}
	}
}

// Every field that can be sent is in the messages above: a new one must be
// thought of there.
func TestFullMessagesAreFull(t *testing.T) {
	o, f := fullOrder(), fullFact()
	for _, v := range []any{o, *o.Start, o.Start.Launch, *o.Tuning, *o.Output, f, *f.Hello} {
		rv := reflect.ValueOf(v)
		for i := range rv.NumField() {
			if rv.Field(i).IsZero() {
				t.Errorf("%v.%s is zero", rv.Type(), rv.Type().Field(i).Name)
			}
		}
	}
}

// The numbers of fields are the protocol. A line that is added at the end of a
// type is fine, once it is written down: from then on it has to stay. Anything else
// needs a new Version, and so a new file.
func TestLayoutOfThisVersion(t *testing.T) {
	var b strings.Builder
	seen := map[reflect.Type]bool{}
	describe(&b, reflect.TypeFor[Order](), seen)
	describe(&b, reflect.TypeFor[Fact](), seen)
	path := fmt.Sprintf("testdata/layout.%d", Version)
	update := os.Getenv("KEEPER_TEST_UPDATE") != ""
	want, err := os.ReadFile(path)
	if !update {
		must(t, err)
	}
	for line := range strings.Lines(string(want)) {
		if !strings.Contains(b.String(), line) {
			t.Errorf("version %d has %q; now it does not: raise Version, and write the new layout with KEEPER_TEST_UPDATE=1", Version, strings.TrimSpace(line))
		}
	}
	if update && !t.Failed() {
		want = []byte(b.String())
		must(t, os.WriteFile(path, want, 0o644))
	}
	for line := range strings.Lines(b.String()) {
		if !strings.Contains(string(want), line) {
			t.Errorf("%q is new: write it down with KEEPER_TEST_UPDATE=1", strings.TrimSpace(line))
		}
	}
}

func describe(b *strings.Builder, typ reflect.Type, seen map[reflect.Type]bool) {
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice:
		describe(b, typ.Elem(), seen)
	case reflect.Map:
		describe(b, typ.Key(), seen)
		describe(b, typ.Elem(), seen)
	case reflect.Struct:
		if seen[typ] {
			return
		}
		seen[typ] = true
		for i := range typ.NumField() {
			f := typ.Field(i)
			fmt.Fprintf(b, "%v %d %s %v\n", typ, i+1, f.Name, f.Type)
		}
		for field := range typ.Fields() {
			describe(b, field.Type, seen)
		}
	default:
	}
}

// A field that a later version appended is skipped.
func TestUnknownFieldsAreSkipped(t *testing.T) {
	b, err := AppendFact(nil, &Fact{Kind: FactStarted, PID: 7})
	must(t, err)
	body := b[frameHead:]
	more := append([]byte{}, body[1:]...)
	more = append(more, 200<<1&0x7f|0x80|wireVarint, 200<<1>>7, 5)         // field 200, varint
	more = append(more, 201<<1&0x7f|0x80|wireBytes, 201<<1>>7, 2, 0xff, 0) // field 201, bytes
	f, err := DecodeFact(append([]byte{byte(len(more))}, more...))
	if err != nil || f.PID != 7 || f.Kind != FactStarted {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestBadFramesAreRefused(t *testing.T) {
	if _, _, _, err := cutFrame([]byte{0, 0, 0x20, 0}); err == nil {
		t.Error("a frame of 2 MiB was taken")
	}
	o := Order{Start: &Start{Launch: launch.Request{Env: []string{strings.Repeat("x", MaxFrame)}}}}
	if b, err := AppendOrder([]byte("before"), &o); err == nil || string(b) != "before" {
		t.Errorf("an order of more than 1 MiB: %v", err)
	}
	small := Order{Kind: OrderKill, Run: 3}
	want, _ := AppendOrder(nil, &small)
	if b, err := appendOrders([]Order{o, small}); err == nil || !bytes.Equal(b, want) {
		t.Errorf("beside an order that is too large: %q, %v", b, err)
	}
	deep := []byte{0}
	for range 3 * maxDepth {
		// fact.Hello.Runs[0].Exit, again and again
		for _, field := range []int{14, 0, 7, 14} { // numbers are not important: what must hold is that it ends
			deep = append([]byte{byte(field<<1 | 1), byte(min(len(deep), 120))}, deep...)
		}
	}
	_, _ = DecodeFact(deep)
}

func FuzzDecodeOrder(f *testing.F) {
	for _, o := range []Order{{}, fullOrder(), {Kind: OrderKill, Run: 3, Signal: 9}} {
		b, err := AppendOrder(nil, &o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[frameHead:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := DecodeOrder(body)
		if err != nil {
			return
		}
		// What was read can be written, and is read again as the same.
		b, err := AppendOrder(nil, &o)
		if err != nil {
			return // larger than a frame: lengths need not be written in the shortest way
		}
		again, err := DecodeOrder(b[frameHead:])
		if err != nil || !reflect.DeepEqual(o, again) {
			t.Fatalf("%v\n%+v\n%+v", err, o, again)
		}
	})
}

func FuzzDecodeFact(f *testing.F) {
	for _, v := range []Fact{{}, fullFact()} {
		b, err := AppendFact(nil, &v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[frameHead:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := DecodeFact(body)
		if err != nil {
			return
		}
		b, err := AppendFact(nil, &v)
		if err != nil {
			return
		}
		again, err := DecodeFact(b[frameHead:])
		if err != nil || !reflect.DeepEqual(v, again) {
			t.Fatalf("%v\n%+v\n%+v", err, v, again)
		}
		c, err := AppendFact(nil, &again)
		if err != nil || !bytes.Equal(b, c) {
			t.Fatalf("two encodings of one fact: %v", err)
		}
	})
}

func FuzzCutFrame(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 7, 2, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			body, rest, ok, err := cutFrame(b)
			if err != nil || !ok {
				return
			}
			if len(body)+frameHead+len(rest) != len(b) {
				t.Fatal("bytes were lost")
			}
			b = rest
		}
	})
}
