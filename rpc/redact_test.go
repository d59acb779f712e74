package rpc

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/spec"
)

// Nothing that is secret in hooks is shown, wherever it stands.
func TestHooksAreRedacted(t *testing.T) {
	hook := `{"retries": 3, "run": {"command": "page", "env": {"A": "hunter2"}}, "webhook": {"url": "https://x/hunter2", "headers": {"B": "hunter2"}, "timeout": "10s"}}`
	for field, value := range map[string]string{
		"on":                          `{"crashed": [` + hook + `]}`,
		"on.crashed":                  `[` + hook + `]`,
		"stop":                        `{"signal": "TERM", "before": ` + hook + `}`,
		"stop.before":                 hook,
		"stop.before.webhook.url":     `"https://x/hunter2"`,
		"stop.before.webhook.headers": `{"B": "hunter2"}`,
		"stop.before.run.env.A":       `"hunter2"`,
		spec.FieldProgram:             `{"command": "x", "env": {"A": "hunter2"}, "on": {"crashed": [` + hook + `]}, "stop": {"before": ` + hook + `}}`,
	} {
		got := string(Redact(field, json.RawMessage(value)))
		if strings.Contains(got, "hunter2") || !json.Valid([]byte(got)) {
			t.Errorf("%s: %s", field, got)
		}
		if strings.Contains(value, `"command": "page"`) && !strings.Contains(got, `"page"`) {
			t.Errorf("%s hides too much: %s", field, got)
		}
	}
	if got := string(Redact("stop.signal", json.RawMessage(`"TERM"`))); got != `"TERM"` {
		t.Errorf("stop.signal: %s", got)
	}
}
