package control

import (
	"encoding/json"
	"testing"

	"github.com/procnanny/procnanny/rpc"
	"github.com/procnanny/procnanny/spec"
)

// An event of an override says what was set, so that a stop can be told from a
// start; what is secret in it is hidden.
func TestEventsSayWhatWasSet(t *testing.T) {
	for _, c := range []struct{ field, value, want string }{
		{"instances", `3`, `3`},
		{spec.FieldAdmin, `"down"`, `"down"`},
		{"env.TOKEN", `"hush"`, `"***"`},
		{"env", `{"TOKEN":"hush"}`, `{"TOKEN":"***"}`},
		{spec.FieldProgram, `{"command":"web","env":{"TOKEN":"hush"}}`, ``},
	} {
		m := overrideFields("override", spec.Override{Program: "web", Field: c.field, Value: json.RawMessage(c.value), UntilBoot: true}, "")
		got, _ := m.Get("value").(json.RawMessage)
		if string(got) != c.want || m.Get("until") != "boot" {
			t.Errorf("%s: value %s, until %v; want %s until boot", c.field, got, m.Get("until"), c.want)
		}
		if _, err := rpc.EncodeEvent(&rpc.Event{Fields: m}); err != nil {
			t.Errorf("%s: %v", c.field, err)
		}
	}
}
