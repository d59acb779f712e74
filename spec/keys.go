package spec

import (
	"reflect"
	"strings"
	"sync"
)

// Cost is what a change of a key costs.
type Cost string

// The costs, from dearest to free.
const (
	CostProcess  Cost = "new process"
	CostLive     Cost = "live"
	CostNothing  Cost = "nothing"
	CostInstance Cost = "only the difference"
)

// Keys lists every key of a program, in the order of the struct fields.
var Keys = sync.OnceValue(func() []string {
	var out []string
	for _, k := range keyCosts() {
		out = append(out, k.Key)
	}
	return out
})

// KeyCost is a key and what a change of it costs.
type KeyCost struct {
	Key  string
	Cost Cost
}

// KeyCosts lists every key of a program with what a change of it costs: the
// struct that a field stands in says so.
func KeyCosts() []KeyCost { return keyCosts() }

var keyCosts = sync.OnceValue(func() []KeyCost {
	var out []KeyCost
	add := func(t reflect.Type, cost Cost) {
		for field := range t.Fields() {
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if key == "-" {
				continue
			}
			c := cost
			if key == "instances" {
				c = CostInstance
			}
			out = append(out, KeyCost{key, c})
		}
	}
	add(reflect.TypeFor[Launch](), CostProcess)
	out = append(out, KeyCost{"output", CostNothing}) // output.mode: a new process
	add(reflect.TypeFor[Tuning](), CostLive)
	add(reflect.TypeFor[Policy](), CostNothing)
	return out
})
