package main

import (
	"fmt"

	"github.com/procnanny/procnanny/spec"
)

// signalName is the name of a signal that came as a number or a name; empty
// when there was none.
func signalName(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		if v != 0 {
			return spec.Signal(int(v)).String()
		}
	case nil:
	default:
		return fmt.Sprint(v)
	}
	return ""
}
