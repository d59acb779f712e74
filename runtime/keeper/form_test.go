package keeper

import (
	"bytes"
	"encoding/binary"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The bytes of any message are those that the rules of the wire make of it, said
// once more by reflection: an older or newer end reads nothing else. And it comes
// back as it was.
func TestFormsKeepToTheRulesOfTheWire(t *testing.T) {
	t.Run("order", func(t *testing.T) { rapid.Check(t, keepsToTheRules(orderCodec)) })
	t.Run("fact", func(t *testing.T) { rapid.Check(t, keepsToTheRules(factCodec)) })
	t.Run("all kinds", func(t *testing.T) { rapid.Check(t, keepsToTheRules(codecOf[allKinds]())) })
}

// allKinds has what a message may have and none has today.
type allKinds struct {
	B  bool
	I  int8
	J  int16
	K  int32
	U  uint8
	V  uint16
	W  uint32
	P  *bool
	Q  *string
	R  *uint16
	L  []bool
	M  []int32
	N  []struct{ L []string }
	O  map[string]struct{ L []uint8 }
	T  map[string]allKinds
	In struct{ A, B []uint64 }
}

func keepsToTheRules[T any](c *codec[T]) func(*rapid.T) {
	return func(rt *rapid.T) {
		var v T
		fill(rt, reflect.ValueOf(&v).Elem(), 0)
		got, want := c.append([]byte("before"), &v), byTheRules([]byte("before"), reflect.ValueOf(v))
		if !bytes.Equal(got, want) {
			rt.Fatalf("%+v\nis    %x\nnot   %x", v, got, want)
		}
		var again T
		if err := c.read(got[len("before"):], &again); err != nil || !reflect.DeepEqual(v, again) {
			rt.Fatalf("%v\n%+v\nbecame\n%+v", err, v, again)
		}
	}
}

// fill sets about half of what can be set; the deeper, the less.
func fill(rt *rapid.T, v reflect.Value, depth int) {
	if rapid.IntRange(0, 3).Draw(rt, "unset") > 2-depth/3 && depth > 0 {
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString(drawText(rt))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(rt, v.Elem(), depth+1)
	case reflect.Array:
		for i := range v.Len() {
			fill(rt, v.Index(i), depth+1)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 3).Draw(rt, "n"), 5))
		for i := range v.Len() {
			fill(rt, v.Index(i), depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range rapid.IntRange(0, 3).Draw(rt, "n") {
			elem := reflect.New(v.Type().Elem()).Elem()
			fill(rt, elem, depth+1)
			v.SetMapIndex(reflect.ValueOf(drawText(rt)), elem)
		}
	case reflect.Struct:
		for _, f := range v.Fields() {
			fill(rt, f, depth+1)
		}
	default:
		n := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{-1, 1, math.MinInt64, math.MaxInt64, 127, 128, -128, 1 << 31})).Draw(rt, "int")
		v.Set(reflect.ValueOf(n).Convert(v.Type()))
	}
}

// drawText draws any bytes, at times so many that their length takes 2 or 3 bytes.
func drawText(rt *rapid.T) string {
	text := string(rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(rt, "text"))
	return strings.Repeat(text, rapid.SampledFrom([]int{1, 1, 1, 1, 1, 1, 100, 5000}).Draw(rt, "times"))
}

// byTheRules is the wire, as wire.go describes it.
func byTheRules(b []byte, v reflect.Value) []byte {
	var body []byte
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return append(b, 1)
		}
		return append(b, 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return binary.AppendVarint(b, v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return binary.AppendUvarint(b, v.Uint())
	case reflect.Pointer:
		return byTheRules(b, v.Elem())
	case reflect.String:
		body = []byte(v.String())
	case reflect.Slice:
		for i := range v.Len() {
			body = byTheRules(body, v.Index(i))
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(x.String(), y.String()) })
		for _, k := range keys {
			body = byTheRules(byTheRules(body, k), v.MapIndex(k))
		}
	default:
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() {
				body = byTheRules(binary.AppendUvarint(body, uint64(i+1)<<1|ruledType(f.Type())), f)
			}
		}
	}
	return append(binary.AppendUvarint(b, uint64(len(body))), body...)
}

func ruledType(t reflect.Type) uint64 {
	switch t.Kind() {
	case reflect.Pointer:
		return ruledType(t.Elem())
	case reflect.String, reflect.Slice, reflect.Map, reflect.Struct:
		return wireBytes
	default:
		return wireVarint
	}
}

// An integer that a narrower field cannot hold is refused, and never cut off.
func TestIntegersThatDoNotFit(t *testing.T) {
	type wide struct {
		I int64
		U uint64
		B uint64
	}
	type narrow struct {
		I int8
		U uint16
		B bool
	}
	for _, c := range []struct {
		in   wide
		want narrow
		ok   bool
	}{
		{wide{127, 65535, 1}, narrow{127, 65535, true}, true},
		{wide{-128, 1, 2}, narrow{-128, 1, true}, true},
		{wide{128, 0, 0}, narrow{}, false},
		{wide{-129, 0, 0}, narrow{}, false},
		{wide{math.MinInt64, 0, 0}, narrow{}, false},
		{wide{0, 65536, 0}, narrow{}, false},
		{wide{0, math.MaxUint64, 0}, narrow{}, false},
	} {
		var got narrow
		err := codecOf[narrow]().read(codecOf[wide]().append(nil, &c.in), &got)
		if (err == nil) != c.ok || got != c.want {
			t.Errorf("%+v became %+v, %v", c.in, got, err)
		}
	}
}

// A type that has no form is found when the program starts, not when it is sent.
func TestTypesWithoutAForm(t *testing.T) {
	for _, typ := range []reflect.Type{
		reflect.TypeFor[float64](), reflect.TypeFor[struct{ hidden int }](), reflect.TypeFor[map[int]string](), reflect.TypeFor[[]any](),
		reflect.TypeFor[[2]int](), reflect.TypeFor[[]*int](), reflect.TypeFor[map[string]*int](), reflect.TypeFor[**int](),
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v has a form", typ)
				}
				delete(partsOf, typ) // what was begun: nobody goes on after such a panic
			}()
			formOf(typ)
		}()
	}
}

// The news of an end allocates nothing where it is written, and the program's name
// where it is read.
func TestAnEndAllocatesNothing(t *testing.T) {
	f := Fact{Kind: FactExited, Run: 12345, Program: "web", Index: 3, PID: 1 << 20, AtNS: 1 << 50, Code: -1, Signal: 9, CPUNS: 1, PeakBytes: 2}
	buf := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() { buf, _ = AppendFact(buf[:0], &f) }); n > 0 {
		t.Errorf("%v allocations to write it", n)
	}
	var got Fact
	if n := testing.AllocsPerRun(100, func() { got, _ = DecodeFact(buf[frameHead:]) }); n > 1 {
		t.Errorf("%v allocations to read it", n)
	}
	if !reflect.DeepEqual(got, f) {
		t.Errorf("%+v", got)
	}
}
