package specfile_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/procnanny/procnanny/spec"
	"github.com/procnanny/procnanny/spec/specfile"
)

// manyPrograms is a CUE file with n programs, all different, as JSON text.
func manyPrograms(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"programs": {`)
	for i := range n {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, `"prog%d": {"command": "/usr/bin/env", "args": ["sh", "-c", "exec sleep 3600 %d"], "instances": 1, "nice": 5, "ionice": 6, "dir": "/tmp", `+
			`"umask": "022", "env": {"A": "x%d"}, "limits": {"nofile": 1024}, "restart": {"delay": "1s"}, "stop": {"timeout": "5s"}, "success_exit": [0], "uid": 5}`, i, i, i)
	}
	b.WriteString("}}\n")
	return []byte(b.String())
}

func BenchmarkEvaluate(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			req := spec.EvalRequest{Source: spec.Source{Files: map[string][]byte{"a.cue": manyPrograms(n)}}}
			for b.Loop() {
				res := specfile.Evaluate(req, testHost)
				if len(res.Problems) > 0 || len(res.Spec.Programs) != n {
					b.Fatalf("problems: %v", res.Problems)
				}
				if _, err := json.Marshal(res); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
