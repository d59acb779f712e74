package spec

import (
	"reflect"
	"testing"
)

// The digest of nothing is known beforehand: a field that bare forgets would be
// one whose change nobody sees.
func TestTuningIsBareOnlyWhenNothingIsSet(t *testing.T) {
	for _, nothing := range []Tuning{{}, {Limits: map[string]Limit{}}} {
		if got, want := nothing.Digest(), digest(nothing); got != want || !nothing.bare() {
			t.Errorf("the digest of %+v is %s, should be %s", nothing, got, want)
		}
	}
	for n := range reflect.TypeFor[Tuning]().NumField() {
		var v Tuning
		switch f := reflect.ValueOf(&v).Elem().Field(n); f.Kind() {
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		case reflect.String:
			f.SetString("0-1")
		default:
			f.Set(reflect.ValueOf(map[string]Limit{"nofile": {}}))
		}
		if got, want := v.Digest(), digest(v); got != want || v.bare() {
			t.Errorf("%s is set, and the digest is %s, should be %s", reflect.TypeFor[Tuning]().Field(n).Name, got, want)
		}
	}
}
