package main

import (
	"fmt"
	"strings"
	"testing"
)

// The last events are found without reading all that there are.
func TestTheLastEventsOfMany(t *testing.T) {
	for _, kept := range []int{0, 1, 2, 7, 100, 1_000_000} {
		f := newFake(t)
		asked := 0
		f.on("events", func(args map[string]any) (any, error) {
			asked++
			since, limit, topic := int(args["since"].(uint64)), args["limit"].(int), args["topic"]
			list, next := []any{}, since
			for seq := since + 1; seq <= kept && seq <= since+limit; seq++ {
				next = seq
				if is := []string{"state.web.0", "config"}[seq%2]; topic == nil || topic == is {
					list = append(list, map[string]any{"event": fmt.Sprint("n", seq), "topic": is, "seq": seq, "time": 0.0})
				}
			}
			return map[string]any{"events": list, "next": uint64(next), "more": next < kept}, nil
		})
		for _, c := range []struct {
			line string
			want int
		}{{"events", min(kept, 100)}, {"events --limit 3", min(kept, 3)}, {"events config --limit 2", min((kept+1)/2, 2)}} {
			asked = 0
			s := f.run(strings.Fields(c.line)...)
			out, errOut, code := s.out.String(), s.err.String(), s.code
			if code != 0 || strings.Count(out, "\n") != c.want {
				t.Errorf("%s of %d: %d lines, code %d, %s", c.line, kept, strings.Count(out, "\n"), code, errOut)
			}
			if kept > 0 && c.line != "events config --limit 2" && !strings.HasSuffix(out, fmt.Sprintf("n%d\n", kept)) {
				t.Errorf("%s of %d ends with %q", c.line, kept, out[max(0, len(out)-30):])
			}
			if asked > 60 {
				t.Errorf("%s of %d asks %d times", c.line, kept, asked)
			}
		}
	}
}
