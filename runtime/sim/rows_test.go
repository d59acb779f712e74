package sim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/procnanny/procnanny/reconcile"
)

// unreachable are the rows of the tables that no history can take today, and
// why. They stand in the tables so that those are total.
var unreachable = map[string]string{
	"new + preflight":       "what is new is started or settled by the first look, before anything is asked",
	"starting + drained":    "the answer comes to the control that asked, to which it is stopping or has ended",
	"running + drained":     "the same",
	"backoff + drained":     "an end that was ordered has no delay after it",
	"new toward cycle":      "only what lives is cycled",
	"stopping toward cycle": "the same: it is on its way already",
	"exited toward cycle":   "the same",
	"backoff toward cycle":  "the same",
	"new toward rest":       "only what has ended rests",
	"starting toward rest":  "the same",
	"running toward rest":   "the same",
	"backoff toward rest":   "what rests does not wait for a start",
}

func (c *Coverage) add(o *Coverage) {
	for s, row := range o.Facts {
		for k, n := range row {
			c.fact(s, k)
			c.Facts[s][k] += n - 1
		}
	}
	for s, row := range o.Verbs {
		for g, n := range row {
			c.verb(s, g)
			c.Verbs[s][g] += n - 1
		}
	}
}

// missing lists the rows that can be, by the tables as they are printed, and
// that were not taken.
func (c *Coverage) missing() []string {
	var tables struct {
		Verbs, Moves map[string]map[string]string
	}
	if err := json.Unmarshal([]byte(reconcile.StatesJSON()), &tables); err != nil {
		return []string{err.Error()}
	}
	var out []string
	for s := reconcile.StateNew; s < reconcile.StateImpossible; s++ {
		for k := reconcile.FactStartOrdered; k <= reconcile.FactDrained; k++ {
			if to := tables.Moves[k.String()][s.String()]; c.Facts[s][k] == 0 && to != "–" {
				out = append(out, fmt.Sprintf("%s + %s", s, k))
			}
		}
		for g := reconcile.GoalUp; g <= reconcile.GoalGone; g++ {
			if c.Verbs[s][g] == 0 {
				out = append(out, fmt.Sprintf("%s toward %s", s, g))
			}
		}
	}
	slices.SortFunc(out, strings.Compare)
	return out
}

// reachable are the rows that were not taken and can be.
func reachable(c *Coverage) []string {
	return slices.DeleteFunc(c.missing(), func(row string) bool { return unreachable[row] != "" })
}
