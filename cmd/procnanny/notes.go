package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/procnanny/procnanny/spec"
)

// overrideView is an override as `status` and `overrides` show it.
type overrideView struct {
	Program  string          `json:"program"`
	Instance *int            `json:"instance"`
	Field    string          `json:"field"`
	Value    json.RawMessage `json:"value"`
	Replaced json.RawMessage `json:"replaced"`
	By       *byView         `json:"by"`
	At       float64         `json:"at"`
	Until    any             `json:"until"`
	Reason   string          `json:"reason"`
}

type byView struct {
	How string `json:"how"`
	UID int    `json:"uid"`
	GID int    `json:"gid"`
	PID int    `json:"pid"`
	Key string `json:"key"`
}

// text is who asked, as people say it.
func (b *byView) text() string {
	switch {
	case b == nil:
		return ""
	case b.Key != "":
		return "key " + b.Key
	case b.How == "rpc":
		return fmt.Sprintf("uid %d, pid %d", b.UID, b.PID)
	}
	return b.How
}

// notes say what is unusual about a program. That it flaps, its instances say.
func (p programStatus) notes() []string {
	var out []string
	if p.Desired == 0 && len(p.Instances) == 0 {
		out = append(out, "no instance is wanted")
	} else if p.Desired == 0 {
		out = append(out, "on its way out")
	}
	if p.Held != "" {
		out = append(out, "held: "+p.Held)
	}
	for _, o := range p.Overrides {
		if note := o.note(); note != "" {
			out = append(out, note)
		}
	}
	return out
}

// note is the override of a field as a remark on its program; that something
// is down is told on its instances.
func (o overrideView) note() string {
	switch o.Field {
	case spec.FieldAdmin:
		return ""
	case spec.FieldProgram:
		return "created, in no file"
	}
	note := fmt.Sprintf("%s set to %s", o.Field, o.Value)
	if strings.Contains(string(o.Value), `"***"`) { // hidden: nobody can say whether it is another
		return note
	}
	if string(o.Replaced) == string(o.Value) {
		return note + " (as in the file)"
	}
	if len(o.Replaced) > 0 && string(o.Replaced) != "null" {
		note += fmt.Sprintf(" (file: %s)", o.Replaced)
	}
	return note
}

// notes say what is unusual about an instance.
func (i instanceStatus) notes(overrides []overrideView, index int, now time.Time) []string {
	var out []string
	if i.AdminState == "down" {
		out = append(out, downNote(overrides, index))
	}
	if e := i.LastExit; e != nil && e.Error != "" && !alive[i.State] {
		out = append(out, "cannot start: "+e.Error)
	}
	if i.Finished != "" {
		out = append(out, i.Finished)
	}
	if i.Waits != "" {
		out = append(out, "waits for "+i.Waits)
	}
	if i.Flapping {
		out = append(out, "flapping")
	}
	if i.NextStart != 0 {
		if left := epoch(i.NextStart).Sub(now); left > 0 {
			out = append(out, "starts in "+span(left))
		} else {
			out = append(out, "about to start")
		}
	}
	if i.OutputFault != "" {
		out = append(out, i.OutputFault)
	}
	if i.Dropped > 0 {
		out = append(out, fmt.Sprintf("%d bytes of output dropped", i.Dropped))
	}
	var pending, drift []string
	for _, key := range slices.Sorted(maps.Keys(i.Pending)) {
		pending = append(pending, key+" "+plainJSON(i.Pending[key]))
	}
	for _, key := range slices.Sorted(maps.Keys(i.Drift)) {
		drift = append(drift, plainJSON(i.Drift[key])) // it names the key itself
	}
	return append(out, append(listed("pending: ", pending), listed("drift: ", drift)...)...)
}

// listed is one note of several parts, or none.
func listed(what string, parts []string) []string {
	if len(parts) == 0 {
		return nil
	}
	return []string{what + strings.Join(parts, ", ")}
}

// plainJSON is a JSON string as its text, and anything else as it is written.
func plainJSON(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

// downNote says that an instance is down, and why if somebody said.
func downNote(overrides []overrideView, index int) string {
	note := "down"
	for _, o := range overrides {
		if o.Field == spec.FieldAdmin && (o.Instance == nil || *o.Instance == index) && o.Reason != "" {
			note = "down: " + o.Reason
		}
	}
	return note
}
