package store

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/procnanny/procnanny/reconcile"
)

// reflected is what the library makes of a value: what is packed by hand is to be
// the same, byte for byte.
func reflected(v any) []byte {
	var b bytes.Buffer
	e := msgpack.NewEncoder(&b)
	e.SetCustomStructTag("json")
	e.UseCompactInts(true)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func compare[T any](t *testing.T, v *T, put func([]byte, *T) []byte) {
	t.Helper()
	const before = "what stands before"
	got := put([]byte(before), v)
	if want := append([]byte(before), reflected(v)...); !bytes.Equal(got, want) {
		t.Fatalf("%T %+v is\n%q, by hand\n%q", v, v, want, got)
	}
}

// packsLike holds what is packed by hand to the library: with nothing set, with all
// of it, with each field alone, and with whatever comes.
func packsLike[T any](t *testing.T, put func([]byte, *T) []byte) {
	t.Run(reflect.TypeFor[T]().Name(), func(t *testing.T) {
		compare(t, new(T), put)
		all := new(T)
		fill(reflect.ValueOf(all).Elem(), 1)
		compare(t, all, put)
		for n := range reflect.TypeFor[T]().NumField() {
			alone(t, n, put)
		}
		r := rand.New(rand.NewPCG(1, 2))
		for range 400 {
			v := new(T)
			roll(reflect.ValueOf(v).Elem(), r)
			compare(t, v, put)
		}
	})
}

// alone sets one field of a type, and where that is a struct, also one of its own.
func alone[T any](t *testing.T, n int, put func([]byte, *T) []byte) {
	v := new(T)
	f := reflect.ValueOf(v).Elem().Field(n)
	fill(f, n)
	compare(t, v, put)
	if f.Kind() != reflect.Pointer {
		return
	}
	of := f.Type().Elem()
	for k := range of.NumField() {
		f.Set(reflect.New(of))
		fill(f.Elem().Field(k), k+1)
		compare(t, v, put)
	}
}

func TestPackedByHandIsPackedByTheLibrary(t *testing.T) {
	packsLike(t, appendInstance)
	packsLike(t, appendRun)
	packsLike(t, appendRoll)
	packsLike(t, appendTally)
}

// numbers and lengths are where a form of msgpack ends or another begins.
var (
	numbers = []int64{0, 1, 127, 128, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxInt64, -1, -32, -33, -128, -129, -32768, -32769, math.MinInt32, math.MinInt32 - 1, math.MinInt64}
	lengths = []int{0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536}
	moments = []time.Time{{}, time.Unix(0, 0), time.Unix(0, 1), time.Unix(math.MaxUint32, 0), time.Unix(math.MaxUint32+1, 0), time.Unix(1<<34-1, 999_999_999), time.Unix(1<<34, 0), time.Unix(-1, 5)}
)

// roll sets a value to anything; a map has one key, as its order is nobody's.
func roll(v reflect.Value, r *rand.Rand) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		at := time.Unix(r.Int64N(1<<35)-1<<33, r.Int64N(1e9))
		if r.IntN(2) == 0 {
			at = moments[r.IntN(len(moments))]
		}
		v.Set(reflect.ValueOf(at))
		return
	}
	if r.IntN(3) == 0 {
		v.SetZero()
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range v.Fields() {
			roll(f, r)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		roll(v.Elem(), r)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), lengths[r.IntN(6)], 300))
		for n := range v.Len() {
			roll(v.Index(n), r)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		roll(key, r)
		roll(value, r)
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString(string(make([]byte, lengths[r.IntN(len(lengths))])))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(numbers[r.IntN(len(numbers))])
	case reflect.Uint8: // an enumeration, whose names end somewhere
		v.SetUint(uint64(r.IntN(256)))
	case reflect.Uint64, reflect.Uint32:
		v.SetUint(uint64(numbers[r.IntN(len(numbers))]))
	default:
		panic(fmt.Sprint("cannot roll a ", v.Type()))
	}
}

// More than one pending change has no order: what is packed says all of them.
func TestManyPendingChangesArePacked(t *testing.T) {
	want := reconcile.Instance{State: reconcile.StateRunning, Pending: map[string]string{}}
	for n := range 40 {
		want.Pending[fmt.Sprint("key", n)] = fmt.Sprint("no ", n)
	}
	var got reconcile.Instance
	if err := unpack(appendInstance(nil, &want), &got); err != nil || !reflect.DeepEqual(got.Pending, want.Pending) {
		t.Errorf("%d came back: %v, %v", len(got.Pending), got.Pending, err)
	}
}

// The library panics at nil where a time is to be.
func TestNilForATimeIsAnError(t *testing.T) {
	b, err := msgpack.Marshal(map[string]any{"until": nil})
	if err != nil {
		t.Fatal(err)
	}
	if err := unpack(b, &reconcile.Instance{}); err == nil {
		t.Error("it was read")
	}
}
