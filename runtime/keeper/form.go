package keeper

import (
	"fmt"
	"reflect"
	"unsafe"
)

// kind is what is done with a value.
type kind uint8

const (
	kindUnknown kind = iota
	kindBool
	kindInt
	kindUint
	kindString
	kindPointer
	kindSlice
	kindMap
	kindStruct
)

// kinds are the kinds of value that a message can have.
var kinds = map[reflect.Kind]kind{
	reflect.Bool: kindBool, reflect.String: kindString, reflect.Pointer: kindPointer,
	reflect.Slice: kindSlice, reflect.Map: kindMap, reflect.Struct: kindStruct,
	reflect.Int: kindInt, reflect.Int8: kindInt, reflect.Int16: kindInt, reflect.Int32: kindInt, reflect.Int64: kindInt,
	reflect.Uint: kindUint, reflect.Uint8: kindUint, reflect.Uint16: kindUint, reflect.Uint32: kindUint, reflect.Uint64: kindUint,
}

// form is how a value lies in memory, and so what it is on the wire: a struct is
// a list of them. The forms of a message are made once, from its type; after that
// a value is read and written where it lies. An end has to be told before its
// program can be started anew, and reflect would take a good part of that time.
//
// What is done is chosen by switch, not from a table of functions: what a func
// value does the compiler cannot know, so it would put every message on the heap.
type form struct {
	kind   kind
	size   uint8  // of an integer or bool, in bytes
	tag    uint16 // the wire type, and from bit 1 on the number of a field
	offset uint32 // of a field, in bytes from the beginning of its struct
	parts  *parts // of what has parts
}

// parts are what a pointer, slice, map or struct consists of.
type parts struct {
	typ    reflect.Type
	elem   form    // of a pointer, slice or map
	step   uintptr // from one element of a slice to the next, in bytes
	fields []form  // of a struct
}

// partsOf is filled while the package initialises and only read afterwards.
var partsOf = map[reflect.Type]*parts{}

// formOf makes the form of a type. A type that a message cannot have panics: at
// start, in every test.
func formOf(t reflect.Type) form {
	f := form{kind: kinds[t.Kind()], tag: wireOf(t)}
	switch f.kind {
	case kindBool, kindInt, kindUint:
		f.size = uint8(t.Size())
		return f
	case kindString:
		return f
	case kindUnknown:
		panic(fmt.Sprintf("keeper: no wire form for %v", t))
	default:
	}
	if f.parts = partsOf[t]; f.parts != nil {
		return f
	}
	f.parts = &parts{typ: t}
	partsOf[t] = f.parts // before they are known: Fact holds Hello holds Run holds Fact
	switch {
	case f.kind == kindStruct:
		f.parts.fields = fieldsOf(t)
	case f.kind == kindMap && t.Key().Kind() != reflect.String:
		panic(fmt.Sprintf("keeper: no wire form for the keys of %v", t))
	case t.Elem().Kind() == reflect.Pointer:
		panic(fmt.Sprintf("keeper: no wire form for nil in %v", t))
	default:
		f.parts.elem, f.parts.step = formOf(t.Elem()), t.Elem().Size()
	}
	return f
}

func fieldsOf(t reflect.Type) (list []form) {
	for i := range t.NumField() {
		v := t.Field(i)
		if !v.IsExported() {
			panic(fmt.Sprintf("keeper: %v.%s cannot be sent", t, v.Name))
		}
		f := formOf(v.Type)
		f.tag |= uint16(i+1) << 1
		f.offset = uint32(v.Offset)
		list = append(list, f)
	}
	return list
}

// wireOf is the wire type of a value. That a pointer is there at all says that it
// is not nil; so its value is that of what it points to.
func wireOf(t reflect.Type) uint16 {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if k := kinds[t.Kind()]; k == kindBool || k == kindInt || k == kindUint {
		return wireVarint
	}
	return wireBytes
}

// codec writes and reads messages of one type. It alone says what a pointer
// points to: below it a form has to be believed.
type codec[T any] struct{ form }

var (
	orderCodec = codecOf[Order]()
	factCodec  = codecOf[Fact]()
)

func codecOf[T any]() *codec[T] { return &codec[T]{formOf(reflect.TypeFor[T]())} }

// append appends v to b.
func (c *codec[T]) append(b []byte, v *T) []byte { return c.form.put(b, unsafe.Pointer(v)) }

// read reads all of b into v, which is zero.
func (c *codec[T]) read(b []byte, v *T) error {
	rest, err := c.form.get(b, unsafe.Pointer(v), 0)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes follow the message", len(rest))
	}
	if err != nil {
		return fmt.Errorf("cannot read %v: %w", reflect.TypeFor[T](), err)
	}
	return nil
}
